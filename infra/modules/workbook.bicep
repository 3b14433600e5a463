// The page with flow, lag, last run, alerts, withheld alerts and cost.

@description('Region.')
param location string

@description('Resource id of the workspace the workbook reads.')
param workspaceId string

@description('Name shown in the list of workbooks.')
param displayName string

@description('The workbook itself.')
param content string

@description('Tags.')
param tags object

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, workspaceId, 'defender-alert-export')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    category: 'sentinel'
    displayName: displayName
    serializedData: content
    sourceId: workspaceId
    version: '1.0'
  }
}

output workbookId string = workbook.id
