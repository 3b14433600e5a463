// Private endpoints for storage and the vault, in a subnet the trust has.

@description('Region.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Subnet for the endpoints.')
param subnetId string

@description('Resource id of the resource group with the privatelink zones; empty where a policy links them.')
param dnsZoneResourceGroupId string

@description('Resource id of the storage account.')
param storageAccountId string

@description('Resource id of the vault.')
param vaultId string

@description('Tags.')
param tags object

var storageSuffix = environment().suffixes.storage

var targets = [
  { name: 'blob', resourceId: storageAccountId, group: 'blob', zone: 'privatelink.blob.${storageSuffix}' }
  { name: 'queue', resourceId: storageAccountId, group: 'queue', zone: 'privatelink.queue.${storageSuffix}' }
  { name: 'table', resourceId: storageAccountId, group: 'table', zone: 'privatelink.table.${storageSuffix}' }
  { name: 'vault', resourceId: vaultId, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [for target in targets: {
  name: '${namePrefix}-${target.name}'
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: target.name
        properties: {
          privateLinkServiceId: target.resourceId
          groupIds: [target.group]
        }
      }
    ]
  }
}]

var linked = empty(dnsZoneResourceGroupId) ? [] : targets

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (target, index) in linked: {
  parent: endpoints[index]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: target.name
        properties: {
          privateDnsZoneId: '${dnsZoneResourceGroupId}/providers/Microsoft.Network/privateDnsZones/${target.zone}'
        }
      }
    ]
  }
}]
