# Whether what was deployed works: functions listed, handler answers, heartbeat
# seen. Each answers a fault in plain words, or nothing.
# Dot-sourced; defines functions and nothing else.

function Test-FunctionList {
    param([Parameter(Mandatory = $true)][string]$SiteId, [Parameter(Mandatory = $true)][string[]]$Expected)
    $script:missingFunctions = $Expected
    $ask = {
        $listed = @(Get-ArmList -Path "$SiteId/functions?api-version=2024-04-01" | ForEach-Object { ([string]$_.name).Split('/')[-1] })
        $script:missingFunctions = @($Expected | Where-Object { $listed -notcontains $_ })
        return ($script:missingFunctions.Count -eq 0)
    }
    if (Wait-Until -Ask $ask -Minutes 6 -For 'the functions to be listed') { return $null }
    return "Azure does not list these functions: $($script:missingFunctions -join ', '). The app has not taken the package, or its storage cannot be read. Open the app in the Azure portal, Diagnose and solve problems; then run this script again."
}

function Test-Handler {
    # One request for the portal page. Any answer that is not an error means
    # that host and handler run and speak to each other.
    param([Parameter(Mandatory = $true)][string]$SiteId, [Parameter(Mandatory = $true)][string]$PortalUrl)
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    $script:handlerStatus = 0
    $ask = {
        try {
            $key = Get-Part -From (Invoke-Arm -Method POST -Path "$SiteId/functions/portal/listkeys?api-version=2024-04-01") -Path 'default'
        }
        catch { return $false }
        try {
            $answer = Invoke-WebRequest -Uri $PortalUrl -Headers @{ 'x-functions-key' = $key } -UseBasicParsing -MaximumRedirection 0 -TimeoutSec 120 -ErrorAction Stop
            $script:handlerStatus = [int]$answer.StatusCode
        }
        catch {
            $response = Get-Part -From $_.Exception -Path 'Response'
            # Windows PowerShell has no answer to show for a redirection not followed.
            $other = if ($_.Exception.Message -match 'redirect') { 302 } else { 0 }
            $script:handlerStatus = if ($null -ne $response) { [int]$response.StatusCode } else { $other }
        }
        return ($script:handlerStatus -ge 200 -and $script:handlerStatus -lt 400)
    }
    if (Wait-Until -Ask $ask -Minutes 5 -For 'the exporter to answer') { return $null }
    switch ($script:handlerStatus) {
        0 { return "Nothing answers at $PortalUrl. If the app is open only to a private network, look from there; otherwise open its Log stream in the Azure portal." }
        401 { return "The app refuses its own function key. Somebody changed the keys, or put sign-in (Authentication) before the app." }
        403 { return "The app refuses this machine. Its access restrictions, or a firewall, keep the Internet out; look from a machine that may." }
        404 { return 'The app runs, but the portal function is not there. It has not taken the package; run this script again.' }
        { $_ -in @(502, 503, 504) } { return "The app answers $($script:handlerStatus): the program does not start. Its Log stream says why; 'exit code 126' means that the zip lost its modes." }
        default { return "The portal page answers $($script:handlerStatus). The app's Log stream says why." }
    }
}

function Wait-Heartbeat {
    # The newest heartbeat since a time, read from the workspace; nothing when
    # none came. An audit's row says nothing of how a run ended.
    param(
        [Parameter(Mandatory = $true)][string]$WorkspaceCustomerId,
        [Parameter(Mandatory = $true)][string]$Table,
        [Parameter(Mandatory = $true)][string]$TrustName,
        [Parameter(Mandatory = $true)][datetime]$Since,
        [Parameter(Mandatory = $true)][int]$Minutes
    )
    $trust = $TrustName.Replace('\', '\\').Replace("'", "\'")
    $from = $Since.ToString('yyyy-MM-ddTHH:mm:ssZ', [Globalization.CultureInfo]::InvariantCulture)
    # The classic table names its columns with a suffix.
    $query = @"
union isfuzzy=true (datatable(TimeGenerated:datetime, TrustName:string, Status:string, Message:string, NextStep:string, RowType:string)[]), $Table
| where TimeGenerated > datetime($from)
| extend Trust = coalesce(TrustName, column_ifexists('TrustName_s', '')), Status = coalesce(Status, column_ifexists('Status_s', '')), Message = coalesce(Message, column_ifexists('Message_s', '')), NextStep = coalesce(NextStep, column_ifexists('NextStep_s', '')), RowType = coalesce(RowType, column_ifexists('RowType_s', ''))
| where Trust == '$trust' and RowType != 'DefenderExportAudit'
| top 1 by TimeGenerated desc
| project Status, Message, NextStep
"@
    $ask = {
        try {
            $answer = Invoke-AzOperationalInsightsQuery -WorkspaceId $WorkspaceCustomerId -Query $query -ErrorAction Stop
            return (@($answer.Results) | Select-Object -First 1)
        }
        catch {
            Write-Verbose -Message "the workspace did not answer: $($_.Exception.Message)"
            return $null
        }
    }
    return Wait-Until -Ask $ask -Minutes $Minutes -For 'the first heartbeat in the workspace' -EverySeconds 30
}

function Test-Secret {
    # Whether a heartbeat says nothing of a secret that could not be read.
    param([Parameter(Mandatory = $true)]$Heartbeat)
    return ($Heartbeat.Status -ne 'ConfigInvalid' -or $Heartbeat.Message -notmatch 'Key Vault reference')
}

function Wait-Secret {
    # The newest heartbeat, once secrets in the key vault can be read: the app's
    # role there can take half an hour to arrive. Settings are read when the
    # program starts, and Azure looks into the vault again only when told to.
    param(
        [Parameter(Mandatory = $true)]$Heartbeat,
        [Parameter(Mandatory = $true)][hashtable]$Where,
        [Parameter(Mandatory = $true)][string]$SiteId
    )
    $newest = $Heartbeat
    foreach ($attempt in @(1, 2, 3)) {
        if (Test-Secret -Heartbeat $newest) { return $newest }
        Write-Line "  The app cannot read a secret in the key vault yet: its role there is on its way. It is read again in 10 minutes, and the app restarted ($attempt of 3)."
        Start-Sleep -Seconds 600
        try { Invoke-Arm -Method POST -Path "$SiteId/config/configreferences/appsettings/refresh?api-version=2022-03-01" | Out-Null }
        catch { Write-Verbose -Message "the vault is not read again on demand, so a restart must do: $($_.Exception.Message)" }
        Invoke-Arm -Method POST -Path "$SiteId/restart?api-version=2024-04-01" | Out-Null
        $next = Wait-Heartbeat @Where -Since ([datetime]::UtcNow)
        if ($null -ne $next) { $newest = $next }
    }
    return $newest
}

function Get-HeartbeatVerdict {
    # What a heartbeat says of the deployment, in its own words: problems, and
    # notes. A status unknown here is a problem.
    param([Parameter(Mandatory = $true)]$Heartbeat, [switch]$IsNew)
    $said = "The exporter runs, and its newest run says $($Heartbeat.Status). $($Heartbeat.Message)"
    if (-not (Test-Secret -Heartbeat $Heartbeat)) {
        $said += ' What to do: if the app was given its role on the key vault less than half an hour ago, wait that long and run this script again; the app does not look again by itself. If it stays, somebody took the role Key Vault Secrets User from the app, or closed the vault to it.'
    }
    elseif ($Heartbeat.NextStep) { $said += " What to do: $($Heartbeat.NextStep)" }
    $verdict = @{ Problems = @(); Notes = @() }
    switch ($Heartbeat.Status) {
        { $_ -in @('Ok', 'CatchingUp') } { if ($Heartbeat.NextStep) { $verdict.Notes = @($said) } }
        { $_ -in @('SignInExpiring', 'ScopeViolation', 'SourceThrottled') } { $verdict.Notes = @($said) }
        # Nobody can have signed in to an app that was not there before.
        'SignInNeeded' { if (-not $IsNew) { $verdict.Problems = @($said) } }
        default { $verdict.Problems = @($said) }
    }
    return $verdict
}
