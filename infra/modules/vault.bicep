// The key that seals the stored sign-in, and the keys of sinks that take no role.
//
// The session key is made once. `onlyIfNotExists` makes a redeploy leave the
// secret alone, whatever value the template carries; without it every redeploy
// would write a new key, and the stored sign-in could not be opened any more.
// To rotate on purpose: copy the current value to `session-key-previous`, add a
// new version to `session-key`, and redeploy with `usePreviousSessionKey` true.

@description('Region.')
param location string

@description('Name of the vault.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('True when a deleted vault of this name is to be brought back with its secrets.')
param recoverDeletedVault bool

@description('False when a private endpoint is the only way in.')
param publicNetworkAccess bool

@description('Key written to the vault if it holds none yet: 32 bytes in base64.')
@secure()
param sessionKey string

@description('Shared key of the workspace for the legacy HTTP Data Collector; empty for none.')
@secure()
param workspaceKey string

@description('Key of the event hub policy; empty when the managed identity sends.')
@secure()
param eventHubKey string

@description('Secret of the S3 access key; empty for none, or to keep what is stored.')
@secure()
param s3Secret string

@description('Whether a workspace key is stored.')
param storeWorkspaceKey bool

@description('Whether an event hub key is stored.')
param storeEventHubKey bool

@description('Whether an S3 secret is stored.')
param storeS3Secret bool

@description('Tags.')
param tags object

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: vaultName
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    createMode: recoverDeletedVault ? 'recover' : 'default'
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: publicNetworkAccess ? 'Enabled' : 'Disabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicNetworkAccess ? 'Allow' : 'Deny'
    }
  }
}

@onlyIfNotExists()
resource sessionKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  parent: vault
  name: 'session-key'
  properties: {
    contentType: 'Seals the stored sign-in: 32 bytes in base64. Made once; see the comment in vault.bicep before changing it.'
    value: sessionKey
  }
}

resource workspaceKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (storeWorkspaceKey) {
  parent: vault
  name: 'workspace-key'
  properties: {
    contentType: 'Shared key of the Log Analytics workspace'
    value: workspaceKey
  }
}

resource eventHubKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (storeEventHubKey) {
  parent: vault
  name: 'event-hub-key'
  properties: {
    contentType: 'Key of the event hub policy'
    value: eventHubKey
  }
}

resource s3AccessKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (storeS3Secret) {
  parent: vault
  name: 's3-secret-access-key'
  properties: {
    contentType: 'Secret of the S3 access key'
    value: s3Secret
  }
}

output vaultId string = vault.id
output vaultName string = vault.name
output vaultUri string = vault.properties.vaultUri
