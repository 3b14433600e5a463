// The exporter itself: storage and vault, the app, its roles, its ways out, and
// its settings, which come last. What watches over it is monitoring.bicep.
//
// It takes the parameters of main.bicep under their own names, in four objects.
// Each member is declared, so that a name that is misspelt does not compile.

type PlanKind = 'FlexConsumption' | 'Consumption' | 'Premium' | 'Dedicated'
type PrincipalKind = 'User' | 'Group' | 'ServicePrincipal'

type Place = {
  functionAppName: string
  location: string
  tags: object
  planKind: PlanKind
  premiumSku: string
  dedicatedSku: string
  instanceMemoryMB: int
  keepTimerReady: bool
  runEveryMinutes: int
  packageBlobName: string
  deployTelemetry: bool
  storageAccountName: string
  storageSku: string
  allowSharedKeyAccess: bool
  deletedBlobRetentionDays: int
  stateTableName: string
  stateContainerName: string
  keyVaultName: string
  recoverDeletedVault: bool
  deployerPrincipalId: string
  deployerPrincipalType: PrincipalKind
  integrationSubnetId: string
  privateEndpointSubnetId: string
  privateDnsZoneResourceGroupId: string
}

@description('Where it runs, and on what.')
param place Place

type Targets = {
  targetType: string
  workspaceName: string
  workspaceResourceGroup: string
  workspaceSubscriptionId: string
  tableName: string
  alertTable: string
  heartbeatTable: string
  usesRule: bool
  logRejectedRows: bool
  logAnalyticsEndpoint: string
  eventHubNamespace: string
  eventHubName: string
  eventHubResourceGroup: string
  eventHubSubscriptionId: string
  eventHubAccessKeyName: string
  eventHubAccessKeyType: string
  eventHubEndpoint: string
  alertContainerName: string
  alertBlobServiceUri: string
  alertStorageResourceGroup: string
  alertStorageSubscriptionId: string
  s3Bucket: string
  s3Region: string
  s3Endpoint: string
  s3Prefix: string
  s3AccessKeyId: string
}

@description('Where alerts go.')
param targets Targets

type Reading = {
  defenderTenantId: string
  defenderClientAppId: string
  trustName: string
  deviceGroups: array
  allowUngrouped: bool?
  scopeGuard: string?
  alertSource: string?
  exportUpdates: bool?
  sendHeartbeat: bool?
  useLastSavedTime: bool?
  queryDepthMinutes: int?
  initialLookbackHours: int?
  settleSeconds: int?
  overlapMinutes: int?
  auditHours: int?
  pageSize: int?
  callsPerHour: int?
  sessionStore: string?
  signInPrompt: string?
  loggingType: string?
  loggingLevel: int?
  identityAuthority: string
  defenderEndpoint: string
  graphEndpoint: string
  usePreviousSessionKey: bool
}

@description('What the exporter does; null leaves its own default.')
param reading Reading

@secure()
type Keys = {
  sessionKey: string
  workspaceKey: string
  eventHubAccessKey: string
  s3SecretAccessKey: string
  additionalAppSettings: object
}

@description('Keys, and settings of an app that are to stay.')
param keys Keys

// ---- Names and choices that follow

var packageContainerName = 'deployments'
var ruleName = '${place.functionAppName}-rule'
var isFlex = place.planKind == 'FlexConsumption'
var isPrivate = !empty(place.privateEndpointSubnetId)
var named = toLower(targets.targetType)
var usesCollector = contains(named, 'loganalytics')
var usesHub = contains(named, 'eventhub')
var usesHubPolicy = usesHub && !empty(targets.eventHubAccessKeyName)
var usesContainer = contains(named, 'storageblob')
var usesBucket = contains(named, 's3')
var usesOwnAccount = empty(targets.alertBlobServiceUri)
var alertBlobHost = replace(targets.alertBlobServiceUri, 'https://', '')
var alertAccountName = usesOwnAccount ? place.storageAccountName : substring(alertBlobHost, 0, indexOf(alertBlobHost, '.'))

// Trusts must not all call at the same second. Bicep has no number from a hash:
// three letters of uniqueString, each worth 0 to 31, make one of 0 to 32767.
var hashAlphabet = 'abcdefghijklmnopqrstuvwxyz234567'
var scopeHash = uniqueString(resourceGroup().id, place.functionAppName)
var secondHash = indexOf(hashAlphabet, substring(scopeHash, 0, 1)) * 1024 + indexOf(hashAlphabet, substring(scopeHash, 1, 1)) * 32 + indexOf(hashAlphabet, substring(scopeHash, 2, 1))
var minuteHash = indexOf(hashAlphabet, substring(scopeHash, 3, 1)) * 1024 + indexOf(hashAlphabet, substring(scopeHash, 4, 1)) * 32 + indexOf(hashAlphabet, substring(scopeHash, 5, 1))
var timerSchedule = '${secondHash % 60} ${minuteHash % place.runEveryMinutes}-59/${place.runEveryMinutes} * * * *'

// ---- Resources

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: targets.workspaceName
  scope: resourceGroup(targets.workspaceSubscriptionId, targets.workspaceResourceGroup)
}

module storage 'storage.bicep' = {
  name: 'dae-storage'
  params: {
    location: place.location
    accountName: place.storageAccountName
    skuName: place.storageSku
    tableName: place.stateTableName
    containerName: place.stateContainerName
    packageContainerName: packageContainerName
    allowSharedKeyAccess: place.allowSharedKeyAccess
    publicNetworkAccess: !isPrivate
    deletedBlobRetentionDays: place.deletedBlobRetentionDays
    tags: place.tags
  }
}

module vault 'vault.bicep' = {
  name: 'dae-vault'
  params: {
    location: place.location
    vaultName: place.keyVaultName
    recoverDeletedVault: place.recoverDeletedVault
    publicNetworkAccess: !isPrivate
    sessionKey: keys.sessionKey
    storeWorkspaceKey: usesCollector
    workspaceKey: !usesCollector ? '' : (empty(keys.workspaceKey) ? workspace.listKeys().primarySharedKey : keys.workspaceKey)
    storeEventHubKey: usesHubPolicy
    eventHubKey: keys.eventHubAccessKey
    storeS3Secret: usesBucket && !empty(keys.s3SecretAccessKey)
    s3Secret: keys.s3SecretAccessKey
    tags: place.tags
  }
}

module site 'function-app.bicep' = {
  name: 'dae-app'
  params: {
    location: place.location
    appName: place.functionAppName
    planName: '${place.functionAppName}-plan'
    planKind: place.planKind
    premiumSku: place.premiumSku
    dedicatedSku: place.dedicatedSku
    instanceMemoryMB: place.instanceMemoryMB
    keepTimerReady: place.keepTimerReady
    packageContainerUrl: storage.outputs.packageContainerUrl
    integrationSubnetId: place.integrationSubnetId
    tags: place.tags
  }
}

module roles 'roles.bicep' = {
  name: 'dae-roles'
  params: {
    principalId: site.outputs.principalId
    storageAccountName: storage.outputs.accountName
    vaultName: vault.outputs.vaultName
    packageContainerName: packageContainerName
    deployerPrincipalId: place.deployerPrincipalId
    deployerPrincipalType: place.deployerPrincipalType
  }
}

module dataCollection 'data-collection.bicep' = if (targets.usesRule) {
  name: 'dae-data-collection'
  params: {
    location: workspace.location
    ruleName: ruleName
    workspaceId: workspace.id
    alertStream: targets.tableName
    alertTable: targets.alertTable
    heartbeatTable: targets.heartbeatTable
    principalId: site.outputs.principalId
    logErrors: targets.logRejectedRows
    tags: place.tags
  }
}

module eventHub 'event-hub.bicep' = if (usesHub && !usesHubPolicy) {
  name: 'dae-event-hub-${uniqueString(resourceGroup().id, place.functionAppName)}'
  scope: resourceGroup(targets.eventHubSubscriptionId, targets.eventHubResourceGroup)
  params: {
    namespaceName: targets.eventHubNamespace
    hubName: targets.eventHubName
    principalId: site.outputs.principalId
  }
}

module alertContainer 'alert-container.bicep' = if (usesContainer) {
  name: 'dae-alert-container-${uniqueString(resourceGroup().id, place.functionAppName)}'
  scope: resourceGroup(usesOwnAccount ? subscription().subscriptionId : targets.alertStorageSubscriptionId, usesOwnAccount ? resourceGroup().name : targets.alertStorageResourceGroup)
  dependsOn: [storage]
  params: {
    accountName: alertAccountName
    containerName: targets.alertContainerName
    principalId: site.outputs.principalId
  }
}

module privateNetwork 'network.bicep' = if (isPrivate) {
  name: 'dae-network'
  params: {
    location: place.location
    namePrefix: place.functionAppName
    subnetId: place.privateEndpointSubnetId
    dnsZoneResourceGroupId: place.privateDnsZoneResourceGroupId
    storageAccountId: storage.outputs.accountId
    vaultId: vault.outputs.vaultId
    tags: place.tags
  }
}

module telemetry 'telemetry.bicep' = if (place.deployTelemetry) {
  name: 'dae-telemetry'
  params: {
    location: place.location
    componentName: '${place.functionAppName}-log'
    workspaceId: workspace.id
    principalId: site.outputs.principalId
    tags: place.tags
  }
}

// ---- Settings of the app

var secretBase = '@Microsoft.KeyVault(SecretUri=${vault.outputs.vaultUri}secrets/'

var hostSettings = {
  AzureWebJobsStorage__accountName: storage.outputs.accountName
  AzureWebJobsStorage__credential: 'managedidentity'
  APPLICATIONINSIGHTS_CONNECTION_STRING: place.deployTelemetry ? telemetry!.outputs.connectionString : null
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: place.deployTelemetry ? 'Authorization=AAD' : null
  // Flex Consumption refuses these four; the other plans need them.
  FUNCTIONS_EXTENSION_VERSION: isFlex ? null : '~4'
  FUNCTIONS_WORKER_RUNTIME: isFlex ? null : 'custom'
  WEBSITE_RUN_FROM_PACKAGE: isFlex ? null : '${storage.outputs.packageContainerUrl}/${place.packageBlobName}'
  WEBSITE_RUN_FROM_PACKAGE_BLOB_MI_RESOURCE_ID: isFlex ? null : 'SystemAssigned'
}

var exporterSettings = {
  FunctionConfigMDETenantId: reading.defenderTenantId
  FunctionConfigMDEClientAppId: reading.defenderClientAppId
  FunctionConfigTrustName: reading.trustName
  FunctionConfigDeviceGroups: join(reading.deviceGroups, ';')
  FunctionConfigScopeGuard: reading.?scopeGuard
  FunctionConfigAllowUngrouped: reading.?allowUngrouped
  FunctionConfigAlertSource: reading.?alertSource
  FunctionConfigExportUpdates: reading.?exportUpdates
  FunctionConfigUse_last_saved_time: reading.?useLastSavedTime
  FunctionConfigQueryDepth: reading.?queryDepthMinutes
  FunctionConfigInitialLookbackHours: reading.?initialLookbackHours
  FunctionConfigSettleSeconds: reading.?settleSeconds
  FunctionConfigOverlapMinutes: reading.?overlapMinutes
  FunctionConfigAuditHours: reading.?auditHours
  FunctionConfigPageSize: reading.?pageSize
  FunctionConfigCallsPerHour: reading.?callsPerHour
  FunctionConfigTimerSchedule: timerSchedule
  FunctionConfigStorageTable: place.stateTableName
  FunctionConfigStorageContainer: place.stateContainerName
  FunctionConfigSessionKey: '${secretBase}session-key)'
  FunctionConfigSessionKeyPrevious: reading.usePreviousSessionKey ? '${secretBase}session-key-previous)' : null
  FunctionConfigSessionStore: reading.?sessionStore
  FunctionConfigSignInPrompt: reading.?signInPrompt
  FunctionConfigLoggingType: reading.?loggingType
  FunctionConfigLoggingLevel: reading.?loggingLevel
  FunctionConfigSendHeartbeatToLogAnalytics: reading.?sendHeartbeat
  FunctionConfigIdentityAuthority: empty(reading.identityAuthority) ? null : reading.identityAuthority
  FunctionConfigDefenderEndpoint: empty(reading.defenderEndpoint) ? null : reading.defenderEndpoint
  FunctionConfigGraphEndpoint: empty(reading.graphEndpoint) ? null : reading.graphEndpoint
  FunctionConfigAlertTargetType: targets.targetType
  FunctionConfigLogAnalyticsTableName: targets.tableName
  FunctionConfigLogsIngestionEndpoint: targets.usesRule ? dataCollection!.outputs.endpoint : null
  FunctionConfigLogsIngestionRuleId: targets.usesRule ? dataCollection!.outputs.immutableId : null
  FunctionConfigLogAnalyticsWorkspaceId: usesCollector ? workspace.properties.customerId : null
  FunctionConfigLogAnalyticsKeyValue: usesCollector ? '${secretBase}workspace-key)' : null
  FunctionConfigLogAnalyticsEndpoint: usesCollector && !empty(targets.logAnalyticsEndpoint) ? targets.logAnalyticsEndpoint : null
  FunctionConfigEventHubNamespace: usesHub ? targets.eventHubNamespace : null
  FunctionConfigEventHubName: usesHub ? targets.eventHubName : null
  FunctionConfigEventHubEndpoint: usesHub && !empty(targets.eventHubEndpoint) ? targets.eventHubEndpoint : null
  FunctionConfigEventHubAccessKeyName: usesHubPolicy ? targets.eventHubAccessKeyName : null
  FunctionConfigEventHubAccessKeyType: usesHubPolicy ? targets.eventHubAccessKeyType : null
  FunctionConfigEventHubAccessKeyValue: usesHubPolicy ? '${secretBase}event-hub-key)' : null
  FunctionConfigAlertBlobContainer: usesContainer ? targets.alertContainerName : null
  FunctionConfigAlertBlobServiceUri: usesContainer && !usesOwnAccount ? targets.alertBlobServiceUri : null
  FunctionConfigS3Bucket: usesBucket ? targets.s3Bucket : null
  FunctionConfigS3Region: usesBucket && !empty(targets.s3Region) ? targets.s3Region : null
  FunctionConfigS3Endpoint: usesBucket && !empty(targets.s3Endpoint) ? targets.s3Endpoint : null
  FunctionConfigS3Prefix: usesBucket && !empty(targets.s3Prefix) ? targets.s3Prefix : null
  FunctionConfigS3AccessKeyId: usesBucket ? targets.s3AccessKeyId : null
  FunctionConfigS3SecretAccessKey: usesBucket ? '${secretBase}s3-secret-access-key)' : null
}

// A setting that is null is not written, so that its default lives in the
// exporter alone.
var ownSettings = toObject(filter(items(union(hostSettings, exporterSettings)), setting => (setting.value != null)), setting => setting.key, setting => string(setting.value))

module appSettings 'app-settings.bicep' = {
  name: 'dae-app-settings'
  dependsOn: [roles, eventHub, alertContainer, privateNetwork]
  params: {
    appName: site.outputs.appName
    settings: union(keys.additionalAppSettings, ownSettings)
  }
}

// ---- What main.bicep hands on

output appName string = site.outputs.appName
output portalUrl string = site.outputs.portalUrl
output packageContainerUrl string = storage.outputs.packageContainerUrl
output timerSchedule string = timerSchedule
output nextSteps array = [
  'Deploy the package to ${site.outputs.appName}; the deployment script does this by itself.'
  'Get the key of the portal page: in the Azure portal open the app ${site.outputs.appName}, Functions, portal, Function Keys, and copy the value of `default`. Keep it like a password.'
  'Open ${site.outputs.portalUrl}?code=KEY with that key in place of the word KEY, directly behind the = sign, and sign in there with the trust\'s export account. An error 401 means that the key is missing or wrong.'
  'After that the query DefenderExportHeartbeat (in the workspace, Logs) shows a row with Status Ok or CatchingUp within ${place.runEveryMinutes * 2} minutes; before it, rows with SignInNeeded. In the first hour it can still be empty: a new role takes up to 30 minutes, and the first rows of a new table 15 more. Nothing is lost meanwhile.'
  'Rows with ConfigInvalid that speak of a Key Vault reference: the role of the app on the key vault is still on its way. Wait half an hour. If they go on, open the app ${site.outputs.appName} in the Azure portal, Environment variables, press Pull reference values, then Overview, Restart; or run the deployment again.'
  'Until then alarms may send mails (no heartbeat, has delivered nothing for a day, needs attention). That shows that mails arrive; the first and the last are followed by one that says resolved, the other comes again a day later if there is still nothing.'
]
