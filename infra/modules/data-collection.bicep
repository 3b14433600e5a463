// The door rows come in by: one data collection rule with its own endpoint and
// both streams. Only the app may send, and what the rule rejects is logged.

@description('Region of the workspace; a rule must be beside it.')
param location string

@description('Name of the rule.')
param ruleName string

@description('Resource id of the workspace.')
param workspaceId string

@description('Stream name of alerts, after `Custom-`: the table name the exporter is set to.')
param alertStream string

@description('Table for alerts.')
param alertTable string

@description('Table for heartbeats.')
param heartbeatTable string

@description('Principal of the app.')
param principalId string

@description('Whether rejected rows are written to DCRLogErrors.')
param logErrors bool

@description('Tags.')
param tags object

var columns = loadJsonContent('../columns.json')
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource rule 'Microsoft.Insights/dataCollectionRules@2023-03-11' = {
  name: ruleName
  location: location
  tags: tags
  kind: 'Direct'
  properties: {
    description: 'Takes rows from the Defender alert export.'
    streamDeclarations: {
      'Custom-${alertStream}': {
        columns: columns.alert
      }
      'Custom-Heartbeat': {
        columns: columns.heartbeat
      }
    }
    destinations: {
      logAnalytics: [
        {
          name: 'workspace'
          workspaceResourceId: workspaceId
        }
      ]
    }
    dataFlows: [
      {
        streams: ['Custom-${alertStream}']
        destinations: ['workspace']
        transformKql: 'source'
        outputStream: 'Custom-${alertTable}'
      }
      {
        streams: ['Custom-Heartbeat']
        destinations: ['workspace']
        transformKql: 'source'
        outputStream: 'Custom-${heartbeatTable}'
      }
    ]
  }
}

resource sender 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(rule.id, principalId, monitoringMetricsPublisher)
  scope: rule
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

resource errorLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (logErrors) {
  name: 'errors-to-workspace'
  scope: rule
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'LogErrors'
        enabled: true
      }
    ]
  }
}

output immutableId string = rule.properties.immutableId
output endpoint string = rule.properties.endpoints.logsIngestion
