// The plan and the app, without its settings: those come after its roles, so
// that the first start finds every Key Vault reference readable.

@description('Region.')
param location string

@description('Name of the app. The Functions host tells apps on one storage account apart by its first 32 characters.')
@minLength(2)
@maxLength(32)
param appName string

@description('Name of the plan.')
param planName string

@description('Kind of plan.')
@allowed(['FlexConsumption', 'Consumption', 'Premium', 'Dedicated'])
param planKind string

@description('Size of a Premium plan.')
param premiumSku string

@description('Size of a Dedicated plan.')
param dedicatedSku string

@description('Memory of a Flex Consumption instance, in MB.')
param instanceMemoryMB int

@description('Whether one Flex Consumption instance is kept warm for the timer.')
param keepTimerReady bool

@description('Container the Flex Consumption package is taken from.')
param packageContainerUrl string

@description('Subnet for outgoing traffic; empty for none.')
param integrationSubnetId string

@description('Tags.')
param tags object

var isFlex = planKind == 'FlexConsumption'

var skus = {
  FlexConsumption: { name: 'FC1', tier: 'FlexConsumption' }
  Consumption: { name: 'Y1', tier: 'Dynamic' }
  Premium: { name: premiumSku, tier: 'ElasticPremium' }
  Dedicated: { name: dedicatedSku }
}

var planKinds = {
  FlexConsumption: 'functionapp'
  Consumption: 'functionapp'
  Premium: 'elastic'
  Dedicated: 'linux'
}

var commonSiteConfig = {
  ftpsState: 'Disabled'
  http20Enabled: true
  minTlsVersion: '1.2'
  scmMinTlsVersion: '1.2'
  remoteDebuggingEnabled: false
}

var planSiteConfig = {
  // Flex Consumption takes its runtime and scale from functionAppConfig.
  FlexConsumption: {}
  // The exporter is one timer: more than one instance would only wait.
  Consumption: { linuxFxVersion: '', functionAppScaleLimit: 1 }
  Premium: { linuxFxVersion: '', minimumElasticInstanceCount: 1, functionAppScaleLimit: 1, vnetRouteAllEnabled: true }
  Dedicated: { linuxFxVersion: '', alwaysOn: true, vnetRouteAllEnabled: true }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: planKinds[planKind]
  sku: skus[planKind]
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: appName
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    serverFarmId: plan.id
    clientAffinityEnabled: false
    httpsOnly: true
    keyVaultReferenceIdentity: 'SystemAssigned'
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(integrationSubnetId) ? null : integrationSubnetId
    siteConfig: union(commonSiteConfig, planSiteConfig[planKind])
    functionAppConfig: !isFlex ? null : {
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        maximumInstanceCount: 40
        instanceMemoryMB: instanceMemoryMB
        alwaysReady: keepTimerReady ? [{ name: 'function:timer_export', instanceCount: 1 }] : []
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: {
            type: 'SystemAssignedIdentity'
          }
        }
      }
    }
  }
}

resource ftpCredentials 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource deploymentCredentials 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

output appName string = app.name
output principalId string = app.identity.principalId
output portalUrl string = 'https://${app.properties.defaultHostName}/api/portal/'
