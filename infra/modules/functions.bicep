// The functions people query instead of the tables.

@description('Name of the workspace.')
param workspaceName string

@description('Body of DefenderRawAlert.')
param alertQuery string

@description('Body of DefenderExportHeartbeat.')
param heartbeatQuery string

@description('Body of DefenderExportAudit.')
param auditQuery string

@description('Body of DefenderExportRecordHead.')
param recordHeadQuery string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource alerts 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = {
  parent: workspace
  name: 'DefenderRawAlert'
  etag: '*'
  properties: {
    category: 'Defender alert export'
    displayName: 'DefenderRawAlert'
    functionAlias: 'DefenderRawAlert'
    query: alertQuery
    version: 2
  }
}

resource heartbeats 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = {
  parent: workspace
  name: 'DefenderExportHeartbeat'
  etag: '*'
  properties: {
    category: 'Defender alert export'
    displayName: 'DefenderExportHeartbeat'
    functionAlias: 'DefenderExportHeartbeat'
    query: heartbeatQuery
    version: 2
  }
}

resource audits 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = {
  parent: workspace
  name: 'DefenderExportAudit'
  etag: '*'
  properties: {
    category: 'Defender alert export'
    displayName: 'DefenderExportAudit'
    functionAlias: 'DefenderExportAudit'
    query: auditQuery
    version: 2
  }
}

resource recordHead 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = {
  parent: workspace
  name: 'DefenderExportRecordHead'
  etag: '*'
  properties: {
    category: 'Defender alert export'
    displayName: 'DefenderExportRecordHead'
    functionAlias: 'DefenderExportRecordHead'
    query: recordHeadQuery
    version: 2
  }
}
