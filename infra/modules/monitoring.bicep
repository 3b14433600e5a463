// What the trust's analysts query, and what calls people when alerts stop coming:
// functions, workbook, alarms, Sentinel rule.
//
// Nothing given to it may come from another module: what-if could then not tell
// what is to change in the workspace.

@description('Name of the workspace.')
param workspaceName string

@description('Resource group of the workspace.')
param workspaceResourceGroup string

@description('Subscription of the workspace.')
param workspaceSubscriptionId string

@description('Tables alerts are read from, the one that takes new rows first.')
param alertTables array

@description('Tables heartbeats are read from, the one that takes new rows first.')
param heartbeatTables array

@description('Whether new heartbeats have the classic names of columns, which end in _s and the like.')
param classicHeartbeats bool

@description('Name of the data collection rule whose rejected rows are watched.')
param ruleName string

@description('Name of the app; the start of every alarm\'s name.')
param functionAppName string

@description('Name of the trust, as on every row.')
param trustName string

@description('Minutes between two runs.')
param runEveryMinutes int

@description('Whether the exporter sends heartbeats. Without them no alarm can call but that on rejected rows.')
param sendsHeartbeats bool

@description('Whether the exporter audits.')
param audits bool

@description('Whether the data collection rule exists and writes rejected rows to DCRLogErrors.')
param logsRejectedRows bool

@description('Mail addresses that are called.')
param emailAddresses array

@description('Action groups the trust has already; called as well.')
param existingActionGroupIds array

type Alarms = {
  alertOnSilentTable: bool
  alertOnSilentTrust: bool
  alertOnStatus: bool
  alertOnNoDelivery: bool
  alertOnRejectedRows: bool
  alertOnSignIn: bool
  alertOnQuarantine: bool
  alertOnNextStep: bool
  alertOnAudit: bool
  silenceMinutes: int
  signInIdleDays: int
}

@description('Which alarms there are, and when they call: the parameters of main.bicep under their own names.')
param alarms Alarms

@description('Whether the functions are deployed without the workbook too.')
param deployFunctions bool

@description('Whether the workbook is deployed, and the functions it reads.')
param deployWorkbook bool

@description('Whether the Sentinel rule is deployed.')
param deploySentinelRule bool

@description('Tags.')
param tags object

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
  scope: resourceGroup(workspaceSubscriptionId, workspaceResourceGroup)
}

// ---- Queries

// Rules carry the functions' text with them: a function that somebody edits or
// deletes must not silence an alarm.
var alertLegs = join(map(alertTables, table => ', (${table} | extend IngestedAt = ingestion_time())'), '\n    ')
var heartbeatLegs = join(map(heartbeatTables, table => ', ${table}'), '\n    ')
var alertRows = 'let AlertRows = ${replace(loadTextContent('../queries/alert-rows.kql'), '{{AlertTables}}', alertLegs)};\n'
var alertQuery = '${alertRows}${loadTextContent('../queries/defender-raw-alert.kql')}'
var heartbeatTableRows = 'let HeartbeatRows = ${replace(loadTextContent('../queries/heartbeat-rows.kql'), '{{HeartbeatTables}}', heartbeatLegs)};\n'
var heartbeatRows = '${heartbeatTableRows}let DefenderExportHeartbeat = ${loadTextContent('../queries/heartbeat.kql')};\n'

// ---- Functions and workbook

var hasFunctions = deployFunctions || deployWorkbook

module functions 'functions.bicep' = if (hasFunctions) {
  name: 'dae-functions-${uniqueString(resourceGroup().id, functionAppName)}'
  scope: resourceGroup(workspaceSubscriptionId, workspaceResourceGroup)
  params: {
    workspaceName: workspaceName
    alertQuery: alertQuery
    heartbeatQuery: '${heartbeatTableRows}${loadTextContent('../queries/heartbeat.kql')}'
    auditQuery: '${heartbeatTableRows}${loadTextContent('../queries/audit.kql')}'
    recordHeadQuery: '${heartbeatRows}${loadTextContent('../queries/record-head.kql')}'
  }
}

module workbook 'workbook.bicep' = if (deployWorkbook) {
  name: 'dae-workbook'
  dependsOn: [functions]
  params: {
    location: workspace.location
    workspaceId: workspace.id
    displayName: 'Defender alert export'
    content: replace(replace(loadTextContent('../workbook.json'), '__AlertTable__', alertTables[0]), '__HeartbeatTable__', heartbeatTables[0])
    tags: tags
  }
}

// ---- Alarms

// A window shorter than three runs would call for every late run.
var silentAfter = alarms.silenceMinutes >= runEveryMinutes * 3 ? alarms.silenceMinutes : (runEveryMinutes <= 15 ? 45 : (runEveryMinutes <= 20 ? 60 : 120))
var quotedTrust = replace(trustName, '\'', '\'\'')
// The newest row of all may be another trust's, or one that asks for nothing.
// Where there is no function the table itself is asked.
var suffix = hasFunctions || !classicHeartbeats ? '' : '_s'
var asksWhatToDo = '${hasFunctions ? 'DefenderExportHeartbeat' : heartbeatTables[0]} | where TrustName${suffix} == @\'${quotedTrust}\' and isnotempty(NextStep${suffix}) | top 5 by TimeGenerated'
// A mail comes months later, when nobody has the zip any more.
var pages = deployWorkbook ? 'the workbook Defender alert export (Azure portal, resource group ${resourceGroup().name}), What to do' : 'infra/README.md of the deployment zip'
// A role that is missing, a rule that was deleted and a full workspace silence it too.
var whereToLook = 'Open the portal page of ${functionAppName}: it says whether the app runs, and whether heartbeats could not be sent and why. If the page does not open, the app does not run: Azure portal, the app, Overview. If the page says that all is well, look at the workspace: Usage and estimated costs, Daily cap. Rows that a full cap kept out are lost there; how to send them again stands under `Rows that the workspace did not keep` in ${pages}.'

var allRules = [
  {
    on: alarms.alertOnSilentTable && sendsHeartbeats
    key: 'table-silent'
    title: 'Defender alert export: no heartbeat'
    description: 'No exporter has sent a heartbeat for ${silentAfter} minutes. Alerts may not be reaching this workspace. ${whereToLook}'
    severity: 1
    query: '${heartbeatRows}${loadTextContent('../queries/rule-table-silent.kql')}'
    dimensions: []
    fires: 'none'
    minutes: silentAfter
  }
  {
    on: alarms.alertOnSilentTrust && sendsHeartbeats
    key: 'trust-silent'
    title: 'Defender alert export: ${trustName} is silent'
    description: '${trustName} has sent no heartbeat for ${silentAfter} minutes, while others in the same workspace have. ${whereToLook}'
    severity: 1
    query: '${heartbeatRows}${replace(loadTextContent('../queries/rule-trust-silent.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: []
    fires: 'some'
    minutes: silentAfter
  }
  {
    on: alarms.alertOnStatus && sendsHeartbeats
    key: 'status'
    title: 'Defender alert export: ${trustName} needs attention'
    description: 'Runs of the exporter did not end well. Ask in the workspace, Logs: ${asksWhatToDo} and do as NextStep says; Message says what happened.'
    severity: 2
    query: '${heartbeatRows}${replace(loadTextContent('../queries/rule-status.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: ['Status']
    fires: 'some'
    minutes: silentAfter
  }
  {
    on: alarms.alertOnNoDelivery && sendsHeartbeats
    key: 'no-delivery'
    title: 'Defender alert export: ${trustName} has delivered nothing for a day'
    description: 'For a day no run of the exporter of ${trustName} has ended well: alerts are not reaching this workspace. This mail comes again each day until one does. Ask in the workspace, Logs: ${asksWhatToDo} and do as NextStep says; Message says what happened. If there is no row: ${whereToLook} On the day of the first deployment this mail is normal.'
    severity: 1
    query: '${heartbeatRows}${replace(loadTextContent('../queries/rule-no-delivery.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: []
    fires: 'none'
    minutes: 1440
    remindsDaily: true
  }
  {
    on: alarms.alertOnRejectedRows && logsRejectedRows
    key: 'rejected-rows'
    title: 'Defender alert export: rows were rejected'
    description: 'Azure Monitor took rows of ${trustName} and could not store them. DCRLogErrors says why. After mending the cause, start a backfill on the portal page over the time of the errors, with `Send again what was delivered before` ticked: without it the backfill passes these rows over, because they count as delivered. Rows that did arrive then come twice, with the same ExportKey; the function DefenderRawAlert keeps one.'
    severity: 1
    query: replace(loadTextContent('../queries/rule-rejected-rows.kql'), '{{RuleResourceId}}', resourceId('Microsoft.Insights/dataCollectionRules', ruleName))
    dimensions: []
    fires: 'some'
    minutes: 60
  }
  {
    on: alarms.alertOnSignIn && sendsHeartbeats
    key: 'sign-in'
    title: 'Defender alert export: sign-in of ${trustName} ends soon'
    description: 'Open the portal page of the exporter and sign in again before the sign-in ends; alerts stop when it does.'
    severity: 2
    query: '${heartbeatRows}${replace(replace(loadTextContent('../queries/rule-sign-in.kql'), '{{TrustName}}', quotedTrust), '{{SignInIdleDays}}', string(alarms.signInIdleDays))}'
    dimensions: []
    fires: 'some'
    minutes: 1440
  }
  {
    on: alarms.alertOnQuarantine && sendsHeartbeats
    key: 'quarantine'
    title: 'Defender alert export: alerts of ${trustName} were set aside'
    // The window holds a day, so that one batch calls once.
    description: 'A target refused alerts of ${trustName}, so no analyst has seen them. They are kept whole in the storage account, in the state container under quarantine/, each with the reason. Look at these alerts in the Defender portal now. Then mend the reason and send them again: how, stands under `Alerts that were set aside` in ${pages}. When a day passes without another, Azure calls this alarm resolved, whether they were sent again or not.'
    severity: 1
    query: '${heartbeatTableRows}${replace(loadTextContent('../queries/rule-quarantine.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: []
    fires: 'some'
    minutes: 1440
  }
  {
    on: alarms.alertOnNextStep && sendsHeartbeats
    key: 'next-step'
    title: 'Defender alert export: something to do for ${trustName}'
    // The window holds a day, so that what every run says calls once.
    description: 'Alerts of ${trustName} are flowing, and the exporter asks for something all the same, such as to leave an API that ends, or to look at a sign-in by another account. Ask in the workspace, Logs: ${asksWhatToDo} and do as NextStep says. When a day passes without it, Azure calls this alarm resolved.'
    severity: 3
    query: '${heartbeatRows}${replace(loadTextContent('../queries/rule-next-step.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: ['Asks']
    fires: 'some'
    minutes: 1440
  }
  {
    on: alarms.alertOnAudit && sendsHeartbeats && audits
    key: 'audit'
    title: 'Defender alert export: no audit of ${trustName}'
    description: 'Runs of the exporter end well, but for two days none has said that everything Defender shows is delivered. Ask in the workspace, Logs: ${asksWhatToDo} and do as NextStep says. Mostly callsPerHour (FunctionConfigCallsPerHour) is too small: ask the central team.'
    severity: 2
    query: '${heartbeatRows}let DefenderExportAudit = ${loadTextContent('../queries/audit.kql')};\n${replace(loadTextContent('../queries/rule-audit.kql'), '{{TrustName}}', quotedTrust)}'
    dimensions: []
    fires: 'some'
    minutes: 2880
  }
]

module alerts 'alerts.bicep' = {
  name: 'dae-alerts'
  params: {
    location: workspace.location
    namePrefix: functionAppName
    workspaceId: workspace.id
    emailAddresses: emailAddresses
    existingActionGroupIds: existingActionGroupIds
    rules: map(filter(allRules, rule => rule.on), rule => union(rule, { description: '${rule.description} What every alarm means stands under `When an alarm calls` in ${pages}.' }))
    tags: tags
  }
}

// ---- Sentinel

var sentinelMinutes = 5

module sentinel 'sentinel.bicep' = if (deploySentinelRule) {
  name: 'dae-sentinel-${uniqueString(resourceGroup().id, functionAppName)}'
  scope: resourceGroup(workspaceSubscriptionId, workspaceResourceGroup)
  params: {
    workspaceName: workspaceName
    query: '${alertRows}${replace(loadTextContent('../queries/sentinel-alert.kql'), '{{Frequency}}', '${sentinelMinutes}m')}'
    frequency: 'PT${sentinelMinutes}M'
    memory: 'P1DT23H'
  }
}
