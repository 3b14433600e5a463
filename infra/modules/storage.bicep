// State of the exporter and of the Functions host, and the package it runs.
// No shared keys: everybody who reads or writes here does so by a role.

@description('Region.')
param location string

@description('Name of the storage account.')
param accountName string

@description('Redundancy.')
param skuName string

@description('Table with the saved position, the ledger and the sealed sign-in.')
param tableName string

@description('Container with log blobs, quarantined rows and whole alerts that did not fit a row.')
param containerName string

@description('Container with the deployed package.')
param packageContainerName string

@description('True only while an app that still holds a connection string uses the same account.')
param allowSharedKeyAccess bool

@description('False when private endpoints are the only way in.')
param publicNetworkAccess bool

@description('Days a deleted blob can be brought back.')
@minValue(1)
@maxValue(365)
param deletedBlobRetentionDays int

@description('Tags.')
param tags object

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: accountName
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: allowSharedKeyAccess
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: publicNetworkAccess ? 'Enabled' : 'Disabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicNetworkAccess ? 'Allow' : 'Deny'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: deletedBlobRetentionDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: deletedBlobRetentionDays
    }
  }
}

resource stateContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: containerName
  properties: {
    publicAccess: 'None'
  }
}

resource packageContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: packageContainerName
  properties: {
    publicAccess: 'None'
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource stateTable 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = {
  parent: tables
  name: tableName
}

output accountId string = account.id
output accountName string = account.name
output packageContainerUrl string = '${account.properties.primaryEndpoints.blob}${packageContainerName}'
