# What a deployment consists of, by the names that infra/ gives.
# Each item: Id, Version (of the API to remove it by), What (in words).
# Dot-sourced; defines functions and nothing else.

function Get-OwnItem {
    # What belongs to one app alone, in an order in which it can be removed.
    param([Parameter(Mandatory = $true)][string]$GroupId, [Parameter(Mandatory = $true)][hashtable]$App)
    $prefix = "$($App.Name)-"
    $kinds = @(
        @('Microsoft.Insights/scheduledQueryRules', '2023-12-01', 'alarm'),
        @('Microsoft.Insights/actionGroups', '2023-01-01', 'list of people to call'),
        @('Microsoft.Insights/workbooks', '2023-06-01', 'workbook'),
        @('Microsoft.Insights/dataCollectionRules', '2023-03-11', 'data collection rule'),
        @('Microsoft.Insights/components', '2020-02-02', 'log of the app'),
        @('Microsoft.Network/privateEndpoints', '2024-05-01', 'private endpoint')
    )
    $items = @()
    # Its identity's roles first: without the identity they could not be found.
    $site = Invoke-Arm -Method GET -Path "$($App.Id)?api-version=2024-04-01"
    $principal = [string](Get-Part -From $site -Path 'identity.principalId')
    if ($principal) {
        $subscription = $GroupId.Substring(0, $GroupId.IndexOf('/resourceGroups/'))
        $filter = [uri]::EscapeDataString("principalId eq '$principal'")
        foreach ($role in @(Get-ArmList -Path "$subscription/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&`$filter=$filter")) {
            $items += @{ Id = [string]$role.id; Version = '2022-04-01'; What = 'role assignment of the app' }
        }
    }
    $items += @{ Id = $App.Id; Version = '2024-04-01'; What = 'app' }
    $items += @{ Id = "$GroupId/providers/Microsoft.Web/serverfarms/$($App.Name)-plan"; Version = '2024-04-01'; What = 'plan of the app' }
    foreach ($kind in $kinds) {
        $path = "$GroupId/providers/$($kind[0])?api-version=$($kind[1])"
        if ($kind[0] -eq 'Microsoft.Insights/workbooks') { $path += '&category=sentinel&canFetchContent=false' }
        foreach ($found in @(Get-ArmList -Path $path)) {
            $mine = ([string]$found.name).StartsWith($prefix, [StringComparison]::OrdinalIgnoreCase)
            if ($kind[0] -eq 'Microsoft.Insights/workbooks') { $mine = ((Get-Part -From $found -Path 'properties.displayName') -eq 'Defender alert export') }
            if ($mine) { $items += @{ Id = [string]$found.id; Version = $kind[1]; What = $kind[2] } }
        }
    }
    return $items
}

function Get-StateItem {
    # Storage and vault, refused while another app still uses the storage.
    param(
        [Parameter(Mandatory = $true)][string]$GroupId,
        [Parameter(Mandatory = $true)][hashtable]$App,
        [hashtable[]]$Others = @()
    )
    $storage = Get-StorageName -Settings $App.Settings
    foreach ($other in $Others) {
        if ((Get-StorageName -Settings $other.Settings) -eq $storage) {
            throw "The storage account $storage is also used by $($other.Name). Remove that app first, or leave out -IncludeState."
        }
    }
    $items = @()
    if ($storage) {
        $items += @{ Id = "$GroupId/providers/Microsoft.Storage/storageAccounts/$storage"; Version = '2023-05-01'; What = 'storage account with saved time, sign-in and quarantine' }
    }
    if ([string]$App.Settings['FunctionConfigSessionKey'] -match 'SecretUri=https://([A-Za-z0-9-]{3,24})\.') {
        $items += @{ Id = "$GroupId/providers/Microsoft.KeyVault/vaults/$($Matches[1])"; Version = '2023-07-01'; What = 'key vault' }
    }
    return $items
}

function Get-WorkspaceItem {
    # What infra/ adds to the workspace beside tables and rows.
    param([Parameter(Mandatory = $true)][string]$WorkspaceId)
    $items = @()
    foreach ($name in @('DefenderRawAlert', 'DefenderExportHeartbeat', 'DefenderExportAudit', 'DefenderExportRecordHead')) {
        $id = "$WorkspaceId/savedSearches/$name"
        if ($null -ne (Invoke-Arm -Method GET -Path "${id}?api-version=2020-08-01" -MissingIsNull)) {
            $items += @{ Id = $id; Version = '2020-08-01'; What = 'workspace function' }
        }
    }
    $onboarding = Invoke-Arm -Method GET -Path "$WorkspaceId/providers/Microsoft.SecurityInsights/onboardingStates/default?api-version=2024-03-01" -MissingIsNull
    if ($null -ne $onboarding) {
        foreach ($rule in @(Get-ArmList -Path "$WorkspaceId/providers/Microsoft.SecurityInsights/alertRules?api-version=2024-03-01")) {
            if ([string](Get-Part -From $rule -Path 'properties.query') -like '*let AlertRows = *') {
                $items += @{ Id = [string]$rule.id; Version = '2024-03-01'; What = 'Sentinel rule' }
            }
        }
    }
    return $items
}
