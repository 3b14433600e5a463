# Where the values of the template's parameters come from, weakest first:
# what the app runs with now, the parameter file, the command line.
# Dot-sourced; defines functions and nothing else.

# Setting of the app -> parameter of main.bicep. 'bool', 'int' and 'list' say how
# the text is read.
function Get-SettingMap {
    return @{
        FunctionConfigMDETenantId                 = @('defenderTenantId', 'text')
        FunctionConfigMDEClientAppId              = @('defenderClientAppId', 'text')
        FunctionConfigTrustName                   = @('trustName', 'text')
        FunctionConfigDeviceGroups                = @('deviceGroups', 'list')
        FunctionConfigScopeGuard                  = @('scopeGuard', 'text')
        FunctionConfigAllowUngrouped              = @('allowUngrouped', 'bool')
        FunctionConfigAlertSource                 = @('alertSource', 'text')
        FunctionConfigExportUpdates               = @('exportUpdates', 'bool')
        FunctionConfigUse_last_saved_time         = @('useLastSavedTime', 'bool')
        FunctionConfigQueryDepth                  = @('queryDepthMinutes', 'int')
        FunctionConfigInitialLookbackHours        = @('initialLookbackHours', 'int')
        FunctionConfigSettleSeconds               = @('settleSeconds', 'int')
        FunctionConfigOverlapMinutes              = @('overlapMinutes', 'int')
        FunctionConfigAuditHours                  = @('auditHours', 'int')
        FunctionConfigPageSize                    = @('pageSize', 'int')
        FunctionConfigCallsPerHour                = @('callsPerHour', 'int')
        FunctionConfigStorageTable                = @('stateTableName', 'text')
        FunctionConfigStorageContainer            = @('stateContainerName', 'text')
        FunctionConfigSessionStore                = @('sessionStore', 'text')
        FunctionConfigSignInPrompt                = @('signInPrompt', 'text')
        FunctionConfigLoggingType                 = @('loggingType', 'text')
        FunctionConfigLoggingLevel                = @('loggingLevel', 'int')
        FunctionConfigSendHeartbeatToLogAnalytics = @('sendHeartbeat', 'bool')
        FunctionConfigIdentityAuthority           = @('identityAuthority', 'text')
        FunctionConfigDefenderEndpoint            = @('defenderEndpoint', 'text')
        FunctionConfigGraphEndpoint               = @('graphEndpoint', 'text')
        FunctionConfigLogAnalyticsEndpoint        = @('logAnalyticsEndpoint', 'text')
        FunctionConfigEventHubEndpoint            = @('eventHubEndpoint', 'text')
        FunctionConfigAlertTargetType             = @('targetType', 'text')
        FunctionConfigLogAnalyticsTableName       = @('tableName', 'text')
        FunctionConfigEventHubNamespace           = @('eventHubNamespace', 'text')
        FunctionConfigEventHubName                = @('eventHubName', 'text')
        FunctionConfigEventHubAccessKeyName       = @('eventHubAccessKeyName', 'text')
        FunctionConfigEventHubAccessKeyType       = @('eventHubAccessKeyType', 'text')
        FunctionConfigAlertBlobContainer          = @('alertContainerName', 'text')
        FunctionConfigAlertBlobServiceUri         = @('alertBlobServiceUri', 'text')
        FunctionConfigS3Bucket                    = @('s3Bucket', 'text')
        FunctionConfigS3Region                    = @('s3Region', 'text')
        FunctionConfigS3Endpoint                  = @('s3Endpoint', 'text')
        FunctionConfigS3Prefix                    = @('s3Prefix', 'text')
        FunctionConfigS3AccessKeyId               = @('s3AccessKeyId', 'text')
    }
}

function Read-ParameterFile {
    # Values of a .psd1 table or a .bicepparam file.
    param([Parameter(Mandatory = $true)][string]$Path)
    if (-not (Test-Path -LiteralPath $Path -PathType Leaf)) {
        throw "There is no parameter file $Path. Copy infra/main.example.bicepparam, fill it in, and name the copy."
    }
    $kind = [IO.Path]::GetExtension($Path).ToLowerInvariant()
    if ($kind -eq '.psd1') { return Import-PowerShellDataFile -LiteralPath $Path }
    if ($kind -ne '.bicepparam') { throw "The parameter file must end in .bicepparam or .psd1, and $Path does not." }
    $built = Invoke-Bicep -Arguments @('build-params', $Path, '--stdout')
    $parameters = (ConvertFrom-Json -InputObject (ConvertFrom-Json -InputObject $built).parametersJson).parameters
    $values = @{}
    foreach ($member in $parameters.PSObject.Properties) {
        if ($null -ne (Get-Part -From $member.Value -Path 'reference')) {
            throw "The parameter $($member.Name) takes its value from a key vault (getSecret). Leave it out of the file: the script reads keys itself."
        }
        # Not by Get-Part: that would make a list of one item the item.
        $holder = $member.Value.PSObject.Properties['value']
        if ($null -ne $holder) { $values[$member.Name] = ConvertTo-PlainValue -Value $holder.Value }
    }
    return $values
}

function Invoke-Bicep {
    # Runs the Bicep command line and answers what it printed.
    param([Parameter(Mandatory = $true)][string[]]$Arguments)
    $program = Get-Command -Name 'bicep' -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($null -eq $program) {
        throw 'The Bicep command line is not here. Azure Cloud Shell has it; elsewhere: https://aka.ms/bicep-install.'
    }
    # Windows PowerShell turns what a program writes to its error stream into
    # errors; compiler warnings must not stop the script. No redirection to a
    # file: under -WhatIf it would write none.
    $before = $ErrorActionPreference
    $ErrorActionPreference = 'Continue'
    try {
        $all = @(& $program.Source @Arguments 2>&1)
        $code = $LASTEXITCODE
    }
    finally { $ErrorActionPreference = $before }
    $printed = @($all | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] })
    $said = @($all | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] } | ForEach-Object { $_.ToString() }) -join "`n"
    if ($code -ne 0) {
        # What az installs is not found before what is there already.
        $newer = 'az bicep upgrade; $env:PATH = "$HOME/.azure/bin:$env:PATH"'
        throw "Bicep could not read the files. If its words below are about a decorator or a syntax it does not know, it is too old. Then run in this window: $newer`nand after that this script again.`n$said"
    }
    return ($printed -join "`n")
}

function ConvertFrom-Setting {
    # The text of a setting as the value of a parameter.
    param([Parameter(Mandatory = $true)][string]$Text, [Parameter(Mandatory = $true)][string]$Kind)
    switch ($Kind) {
        'bool' { return ($Text.Trim().ToLowerInvariant() -in @('true', '1', 'yes')) }
        'int' { return [int]$Text.Trim() }
        'list' { return , @($Text.Split(';') | ForEach-Object { $_.Trim() } | Where-Object { $_ }) }
        default { return $Text }
    }
}

function Get-AppSetting {
    # All settings of an app, as a table.
    param([Parameter(Mandatory = $true)][string]$SiteId)
    $answer = Invoke-Arm -Method POST -Path "$SiteId/config/appsettings/list?api-version=2024-04-01"
    $table = @{}
    $properties = Get-Part -From $answer -Path 'properties'
    if ($null -ne $properties) {
        foreach ($member in $properties.PSObject.Properties) { $table[$member.Name] = [string]$member.Value }
    }
    return $table
}

function Find-Exporter {
    # The exporters in a resource group: ours, and the predecessor's, which is
    # the one that runs Python.
    param([Parameter(Mandatory = $true)][string]$GroupId)
    $found = @()
    foreach ($site in @(Get-ArmList -Path "$GroupId/providers/Microsoft.Web/sites?api-version=2024-04-01")) {
        if ([string](Get-Part -From $site -Path 'kind') -notlike '*functionapp*') { continue }
        $settings = Get-AppSetting -SiteId $site.id
        if (-not $settings.ContainsKey('FunctionConfigMDETenantId')) { continue }
        $found += @{
            Id          = $site.id
            Name        = $site.name
            State       = (Get-Part -From $site -Path 'properties.state')
            Settings    = $settings
            Predecessor = ($settings['FUNCTIONS_WORKER_RUNTIME'] -eq 'python')
        }
    }
    return $found
}

function Get-StorageName {
    # The storage account an app keeps its state in.
    param([Parameter(Mandatory = $true)][hashtable]$Settings)
    $named = $Settings['AzureWebJobsStorage__accountName']
    if (-not [string]::IsNullOrEmpty($named)) { return $named }
    if ([string]$Settings['AzureWebJobsStorage'] -match '(?:^|;)\s*AccountName=([a-z0-9]{3,24})') { return $Matches[1] }
    return $null
}

function ConvertFrom-ExistingApp {
    # Parameter values an existing app stands for, and notes for the person.
    # ManagedNames are the settings the template writes itself.
    param(
        [Parameter(Mandatory = $true)][hashtable]$App,
        [Parameter(Mandatory = $true)][string[]]$ManagedNames
    )
    $values = @{}
    $notes = @()
    $map = Get-SettingMap
    foreach ($name in $map.Keys) {
        $text = $App.Settings[$name]
        if ([string]::IsNullOrWhiteSpace($text)) { continue }
        $parameter, $kind = $map[$name]
        if ($App.Predecessor -and $kind -eq 'bool' -and -not (ConvertFrom-Setting -Text $text -Kind 'bool')) {
            # It read every text as true, "False" included.
            $notes += "$name is $text in $($App.Name), but the predecessor took that for True. It stays True; to switch it off, set $parameter to false."
            continue
        }
        try { $values[$parameter] = ConvertFrom-Setting -Text $text -Kind $kind }
        catch { $notes += "$name of $($App.Name) is no number, so the default of $parameter is used." }
    }
    if ($App.Predecessor -and $values['targetType'] -eq 'LogAnalytics') {
        $values.Remove('targetType')
        $notes += 'The predecessor sent by the HTTP Data Collector API, which Microsoft retired on 14 September 2026. Alerts now go in by a data collection rule; its old tables stay, and the function DefenderRawAlert reads old and new together. To stay with the old way, set targetType to LogAnalytics.'
    }
    $storage = Get-StorageName -Settings $App.Settings
    if ($storage) { $values['storageAccountName'] = $storage }
    if (-not $App.Predecessor) {
        $values['functionAppName'] = $App.Name
        if ([string]$App.Settings['FunctionConfigSessionKey'] -match 'SecretUri=https://([A-Za-z0-9-]{3,24})\.') {
            $values['keyVaultName'] = $Matches[1]
        }
        if ($App.Settings.ContainsKey('FunctionConfigSessionKeyPrevious')) { $values['usePreviousSessionKey'] = $true }
        $added = @{}
        foreach ($name in $App.Settings.Keys) {
            if ($ManagedNames -notcontains $name) { $added[$name] = $App.Settings[$name] }
        }
        if ($added.Count -gt 0) {
            $values['additionalAppSettings'] = $added
            $notes += "Settings made by hand stay: $((@($added.Keys) | Sort-Object) -join ', ')."
        }
    }
    return @{ Found = $values; Notes = $notes }
}

function Get-ManagedSettingName {
    # Names of the settings that the template writes, read from the one of its
    # files where they all stand.
    param([Parameter(Mandatory = $true)][string]$TemplatePath)
    $pattern = '\b(FunctionConfig\w+|AzureWebJobsStorage\w*|APPLICATIONINSIGHTS_\w+|FUNCTIONS_\w+|WEBSITE_RUN_\w+)\s*:'
    $names = @('AzureWebJobsStorage')
    $exporter = Join-Path -Path (Split-Path -Parent -Path $TemplatePath) -ChildPath 'modules/exporter.bicep'
    foreach ($match in [regex]::Matches((Get-Content -LiteralPath $exporter -Raw), $pattern)) {
        $names += $match.Groups[1].Value
    }
    return @($names | Sort-Object -Unique)
}
