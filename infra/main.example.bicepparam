// Copy to main.bicepparam and fill in. Then, in Azure Cloud Shell (PowerShell), in
// the folder of the unpacked deployment zip:
//   $where = @{ TenantId = '...'; SubscriptionId = '...'; ResourceGroupName = 'rg-defender-export' }
//   ./scripts/Deploy-DefenderAlertExport.ps1 @where -Location uksouth -ParameterFile ./infra/main.bicepparam -WhatIf
//   ./scripts/Deploy-DefenderAlertExport.ps1 @where -Location uksouth -ParameterFile ./infra/main.bicepparam
// The first shows what would change and changes nothing. Not by az deployment: that
// checks nothing beforehand and uploads no package, so that nothing would run.
// Keep this file, and give it every time: what it leaves out may become the default
// again (README.md beside it, Deploy, upgrade, remove).
using 'main.bicep'

// ---- Fill in these

// From the central team, which runs the central tenant.
param defenderTenantId = '00000000-0000-0000-0000-000000000000'
param defenderClientAppId = '00000000-0000-0000-0000-000000000000'

// This trust's share of the 1,500 calls an hour that all trusts have together:
// 1,500 divided by the number of trusts, rounded down; with 250 trusts 6.
// The central team knows it. Too much makes every trust's alerts late.
param callsPerHour = 6

// A short name; it stands on every row and in every alarm.
param trustName = 'RXX'

// Exactly as Defender spells them (Settings, Endpoints, Device groups).
// An alert of any other group is never sent, logged or stored.
param deviceGroups = [
  'RXX Example Trust'
]

// The workspace alerts go to. It must exist; nothing about it is changed.
param workspaceName = 'law-rxx-security'
// param workspaceResourceGroup = 'rg-security'
// param workspaceSubscriptionId = '00000000-0000-0000-0000-000000000000'

// Mailed by every alarm.
param alertEmailAddresses = [
  'security@example.nhs.uk'
]
// param existingActionGroupIds = []

// ---- Leave out what you do not need to change

// How it runs. Flex Consumption is right unless a policy says otherwise.
// param planKind = 'FlexConsumption'
// param runEveryMinutes = 5
// param location = 'uksouth'
// param storageSku = 'Standard_ZRS'      // Standard_LRS in a region without zones

// Taking over from the predecessor, whose tables stay as they are.
// param classicAlertTable = true
// param classicHeartbeatTable = true
// param initialLookbackHours = 24        // only when it left no saved time

// An event hub instead of the workspace table. Heartbeats still go to the workspace.
// param targetType = 'EventHub'
// param eventHubNamespace = 'trust-hubs'
// param eventHubName = 'defender-alerts'
// param eventHubResourceGroup = 'rg-siem'

// Several places at once: every alert goes to each.
// param targetType = 'LogsIngestion;StorageBlob'

// Files instead of the workspace table: JSON lines in a container of the
// exporter's own storage account, or of another.
// param targetType = 'StorageBlob'
// param alertContainerName = 'defender-alerts'
// param alertBlobServiceUri = 'https://lake.blob.core.windows.net'
// param alertStorageResourceGroup = 'rg-lake'

// Files in an S3 bucket. The secret goes into the key vault; leave it out once
// it is there.
// param targetType = 'S3'
// param s3Bucket = 'rxx-defender-alerts'
// param s3Region = 'eu-west-2'
// param s3Prefix = 'trusts/RXX'
// param s3AccessKeyId = 'AKIA...'
// param s3SecretAccessKey = readEnvironmentVariable('S3_SECRET_ACCESS_KEY', '')

// Private network: both subnets must exist.
// param integrationSubnetId = '/subscriptions/.../subnets/functions'
// param privateEndpointSubnetId = '/subscriptions/.../subnets/endpoints'
// param privateDnsZoneResourceGroupId = '/subscriptions/.../resourceGroups/rg-dns'

// What happens when an alert of another device group is seen: withhold it and
// go on (the default), or halt until a person resumes.
// param scopeGuard = 'halt'

// Monitoring. Everything is on; switch off what you have by other means.
// param deploySentinelRule = false       // no Sentinel, or the Defender XDR connector shows the same devices
// param deployWorkbook = false
// param deployFunctions = false
// param deployTelemetry = false
// param alertOnSilentTable = false
// param alertOnQuarantine = false       // never where nobody else watches the quarantine
// param silenceMinutes = 30
