// The two tables in the trust's workspace. Neither the workspace nor a table's
// plan or retention is declared: what the trust has set there stays.

@description('Name of the workspace.')
param workspaceName string

@description('Table for alerts.')
param alertTable string

@description('Table for heartbeats.')
param heartbeatTable string

var columns = loadJsonContent('../columns.json')

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource alerts 'Microsoft.OperationalInsights/workspaces/tables@2025-02-01' = {
  parent: workspace
  name: alertTable
  properties: {
    schema: {
      name: alertTable
      // The Tables API writes this one type name otherwise than the rule does.
      columns: [for column in columns.alert: {
        name: column.name
        type: column.type == 'datetime' ? 'dateTime' : column.type
      }]
    }
  }
}

resource heartbeats 'Microsoft.OperationalInsights/workspaces/tables@2025-02-01' = {
  parent: workspace
  name: heartbeatTable
  properties: {
    schema: {
      name: heartbeatTable
      columns: [for column in columns.heartbeat: {
        name: column.name
        type: column.type == 'datetime' ? 'dateTime' : column.type
      }]
    }
  }
}
