# What must be true before anything is changed. Every check answers a list of
# faults in plain words, so that all of them are read at once.
# Dot-sourced; defines functions and nothing else.

function Test-Module {
    $faults = @()
    # Az.Accounts 2.2 is the first with Invoke-AzRestMethod.
    $needed = @{
        'Az.Accounts'            = '2.2.0'
        'Az.Resources'           = '6.0.0'
        'Az.Storage'             = '4.0.0'
        'Az.OperationalInsights' = '3.0.0'
    }
    foreach ($name in ($needed.Keys | Sort-Object)) {
        $have = Get-Module -Name $name -ListAvailable | Sort-Object -Property Version -Descending | Select-Object -First 1
        if ($null -eq $have) {
            $faults += "The PowerShell module $name is not here. Use Azure Cloud Shell, or run: Install-Module Az -Scope CurrentUser"
        }
        elseif ($have.Version -lt [version]$needed[$name]) {
            $faults += "The PowerShell module $name is version $($have.Version); at least $($needed[$name]) is needed. Run: Update-Module $name"
        }
    }
    return $faults
}

function Test-Context {
    # Signed in, and to the tenant and subscription that were named.
    param([Parameter(Mandatory = $true)][string]$TenantId, [Parameter(Mandatory = $true)][string]$SubscriptionId)
    $how = "Run: Connect-AzAccount -Tenant $TenantId -Subscription $SubscriptionId"
    if ($null -eq (Get-AzContext -ErrorAction SilentlyContinue)) { return "Nobody is signed in to Azure. $how" }
    try {
        $context = Set-AzContext -Tenant $TenantId -Subscription $SubscriptionId -Scope Process -ErrorAction Stop -WarningAction SilentlyContinue -WhatIf:$false
    }
    catch {
        return "Whoever is signed in cannot use subscription $SubscriptionId of tenant $TenantId, or the sign-in has ended. $how"
    }
    if ([string]$context.Subscription.Id -ne $SubscriptionId) { return "Azure chose another subscription than $SubscriptionId. $how" }
    return
}

function Get-Target {
    # Where alerts go: one or several of the words targetType takes.
    param([Parameter(Mandatory = $true)][hashtable]$Values)
    $given = [string]$Values['targetType']
    if ([string]::IsNullOrWhiteSpace($given)) { $given = 'LogsIngestion' }
    return @($given.Split(';') | ForEach-Object { $_.Trim() })
}

function Test-Rule {
    # Whether there is a data collection rule: for alerts, or for heartbeats alone.
    param([Parameter(Mandatory = $true)][hashtable]$Values)
    $targets = @(Get-Target -Values $Values)
    return ($targets -notcontains 'LogAnalytics') -or ($targets -contains 'LogsIngestion')
}

function Get-NeededProvider {
    # Resource providers that the chosen parts need.
    param([Parameter(Mandatory = $true)][hashtable]$Values)
    $needed = @('Microsoft.Web', 'Microsoft.Storage', 'Microsoft.KeyVault', 'Microsoft.Insights', 'Microsoft.OperationalInsights', 'Microsoft.Authorization')
    if ($Values['deploySentinelRule'] -ne $false) { $needed += @('Microsoft.SecurityInsights') }
    if (@(Get-Target -Values $Values) -contains 'EventHub') { $needed += @('Microsoft.EventHub') }
    if ($Values['integrationSubnetId'] -and $Values['planKind'] -in @($null, 'FlexConsumption')) { $needed += @('Microsoft.App') }
    if ($Values['privateEndpointSubnetId']) { $needed += @('Microsoft.Network') }
    return $needed
}

function Get-ProviderState {
    param([Parameter(Mandatory = $true)][string]$SubscriptionId, [Parameter(Mandatory = $true)][string]$Name)
    return [string](Get-Part -From (Invoke-Arm -Method GET -Path "/subscriptions/$SubscriptionId/providers/${Name}?api-version=2021-04-01") -Path 'registrationState')
}

function Register-Provider {
    # Registers what is missing and waits for it. With -Look it only looks.
    param([Parameter(Mandatory = $true)][string]$SubscriptionId, [Parameter(Mandatory = $true)][string[]]$Names, [switch]$Look)
    $faults = @()
    foreach ($name in $Names) {
        if ((Get-ProviderState -SubscriptionId $SubscriptionId -Name $name) -eq 'Registered') { continue }
        if ($Look) {
            Write-Line "  $name is not registered in this subscription; a real run registers it."
            continue
        }
        Write-Line "  registering $name ..."
        try { Invoke-Arm -Method POST -Path "/subscriptions/$SubscriptionId/providers/$name/register?api-version=2021-04-01" | Out-Null }
        catch {
            $faults += "The resource provider $name is not registered, and you may not register it. Ask an owner of the subscription to run: Register-AzResourceProvider -ProviderNamespace $name"
            continue
        }
        $ask = { (Get-ProviderState -SubscriptionId $SubscriptionId -Name $name) -eq 'Registered' }
        if (-not (Wait-Until -Ask $ask -Minutes 10 -For "$name to be registered")) {
            $faults += "The resource provider $name is still being registered after 10 minutes. Nothing is wrong; run this script again later."
        }
    }
    return $faults
}

function Test-Pattern {
    # Whether an action such as 'Microsoft.Web/sites/write' is among patterns
    # such as '*/read', as Azure compares them.
    param([Parameter(Mandatory = $true)][string]$Action, [string[]]$Patterns)
    foreach ($pattern in $Patterns) {
        if ($Action -like $pattern.Replace('[', '`[').Replace(']', '`]')) { return $true }
    }
    return $false
}

function Test-Permission {
    # What whoever is signed in may not do at a scope, out of these actions.
    param(
        [Parameter(Mandatory = $true)][string]$Scope,
        [Parameter(Mandatory = $true)][string[]]$Actions,
        [Parameter(Mandatory = $true)][string]$Where
    )
    $grants = @(Get-ArmList -Path "$Scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01")
    $missing = @()
    foreach ($action in $Actions) {
        $allowed = $false
        foreach ($grant in $grants) {
            $yes = Test-Pattern -Action $action -Patterns @(Get-Part -From $grant -Path 'actions')
            $no = Test-Pattern -Action $action -Patterns @(Get-Part -From $grant -Path 'notActions')
            if ($yes -and -not $no) { $allowed = $true; break }
        }
        if (-not $allowed) { $missing += $action }
    }
    if ($missing.Count -eq 0) { return }
    return "On $Where you may not: $($missing -join ', '). infra/README.md names the roles that hold these."
}

function Get-NeededAction {
    # Actions at the resource group, at the workspace's and at the event hub's.
    param([Parameter(Mandatory = $true)][hashtable]$Values)
    $group = @(
        'Microsoft.Resources/deployments/write', 'Microsoft.Web/sites/write', 'Microsoft.Web/serverfarms/write',
        'Microsoft.Web/sites/config/list/action', 'Microsoft.Storage/storageAccounts/write', 'Microsoft.KeyVault/vaults/write',
        'Microsoft.KeyVault/vaults/secrets/write', 'Microsoft.Insights/actionGroups/write',
        'Microsoft.Insights/scheduledQueryRules/write', 'Microsoft.Authorization/roleAssignments/write'
    )
    $workspace = @('Microsoft.Resources/deployments/write', 'Microsoft.OperationalInsights/workspaces/read')
    if (@(Get-Target -Values $Values) -contains 'LogAnalytics') {
        $workspace += @('Microsoft.OperationalInsights/workspaces/sharedKeys/action')
    }
    if (Test-Rule -Values $Values) {
        $group += @('Microsoft.Insights/dataCollectionRules/write')
        $workspace += @('Microsoft.OperationalInsights/workspaces/tables/write')
    }
    if ($Values['deployFunctions'] -ne $false -or $Values['deployWorkbook'] -ne $false) {
        $workspace += @('Microsoft.OperationalInsights/workspaces/savedSearches/write')
    }
    if ($Values['deploySentinelRule'] -ne $false) { $workspace += @('Microsoft.SecurityInsights/alertRules/write') }
    $hub = @('Microsoft.EventHub/namespaces/eventhubs/read')
    if ([string]::IsNullOrEmpty($Values['eventHubAccessKeyName'])) { $hub += @('Microsoft.Authorization/roleAssignments/write') }
    return @{ Group = $group; Workspace = $workspace; Hub = $hub }
}

function Test-Region {
    # Whether the region offers Flex Consumption, and on it the runtime 'custom'.
    param([Parameter(Mandatory = $true)][string]$SubscriptionId, [Parameter(Mandatory = $true)][string]$Location)
    $wanted = $Location.Replace(' ', '').ToLowerInvariant()
    $other = 'Choose another region, or planKind Premium.'
    try {
        $regions = @(Get-ArmList -Path "/subscriptions/$SubscriptionId/providers/Microsoft.Web/geoRegions?sku=FlexConsumption&api-version=2024-04-01")
        $stacks = @(Get-ArmList -Path "/providers/Microsoft.Web/locations/$wanted/functionAppStacks?api-version=2020-10-01&removeHiddenStacks=true&removeDeprecatedStacks=true&stack=custom&sku=FC1")
    }
    catch {
        Write-Line "  Azure did not say what the region $Location offers, so that was not checked. $($_.Exception.Message)"
        return
    }
    $names = @($regions | ForEach-Object { ([string]$_.name).Replace(' ', '').ToLowerInvariant() })
    if ($names -notcontains $wanted) { return "The region $Location does not offer the plan Flex Consumption. $other" }
    if ($stacks.Count -eq 0) { return "The region $Location does not offer the runtime 'custom' on Flex Consumption. $other If you know that it does, add: -SkipCheck Region" }
    return
}

function Test-Name {
    # Values that infra/main.bicep has no parameter for.
    param([Parameter(Mandatory = $true)][hashtable]$Values, [Parameter(Mandatory = $true)][string]$TemplatePath)
    $known = @([regex]::Matches((Get-Content -LiteralPath $TemplatePath -Raw), '(?m)^param (\w+) ') | ForEach-Object { $_.Groups[1].Value })
    $unknown = @($Values.Keys | Where-Object { $known -notcontains $_ } | Sort-Object)
    if ($unknown.Count -gt 0) { return "infra/main.bicep has no parameter named $($unknown -join ', '). That file lists them; look for a spelling mistake." }
}

function Test-Value {
    # Faults in the parameter values themselves.
    param([Parameter(Mandatory = $true)][hashtable]$Values)
    $faults = @()
    foreach ($name in @('defenderTenantId', 'defenderClientAppId')) {
        $parsed = [guid]::Empty
        if (-not [guid]::TryParse([string]$Values[$name], [ref]$parsed) -or $parsed -eq [guid]::Empty) {
            $faults += "$name is not given, or is no id such as 12345678-1234-1234-1234-123456789abc. The central team knows it."
        }
    }
    foreach ($name in @('trustName', 'workspaceName')) {
        if ([string]::IsNullOrWhiteSpace([string]$Values[$name])) { $faults += "$name is not given." }
    }
    $groups = @($Values['deviceGroups'] | Where-Object { -not [string]::IsNullOrWhiteSpace([string]$_) })
    if ($groups.Count -eq 0) {
        $faults += 'deviceGroups is not given: the device groups whose alerts may leave, spelled as in Defender. Without it nothing may leave.'
    }
    foreach ($group in $groups) {
        if (([string]$group).Contains(';')) { $faults += "The device group '$group' holds a semicolon. Give several groups as several items." }
    }
    if (@($Values['alertEmailAddresses'] | Where-Object { $_ }).Count -eq 0 -and @($Values['existingActionGroupIds'] | Where-Object { $_ }).Count -eq 0) {
        $faults += 'Nobody would be called when alerts stop: give alertEmailAddresses or existingActionGroupIds.'
    }
    $targets = @(Get-Target -Values $Values)
    foreach ($target in $targets) {
        if ($target -notin @('LogsIngestion', 'LogAnalytics', 'EventHub', 'StorageBlob', 'S3')) {
            $faults += "targetType holds '$target', which is none of LogsIngestion, LogAnalytics, EventHub, StorageBlob, S3. Several are separated by semicolons."
        }
    }
    if ($targets -contains 'EventHub') {
        foreach ($name in @('eventHubNamespace', 'eventHubName')) {
            if ([string]::IsNullOrWhiteSpace([string]$Values[$name])) { $faults += "$name is not given, and targetType names EventHub." }
        }
    }
    if ($targets -contains 'S3') {
        foreach ($name in @('s3Bucket', 's3AccessKeyId')) {
            if ([string]::IsNullOrWhiteSpace([string]$Values[$name])) { $faults += "$name is not given, and targetType names S3." }
        }
        if ([string]::IsNullOrWhiteSpace([string]$Values['s3Region']) -and [string]::IsNullOrWhiteSpace([string]$Values['s3Endpoint'])) {
            $faults += 's3Region is not given, and targetType names S3: the region of the bucket, such as eu-west-2.'
        }
    }
    return $faults
}

function Get-TableKind {
    # 'none', 'classic' (made by the predecessor, or since migrated but with its
    # column names) or 'ours'. A classic table is never given a new schema.
    param([Parameter(Mandatory = $true)][string]$WorkspaceId, [Parameter(Mandatory = $true)][string]$Name)
    $path = "$WorkspaceId/tables"
    $newer = Invoke-Arm -Method GET -Path "$path/$($Name)V2_CL?api-version=2023-09-01" -MissingIsNull
    if ($null -ne $newer) { return 'classic' }
    $table = Invoke-Arm -Method GET -Path "$path/$($Name)_CL?api-version=2023-09-01" -MissingIsNull
    if ($null -eq $table) { return 'none' }
    if ((Get-Part -From $table -Path 'properties.schema.tableSubType') -eq 'Classic') { return 'classic' }
    $columns = @(Get-Part -From $table -Path 'properties.schema.columns' | ForEach-Object { Get-Part -From $_ -Path 'name' })
    if ($columns -contains 'ExportKey' -or $columns -contains 'RunId') { return 'ours' }
    return 'classic'
}

function Get-HubKey {
    # Key of the shared access policy and where the policy is: on the hub, or on
    # its whole namespace. Nothing when it cannot be read.
    param([Parameter(Mandatory = $true)][string]$HubId, [Parameter(Mandatory = $true)][string]$Policy)
    $namespaceId = $HubId.Substring(0, $HubId.LastIndexOf('/eventhubs/'))
    foreach ($place in @(@('EventHub', $HubId), @('Namespace', $namespaceId))) {
        $keys = Invoke-Arm -Method POST -Path "$($place[1])/authorizationRules/$Policy/listKeys?api-version=2024-01-01" -MissingIsNull
        $key = Get-Part -From $keys -Path 'primaryKey'
        if (-not [string]::IsNullOrEmpty($key)) { return @{ Key = $key; Type = $place[0] } }
    }
    return $null
}
