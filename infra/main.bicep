// The Defender alert export of one trust: the app, its state, its way into the
// trust's workspace, and what watches over it. Deploying it again changes
// nothing that is as described here.
//
//   app -> storage (position, sealed sign-in), vault (session key)
//   app -> data collection rule -> two tables in the trust's own workspace
//   workspace -> functions, workbook, alarms, Sentinel rule

targetScope = 'resourceGroup'

// ---- Required

@description('Tenant that holds the Defender portal and the exporter\'s app registration (Directory ID).')
@minLength(36)
@maxLength(36)
param defenderTenantId string

@description('Application (client) ID of the exporter\'s public client in that tenant.')
@minLength(36)
@maxLength(36)
param defenderClientAppId string

@description('Short name of the trust; written on every row and on every alert.')
@minLength(1)
@maxLength(60)
param trustName string

@description('Device groups whose alerts may leave the central tenant, spelled as in Defender. [\'*\'] lets every group through: only for a tenant that is the trust\'s own.')
@minLength(1)
param deviceGroups array

@description('Name of the trust\'s Log Analytics workspace. It must exist; neither it nor its tier or retention is changed.')
@minLength(4)
@maxLength(63)
param workspaceName string

@description('Who is mailed by every alarm. May be empty if existingActionGroupIds is not.')
param alertEmailAddresses array

// ---- Where things are

@description('Region of the app.')
param location string = resourceGroup().location

@description('Resource group of the workspace.')
param workspaceResourceGroup string = resourceGroup().name

@description('Subscription of the workspace.')
param workspaceSubscriptionId string = subscription().subscriptionId

@description('Name of the function app. The Functions host tells apps apart by the first 32 characters.')
@minLength(2)
@maxLength(32)
param functionAppName string = 'dae-${uniqueString(resourceGroup().id)}'

@description('Name of the storage account.')
@minLength(3)
@maxLength(24)
param storageAccountName string = 'dae${uniqueString(resourceGroup().id)}'

@description('Name of the key vault.')
@minLength(3)
@maxLength(24)
param keyVaultName string = 'dae-${uniqueString(resourceGroup().id)}'

@description('Tags for everything that is created.')
param tags object = {}

// ---- How it runs

@description('Kind of plan. Consumption (Y1) is retired by Microsoft on 30 September 2028 and reaches no private network.')
@allowed(['FlexConsumption', 'Consumption', 'Premium', 'Dedicated'])
param planKind string = 'FlexConsumption'

@description('Size of a Premium plan.')
@allowed(['EP1', 'EP2', 'EP3'])
param premiumSku string = 'EP1'

@description('Size of a Dedicated plan.')
@allowed(['B1', 'B2', 'B3', 'S1', 'S2', 'S3', 'P0v3', 'P1v3', 'P2v3', 'P3v3'])
param dedicatedSku string = 'B1'

@description('Memory of a Flex Consumption instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 512

@description('Keeps one Flex Consumption instance warm for the timer. Costs more; runs start without delay.')
param keepTimerReady bool = false

@description('Minutes between two runs.')
@allowed([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30])
param runEveryMinutes int = 5

@description('Redundancy of the storage account. Choose Standard_LRS in a region without zones, or for an account that has it already.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageSku string = 'Standard_ZRS'

@description('True only while an app that still holds a connection string uses the same storage account.')
param allowSharedKeyAccess bool = false

@description('Days a deleted log blob or quarantined row can be brought back.')
@minValue(1)
@maxValue(365)
param deletedBlobRetentionDays int = 30

@description('Blob name of the package for plans other than Flex Consumption.')
param packageBlobName string = 'defender-alert-export.zip'

@description('Object id of whoever uploads the package; gets Blob Data Contributor on the package container alone. Empty: grant nothing.')
param deployerPrincipalId string = ''

@description('What deployerPrincipalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param deployerPrincipalType string = 'User'

// ---- Network

@description('Existing subnet for outgoing traffic, delegated to Microsoft.App/environments (Flex Consumption) or Microsoft.Web/serverFarms (Premium, Dedicated). Empty: none. Consumption cannot use one.')
param integrationSubnetId string = ''

@description('Existing subnet for private endpoints of storage and vault. Empty: none. Needs integrationSubnetId.')
param privateEndpointSubnetId string = ''

@description('Resource id of the resource group with the privatelink zones. Empty: a policy links them.')
param privateDnsZoneResourceGroupId string = ''

// ---- Where alerts go

@description('LogsIngestion: a data collection rule. LogAnalytics: the HTTP Data Collector API, retired by Microsoft on 14 September 2026. EventHub: an event hub. StorageBlob: files in a container, one an hour. S3: files in an S3 bucket. Several with ; between them, as LogsIngestion;StorageBlob: every alert goes to each. Where none of them is in the workspace, heartbeats go to the data collection rule.')
@minLength(2)
param targetType string = 'LogsIngestion'

@description('Name of the alert table, without _CL.')
@minLength(1)
@maxLength(40)
param tableName string = 'DefenderRawAlert'

@description('True when the workspace has a classic table {tableName}_CL made by the predecessor. It is left as it is; new rows go to {tableName}V2_CL, and the function DefenderRawAlert reads both.')
param classicAlertTable bool = false

@description('True when the workspace has a classic table Heartbeat_CL made by the predecessor. It is left as it is; new rows go to HeartbeatV2_CL.')
param classicHeartbeatTable bool = false

@description('Shared key of the workspace, for targetType LogAnalytics. Empty: it is read from the workspace.')
@secure()
param workspaceKey string = ''

@description('Namespace of the existing event hub, for targetType EventHub.')
param eventHubNamespace string = ''

@description('The existing event hub, for targetType EventHub.')
param eventHubName string = ''

@description('Resource group of the event hub.')
param eventHubResourceGroup string = resourceGroup().name

@description('Subscription of the event hub.')
param eventHubSubscriptionId string = subscription().subscriptionId

@description('Shared access policy to send with. Empty, and better: the app\'s own identity sends.')
param eventHubAccessKeyName string = ''

@description('Whether that policy belongs to the hub or to its whole namespace.')
@allowed(['EventHub', 'Namespace'])
param eventHubAccessKeyType string = 'EventHub'

@description('Key of that policy.')
@secure()
param eventHubAccessKey string = ''

@description('Container for targetType StorageBlob. It is made when missing.')
@minLength(3)
@maxLength(63)
param alertContainerName string = 'defender-alerts'

@description('Blob service address of another existing storage account, such as https://lake.blob.core.windows.net, for targetType StorageBlob. Empty: the exporter\'s own account.')
param alertBlobServiceUri string = ''

@description('Resource group of that other storage account.')
param alertStorageResourceGroup string = resourceGroup().name

@description('Subscription of that other storage account.')
param alertStorageSubscriptionId string = subscription().subscriptionId

@description('Existing bucket, for targetType S3.')
param s3Bucket string = ''

@description('Region of the bucket, such as eu-west-2.')
param s3Region string = ''

@description('Address of an S3 server that is not Amazon\'s. Empty: Amazon\'s.')
param s3Endpoint string = ''

@description('Folders in the bucket above the table\'s own.')
param s3Prefix string = ''

@description('Access key of an IAM user that may put objects there and nothing else.')
param s3AccessKeyId string = ''

@description('Secret of that access key. Empty: what the key vault holds already is kept.')
@secure()
param s3SecretAccessKey string = ''

// ---- What the exporter does. Null leaves the exporter's own default.

@description('Also alerts of devices in no group.')
param allowUngrouped bool?

@description('What happens to an alert of another device group: withhold it and go on, or halt until a person resumes.')
@allowed(['withhold', 'halt'])
param scopeGuard string?

@description('API the alerts are read from. Graph needs the permission SecurityAlert.Read.All of Microsoft Graph.')
@allowed(['Defender', 'Graph'])
param alertSource string?

@description('A row for every version of an alert (true) or only for its first (false).')
param exportUpdates bool?

@description('Heartbeat rows. Switching them off switches off every alarm but that on rejected rows.')
param sendHeartbeat bool?

@description('False: every run reads only the last queryDepthMinutes, as the predecessor did, and loses what a pause misses.')
param useLastSavedTime bool?

@description('Minutes read when useLastSavedTime is false.')
@minValue(1)
@maxValue(1440)
param queryDepthMinutes int?

@description('Hours read by the first run ever.')
@minValue(1)
@maxValue(4320)
param initialLookbackHours int?

@description('Seconds a window stays behind now.')
@minValue(0)
@maxValue(3600)
param settleSeconds int?

@description('Minutes each run reads again for late alerts.')
@minValue(0)
@maxValue(1440)
param overlapMinutes int?

@description('Hours that the daily comparison with Defender reaches back. 0 switches it off.')
@minValue(0)
@maxValue(168)
param auditHours int?

@description('Alerts asked for in one call.')
@minValue(50)
@maxValue(10000)
param pageSize int?

@description('This trust\'s share of the 1,500 calls an hour that all trusts have together: 1,500 divided by the number of trusts. From 18 on Defender is asked every 5 minutes, with fewer less often.')
@minValue(1)
@maxValue(1500)
param callsPerHour int?

@description('Where the sealed sign-in is kept.')
@allowed(['Table', 'Entity'])
param sessionStore string?

@description('Whether a sign-in starts only when a person asks (portal), or the timer starts one and logs the code (log).')
@allowed(['portal', 'log'])
param signInPrompt string?

@description('Where log lines go.')
@allowed(['logging', 'blob', 'print'])
param loggingType string?

@description('1 logs everything, 5 the least.')
@minValue(1)
@maxValue(5)
param loggingLevel int?

@description('Table with the saved position.')
@minLength(3)
@maxLength(63)
param stateTableName string = 'fnautomationmdeCachedValues'

@description('Container with log blobs, quarantined rows and whole alerts.')
@minLength(3)
@maxLength(63)
param stateContainerName string = 'functionlogging'

@description('Sign-in address of another cloud.')
param identityAuthority string = ''

@description('Defender address of another cloud or region.')
param defenderEndpoint string = ''

@description('Graph address of another cloud.')
param graphEndpoint string = ''

@description('Data Collector address of another cloud.')
param logAnalyticsEndpoint string = ''

@description('Event Hubs address of another cloud.')
param eventHubEndpoint string = ''

@description('Settings of an app made by hand or by the predecessor that are to stay. What this file sets wins.')
@secure()
param additionalAppSettings object = {}

// ---- Secrets

// Random by itself: 42 hexadecimal digits and A= are 32 bytes in base64, with
// some 160 random bits. The deployment script passes 32 bytes of its own.
@description('Key that seals the stored sign-in: 32 bytes in base64. Used only if the vault holds none yet; a redeploy never changes it.')
@secure()
@minLength(44)
@maxLength(44)
param sessionKey string = '${take(replace('${newGuid()}${newGuid()}', '-', ''), 42)}A='

@description('True after a rotation, while the secret session-key-previous must still open the stored sign-in.')
param usePreviousSessionKey bool = false

@description('True when a deleted vault of this name is to be brought back with its secrets.')
param recoverDeletedVault bool = false

// ---- Monitoring, each item switched by itself

@description('Action groups the trust has already; called as well.')
param existingActionGroupIds array = []

@description('Alarm: no heartbeat from any exporter.')
param alertOnSilentTable bool = true

@description('Alarm: no heartbeat from this trust, while others in the same workspace send theirs.')
param alertOnSilentTrust bool = true

@description('Alarm: a run did not end well.')
param alertOnStatus bool = true

@description('Alarm, again each day: for a day this trust has delivered nothing, whatever the reason.')
param alertOnNoDelivery bool = true

@description('Alarm: Azure Monitor could not store rows it had taken.')
param alertOnRejectedRows bool = true

@description('Alarm: the sign-in ends soon.')
param alertOnSignIn bool = true

@description('Alarm: a target refused alerts and they were set aside, unseen by any analyst.')
param alertOnQuarantine bool = true

@description('Alarm: runs end well, and their NextStep asks for something all the same.')
param alertOnNextStep bool = true

@description('Alarm: runs end well, and the daily audit has not for two days. Not where audits are switched off.')
param alertOnAudit bool = true

@description('Minutes without a heartbeat, or without a good one, that are too many. Never fewer than three runs take.')
@allowed([15, 30, 45, 60, 120])
param silenceMinutes int = 30

@description('Days since the sign-in was last renewed that are too many. Microsoft ends a sign-in not used for 90 days.')
@minValue(1)
@maxValue(89)
param signInIdleDays int = 60

@description('Functions DefenderRawAlert, DefenderExportHeartbeat, DefenderExportAudit and DefenderExportRecordHead. The workbook brings them too.')
param deployFunctions bool = true

@description('The workbook.')
param deployWorkbook bool = true

@description('Sentinel rule: an alert for each Defender alert, an incident for each Defender incident. Needs Microsoft Sentinel on the workspace; leave it off where the Defender XDR connector shows the same devices.')
param deploySentinelRule bool = true

@description('Application Insights for the app\'s own log.')
param deployTelemetry bool = true

@description('Rejected rows go to DCRLogErrors in the workspace.')
param logRejectedRows bool = true

// ---- What follows from them

var usesRule = !contains(toLower(targetType), 'loganalytics') || contains(toLower(targetType), 'logsingestion')

// A classic table must not get a new schema while the old API still writes it.
var alertTable = classicAlertTable && usesRule ? '${tableName}V2_CL' : '${tableName}_CL'
var heartbeatTable = classicHeartbeatTable && usesRule ? 'HeartbeatV2_CL' : 'Heartbeat_CL'
var alertTables = classicAlertTable && usesRule ? [alertTable, '${tableName}_CL'] : [alertTable]
var heartbeatTables = classicHeartbeatTable && usesRule ? [heartbeatTable, 'Heartbeat_CL'] : [heartbeatTable]

// With these settings the exporter compares nothing: docs/completeness.md.
var audits = (auditHours ?? 72) > 0 && (useLastSavedTime ?? true)

// ---- The tables, then what fills them and what watches over them

module tables 'modules/tables.bicep' = if (usesRule) {
  name: 'dae-tables-${uniqueString(resourceGroup().id, functionAppName)}'
  scope: resourceGroup(workspaceSubscriptionId, workspaceResourceGroup)
  params: { workspaceName: workspaceName, alertTable: alertTable, heartbeatTable: heartbeatTable }
}

module exporter 'modules/exporter.bicep' = {
  name: 'dae-exporter'
  dependsOn: [tables]
  params: {
    place: {
      functionAppName: functionAppName, location: location, tags: tags
      planKind: planKind, premiumSku: premiumSku, dedicatedSku: dedicatedSku, packageBlobName: packageBlobName
      instanceMemoryMB: instanceMemoryMB, keepTimerReady: keepTimerReady, runEveryMinutes: runEveryMinutes, deployTelemetry: deployTelemetry
      storageAccountName: storageAccountName, storageSku: storageSku, allowSharedKeyAccess: allowSharedKeyAccess
      stateTableName: stateTableName, stateContainerName: stateContainerName, deletedBlobRetentionDays: deletedBlobRetentionDays
      keyVaultName: keyVaultName, recoverDeletedVault: recoverDeletedVault
      deployerPrincipalId: deployerPrincipalId, deployerPrincipalType: deployerPrincipalType
      integrationSubnetId: integrationSubnetId, privateEndpointSubnetId: privateEndpointSubnetId, privateDnsZoneResourceGroupId: privateDnsZoneResourceGroupId
    }
    targets: {
      targetType: targetType, usesRule: usesRule, logRejectedRows: logRejectedRows, logAnalyticsEndpoint: logAnalyticsEndpoint
      workspaceName: workspaceName, workspaceResourceGroup: workspaceResourceGroup, workspaceSubscriptionId: workspaceSubscriptionId
      tableName: tableName, alertTable: alertTable, heartbeatTable: heartbeatTable
      eventHubNamespace: eventHubNamespace, eventHubName: eventHubName, eventHubEndpoint: eventHubEndpoint
      eventHubResourceGroup: eventHubResourceGroup, eventHubSubscriptionId: eventHubSubscriptionId
      eventHubAccessKeyName: eventHubAccessKeyName, eventHubAccessKeyType: eventHubAccessKeyType
      alertContainerName: alertContainerName, alertBlobServiceUri: alertBlobServiceUri
      alertStorageResourceGroup: alertStorageResourceGroup, alertStorageSubscriptionId: alertStorageSubscriptionId
      s3Bucket: s3Bucket, s3Region: s3Region, s3Endpoint: s3Endpoint, s3Prefix: s3Prefix, s3AccessKeyId: s3AccessKeyId
    }
    reading: {
      defenderTenantId: defenderTenantId, defenderClientAppId: defenderClientAppId, identityAuthority: identityAuthority
      defenderEndpoint: defenderEndpoint, graphEndpoint: graphEndpoint, alertSource: alertSource
      trustName: trustName, deviceGroups: deviceGroups, allowUngrouped: allowUngrouped, scopeGuard: scopeGuard
      exportUpdates: exportUpdates, sendHeartbeat: sendHeartbeat, useLastSavedTime: useLastSavedTime, queryDepthMinutes: queryDepthMinutes
      initialLookbackHours: initialLookbackHours, settleSeconds: settleSeconds, overlapMinutes: overlapMinutes, auditHours: auditHours
      pageSize: pageSize, callsPerHour: callsPerHour, loggingType: loggingType, loggingLevel: loggingLevel
      sessionStore: sessionStore, signInPrompt: signInPrompt, usePreviousSessionKey: usePreviousSessionKey
    }
    keys: {
      sessionKey: sessionKey, workspaceKey: workspaceKey, eventHubAccessKey: eventHubAccessKey, s3SecretAccessKey: s3SecretAccessKey
      additionalAppSettings: additionalAppSettings
    }
  }
}

// Beside the exporter and not after it: people are called even where it could
// not be deployed.
module monitoring 'modules/monitoring.bicep' = {
  name: 'dae-monitoring'
  dependsOn: [tables]
  params: {
    workspaceName: workspaceName
    workspaceResourceGroup: workspaceResourceGroup
    workspaceSubscriptionId: workspaceSubscriptionId
    alertTables: alertTables
    heartbeatTables: heartbeatTables
    classicHeartbeats: !usesRule
    ruleName: '${functionAppName}-rule'
    functionAppName: functionAppName
    trustName: trustName
    runEveryMinutes: runEveryMinutes
    sendsHeartbeats: sendHeartbeat ?? true
    audits: audits
    logsRejectedRows: usesRule && logRejectedRows
    emailAddresses: alertEmailAddresses
    existingActionGroupIds: existingActionGroupIds
    alarms: {
      alertOnSilentTable: alertOnSilentTable, alertOnSilentTrust: alertOnSilentTrust, silenceMinutes: silenceMinutes
      alertOnStatus: alertOnStatus, alertOnNoDelivery: alertOnNoDelivery
      alertOnRejectedRows: alertOnRejectedRows, alertOnQuarantine: alertOnQuarantine
      alertOnSignIn: alertOnSignIn, signInIdleDays: signInIdleDays, alertOnNextStep: alertOnNextStep, alertOnAudit: alertOnAudit
    }
    deployFunctions: deployFunctions
    deployWorkbook: deployWorkbook
    deploySentinelRule: deploySentinelRule
    tags: tags
  }
}

// ---- What to do next

@description('Page where a person signs in and sees what the exporter does. Needs the app\'s function key.')
output portalUrl string = exporter.outputs.portalUrl

@description('The app.')
output functionAppName string = exporter.outputs.appName

@description('Container the package of the other plans is uploaded to.')
output packageContainerUrl string = exporter.outputs.packageContainerUrl

@description('Table alerts are in.')
output alertTable string = alertTable

@description('Table heartbeats are in.')
output heartbeatTable string = heartbeatTable

@description('When the exporter runs.')
output timerSchedule string = exporter.outputs.timerSchedule

@description('What is left to do.')
output nextSteps array = exporter.outputs.nextSteps
