// One Sentinel alert for each Defender alert, one Sentinel incident for each
// Defender incident.

@description('Name of the workspace; Microsoft Sentinel must be on it.')
param workspaceName string

@description('Query of the rule.')
param query string

@description('How often the rule runs.')
param frequency string

// Sentinel lets a rule that looks back two days or more run only once an hour.
@description('How far back it remembers alerts. One that changes after so long is raised once more, in its incident while that is open.')
param memory string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource alertRule 'Microsoft.SecurityInsights/alertRules@2025-03-01' = {
  name: guid(workspace.id, 'defender-alert-export', 'alerts')
  scope: workspace
  kind: 'Scheduled'
  properties: {
    displayName: 'Defender for Endpoint alert (from the central tenant)'
    description: 'An alert on one of this trust\'s devices, carried over from the central tenant. If the Microsoft Defender XDR connector of this workspace shows the same devices, switch one of the two off.'
    enabled: true
    severity: 'Medium'
    query: query
    queryFrequency: frequency
    queryPeriod: memory
    triggerOperator: 'GreaterThan'
    triggerThreshold: 0
    suppressionEnabled: false
    suppressionDuration: 'PT5H'
    tactics: []
    techniques: []
    eventGroupingSettings: {
      aggregationKind: 'AlertPerResult'
    }
    alertDetailsOverride: {
      alertDisplayNameFormat: '{{SentinelTitle}}'
      alertDescriptionFormat: '{{SentinelDescription}}'
      alertSeverityColumnName: 'SentinelSeverity'
      alertTacticsColumnName: 'Tactics'
      alertDynamicProperties: [
        { alertProperty: 'AlertLink', value: 'AlertLink' }
        { alertProperty: 'ProductName', value: 'ProductName' }
        { alertProperty: 'ProviderName', value: 'ProviderName' }
      ]
    }
    customDetails: {
      DefenderAlertId: 'AlertId'
      DefenderIncident: 'DefenderIncident'
      DetectionSource: 'DetectionSource'
      DeviceGroup: 'DeviceGroup'
      MitreTechniques: 'MitreTechniques'
      Trust: 'TrustName'
    }
    entityMappings: [
      {
        entityType: 'Host'
        fieldMappings: [
          { identifier: 'HostName', columnName: 'HostName' }
          { identifier: 'DnsDomain', columnName: 'DnsDomain' }
        ]
      }
      {
        entityType: 'Account'
        fieldMappings: [
          { identifier: 'Name', columnName: 'AccountName' }
          { identifier: 'NTDomain', columnName: 'AccountDomain' }
        ]
      }
      {
        entityType: 'IP'
        fieldMappings: [
          { identifier: 'Address', columnName: 'IpAddress' }
        ]
      }
      {
        entityType: 'FileHash'
        fieldMappings: [
          { identifier: 'Algorithm', columnName: 'HashAlgorithm' }
          { identifier: 'Value', columnName: 'HashValue' }
        ]
      }
    ]
    incidentConfiguration: {
      createIncident: true
      groupingConfiguration: {
        enabled: true
        reopenClosedIncident: false
        lookbackDuration: 'P7D'
        matchingMethod: 'Selected'
        groupByAlertDetails: []
        groupByEntities: []
        groupByCustomDetails: ['DefenderIncident']
      }
    }
  }
}
