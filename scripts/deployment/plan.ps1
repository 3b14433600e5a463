# What will be deployed: which app, with which values, to which workspace.
# Dot-sourced; defines functions and nothing else.

function Select-App {
    # The app to upgrade and the predecessor to take over from, if any.
    param(
        [hashtable[]]$Apps = @(),
        [string]$Named,
        [string]$PredecessorName,
        [switch]$Ignore
    )
    $ours = @($Apps | Where-Object { -not $_.Predecessor })
    if ($Named) { $ours = @($ours | Where-Object { $_.Name -eq $Named }) }
    if ($ours.Count -gt 1) {
        throw "The resource group has more than one exporter: $(($ours | ForEach-Object { $_.Name }) -join ', '). Say which by functionAppName."
    }
    $old = @($Apps | Where-Object { $_.Predecessor })
    if ($Ignore) { $old = @() }
    if ($PredecessorName) {
        $old = @($old | Where-Object { $_.Name -eq $PredecessorName })
        if ($old.Count -eq 0) { throw "The resource group has no predecessor named $PredecessorName." }
    }
    if ($old.Count -gt 1) {
        throw "The resource group has more than one predecessor: $(($old | ForEach-Object { $_.Name }) -join ', '). Say which by -PredecessorAppName, or leave all alone by -IgnorePredecessor."
    }
    return @{
        Ours        = $ours | Select-Object -First 1
        Predecessor = $old | Select-Object -First 1
    }
}

function New-Plan {
    # Parameter values by rank, and what to tell the person about them.
    param(
        [Parameter(Mandatory = $true)][hashtable]$Choice,
        [Parameter(Mandatory = $true)][hashtable]$Given,
        [Parameter(Mandatory = $true)][string]$TemplatePath,
        [switch]$Reset
    )
    $values = @{}
    $notes = @()
    # A new app takes the predecessor's values; one that runs already has its own.
    $source = if ($Choice.Ours) { $Choice.Ours } else { $Choice.Predecessor }
    if ($source) {
        $kept = ConvertFrom-ExistingApp -App $source -ManagedNames (Get-ManagedSettingName -TemplatePath $TemplatePath)
        # Where its state and key are is never forgotten: a new place would
        # start anew and leave the sign-in behind.
        foreach ($name in $kept.Found.Keys) {
            if (-not $Reset -or $name -in @('storageAccountName', 'keyVaultName', 'functionAppName', 'stateTableName')) {
                $values[$name] = $kept.Found[$name]
            }
        }
        $notes += "Found $($source.Name); its settings stay unless you gave another value. Plan, network, schedule, alarms and the like are as given now, and otherwise the default."
        if (-not $Reset) { $notes += @($kept.Notes) }
    }
    foreach ($name in $Given.Keys) {
        $was = $values[$name]
        if ($name -in @('storageAccountName', 'stateTableName', 'keyVaultName') -and $was -and $was -ne $Given[$name]) {
            $notes += "$name changes from $was to $($Given[$name]): the exporter will not find its saved time or its sign-in there."
        }
        $values[$name] = $Given[$name]
    }
    # A single text in a parameter file stands for a list of one.
    foreach ($name in @('deviceGroups', 'alertEmailAddresses', 'existingActionGroupIds')) {
        $values[$name] = @($values[$name] | Where-Object { -not [string]::IsNullOrWhiteSpace([string]$_) })
    }
    if ($Choice.Predecessor) {
        # It reads its storage by a connection string until it is deleted.
        $values['allowSharedKeyAccess'] = $true
        if ($Choice.Predecessor.State -eq 'Running') {
            $notes += "The predecessor $($Choice.Predecessor.Name) goes on meanwhile; its storage account stays open to it."
        }
    }
    if (@($values['deviceGroups']) -contains '*') {
        $notes += "deviceGroups is '*': alerts of every device group will leave. That is right only for a tenant that is the trust's own."
    }
    return @{ Chosen = $values; Notes = $notes }
}

function Find-Target {
    # The workspace and the event hub, and what depends on how they are. Sets
    # values that the person did not give. MayOpen: what is closed to the Internet
    # may be opened.
    param(
        [Parameter(Mandatory = $true)][hashtable]$Values,
        [Parameter(Mandatory = $true)][string]$SubscriptionId,
        [Parameter(Mandatory = $true)][string]$ResourceGroupName,
        [switch]$MayOpen
    )
    $faults = @()
    $notes = @()
    $workspaceSubscription = if ($Values['workspaceSubscriptionId']) { $Values['workspaceSubscriptionId'] } else { $SubscriptionId }
    $workspaceGroup = if ($Values['workspaceResourceGroup']) { $Values['workspaceResourceGroup'] } else { $ResourceGroupName }
    $found = @{
        WorkspaceScope      = "/subscriptions/$workspaceSubscription/resourceGroups/$workspaceGroup"
        WorkspaceCustomerId = ''
        HubScope            = ''
    }
    $workspaceId = "$($found.WorkspaceScope)/providers/Microsoft.OperationalInsights/workspaces/$($Values['workspaceName'])"
    $workspace = Invoke-Arm -Method GET -Path "${workspaceId}?api-version=2023-09-01" -MissingIsNull
    if ($null -eq $workspace) {
        $faults += "There is no workspace $($Values['workspaceName']) in the resource group $workspaceGroup, or you may not see it. Give workspaceName and workspaceResourceGroup as the Azure portal shows them."
    }
    else {
        $found.WorkspaceCustomerId = [string](Get-Part -From $workspace -Path 'properties.customerId')
        $table = if ($Values['tableName']) { $Values['tableName'] } else { 'DefenderRawAlert' }
        foreach ($pair in @(@('classicAlertTable', $table), @('classicHeartbeatTable', 'Heartbeat'))) {
            if ($Values.ContainsKey($pair[0])) { continue }
            $Values[$pair[0]] = ((Get-TableKind -WorkspaceId $workspaceId -Name $pair[1]) -eq 'classic')
            if ($Values[$pair[0]] -and (Test-Rule -Values $Values)) {
                $notes += "The workspace has the table $($pair[1])_CL of the predecessor. It stays as it is; new rows go to $($pair[1])V2_CL, and the workspace functions read both."
            }
        }
        $onboarding = $null
        try { $onboarding = Invoke-Arm -Method GET -Path "$workspaceId/providers/Microsoft.SecurityInsights/onboardingStates/default?api-version=2024-03-01" -MissingIsNull }
        catch { Write-Verbose -Message "Sentinel did not answer, so it is not there: $($_.Exception.Message)" }
        if ($null -eq $onboarding) {
            if ($Values['deploySentinelRule'] -eq $true) { $faults += 'deploySentinelRule is true, but the workspace has no Microsoft Sentinel.' }
            elseif (-not $Values.ContainsKey('deploySentinelRule')) {
                $Values['deploySentinelRule'] = $false
                $notes += 'The workspace has no Microsoft Sentinel, so no Sentinel rule is deployed.'
            }
        }
    }
    if (@(Get-Target -Values $Values) -contains 'EventHub') {
        $hubSubscription = if ($Values['eventHubSubscriptionId']) { $Values['eventHubSubscriptionId'] } else { $SubscriptionId }
        $hubGroup = if ($Values['eventHubResourceGroup']) { $Values['eventHubResourceGroup'] } else { $ResourceGroupName }
        $found.HubScope = "/subscriptions/$hubSubscription/resourceGroups/$hubGroup"
        $hubId = "$($found.HubScope)/providers/Microsoft.EventHub/namespaces/$($Values['eventHubNamespace'])/eventhubs/$($Values['eventHubName'])"
        if ($null -eq (Invoke-Arm -Method GET -Path "${hubId}?api-version=2024-01-01" -MissingIsNull)) {
            $faults += "There is no event hub $($Values['eventHubName']) in the namespace $($Values['eventHubNamespace']) of the resource group $hubGroup, or you may not see it."
        }
        elseif ($Values['eventHubAccessKeyName'] -and -not $Values['eventHubAccessKey']) {
            # Read every time: the template writes it to the vault every time.
            $key = Get-HubKey -HubId $hubId -Policy $Values['eventHubAccessKeyName']
            if ($null -eq $key) {
                $faults += "Neither the event hub nor its namespace has a shared access policy $($Values['eventHubAccessKeyName']) whose key you may read. Leave eventHubAccessKeyName empty and the app's own identity sends, without a key."
            }
            else {
                $Values['eventHubAccessKey'] = $key.Key
                $Values['eventHubAccessKeyType'] = $key.Type
            }
        }
    }
    if ($Values['storageAccountName']) {
        $storageId = "/subscriptions/$SubscriptionId/resourceGroups/$ResourceGroupName/providers/Microsoft.Storage/storageAccounts/$($Values['storageAccountName'])"
        $storage = Invoke-Arm -Method GET -Path "${storageId}?api-version=2023-05-01" -MissingIsNull
        if ($null -eq $storage -and $Values['allowSharedKeyAccess']) {
            $faults += "The predecessor keeps its saved time in the storage account $($Values['storageAccountName']), which is not in the resource group $ResourceGroupName. Deploy into the resource group that has it, or give another storageAccountName and accept that the saved time stays behind."
        }
        if ($null -ne $storage) {
            # Neither of the two can be changed on an account that exists.
            if (-not $Values.ContainsKey('storageSku')) { $Values['storageSku'] = [string](Get-Part -From $storage -Path 'sku.name') }
            if (-not $Values['location']) { $Values['location'] = [string](Get-Part -From $storage -Path 'location') }
            if (-not $MayOpen -and -not $Values['privateEndpointSubnetId'] -and (Get-Part -From $storage -Path 'properties.publicNetworkAccess') -eq 'Disabled') {
                $faults += 'Storage and vault are closed to the Internet now, and without privateEndpointSubnetId this deployment would open them. Give the subnet as you gave it before, or, if they are to be opened, add -SkipCheck Network.'
            }
        }
    }
    $vault = Find-DeletedVault -SubscriptionId $SubscriptionId -ResourceGroupName $ResourceGroupName -VaultName ([string]$Values['keyVaultName'])
    if ($vault -and -not $Values.ContainsKey('recoverDeletedVault')) {
        $Values['recoverDeletedVault'] = $true
        $Values['keyVaultName'] = $vault
        $notes += "The key vault $vault was deleted and is brought back with its session key."
    }
    $found.Faults = $faults
    $found.Notes = $notes
    return $found
}

function Find-DeletedVault {
    # Name of a deleted vault of this resource group that is not there again.
    param([string]$SubscriptionId, [string]$ResourceGroupName, [string]$VaultName)
    $group = "/subscriptions/$SubscriptionId/resourceGroups/$ResourceGroupName/"
    try { $deleted = @(Get-ArmList -Path "/subscriptions/$SubscriptionId/providers/Microsoft.KeyVault/deletedVaults?api-version=2023-07-01") }
    catch {
        Write-Verbose -Message "deleted vaults cannot be listed: $($_.Exception.Message)"
        return
    }
    foreach ($vault in $deleted) {
        $id = [string](Get-Part -From $vault -Path 'properties.vaultId')
        if (-not $id.StartsWith($group, [StringComparison]::OrdinalIgnoreCase)) { continue }
        if ($VaultName -and $vault.name -ne $VaultName) { continue }
        if (-not $VaultName -and $vault.name -notlike 'dae-*') { continue }
        if ($null -eq (Invoke-Arm -Method GET -Path "${id}?api-version=2023-07-01" -MissingIsNull)) { return [string]$vault.name }
    }
}

function Get-SessionKeyVersion {
    # Version of the secret session-key, without its value; nothing when there
    # is none. Looks through the group's vaults when no name is known.
    param([Parameter(Mandatory = $true)][string]$GroupId, [string]$VaultName)
    $names = @($VaultName | Where-Object { $_ })
    if ($names.Count -eq 0) {
        $listed = @(Get-ArmList -Path "$GroupId/providers/Microsoft.KeyVault/vaults?api-version=2023-07-01")
        $names = @($listed | ForEach-Object { [string]$_.name } | Where-Object { $_ -like 'dae-*' })
    }
    foreach ($name in $names) {
        $secret = Invoke-Arm -Method GET -Path "$GroupId/providers/Microsoft.KeyVault/vaults/$name/secrets/session-key?api-version=2023-07-01" -MissingIsNull
        $version = Get-Part -From $secret -Path 'properties.secretUriWithVersion'
        if ($version) { return [string]$version }
    }
}

function Get-DeploymentValue {
    # The values as the template takes them, with a session key that the
    # template uses only if the vault holds none yet.
    param([Parameter(Mandatory = $true)][hashtable]$Values, [switch]$WithoutSecrets)
    $ready = @{}
    foreach ($name in $Values.Keys) {
        if ($null -ne $Values[$name]) { $ready[$name] = $Values[$name] }
    }
    if ($WithoutSecrets) {
        $ready['sessionKey'] = 'A' * 43 + '='
        $ready.Remove('additionalAppSettings')
        foreach ($name in @('eventHubAccessKey', 'workspaceKey', 's3SecretAccessKey')) {
            if ($ready.ContainsKey($name)) { $ready[$name] = 'placeholder' }
        }
        return $ready
    }
    if (-not $ready.ContainsKey('sessionKey')) {
        $bytes = New-Object -TypeName byte[] -ArgumentList 32
        $random = [Security.Cryptography.RandomNumberGenerator]::Create()
        try { $random.GetBytes($bytes) }
        finally { $random.Dispose() }
        $ready['sessionKey'] = [Convert]::ToBase64String($bytes)
    }
    return $ready
}
