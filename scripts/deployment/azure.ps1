# Talking to Azure Resource Manager, and to the person at the screen.
# Dot-sourced by the two scripts above; defines functions and nothing else.

function Write-Line {
    # One line for the person at the screen; never part of a return value.
    param([AllowEmptyString()][string]$Text = '')
    Write-Information -MessageData $Text -InformationAction Continue
}

function Get-Part {
    # The value at a path such as 'properties.schema.name', or nothing.
    # Under strict mode a missing member is an error; an answer of Azure may lack any.
    param($From, [Parameter(Mandatory = $true)][string]$Path)
    $value = $From
    foreach ($name in $Path.Split('.')) {
        if ($null -eq $value) { return $null }
        if ($value -is [System.Collections.IDictionary]) {
            $value = $value[$name]
        }
        else {
            $member = $value.PSObject.Properties[$name]
            if ($null -eq $member) { return $null }
            $value = $member.Value
        }
    }
    return $value
}

function ConvertTo-PlainValue {
    # Objects read from JSON as hash tables, which template parameters need.
    param($Value)
    if ($Value -is [System.Management.Automation.PSCustomObject]) {
        $table = @{}
        foreach ($member in $Value.PSObject.Properties) {
            $table[$member.Name] = ConvertTo-PlainValue -Value $member.Value
        }
        return $table
    }
    if ($Value -is [System.Collections.IList]) {
        $items = @()
        foreach ($item in $Value) { $items += , (ConvertTo-PlainValue -Value $item) }
        return , $items
    }
    return $Value
}

function Invoke-Arm {
    # One call to Azure Resource Manager; the parsed answer. With -MissingIsNull
    # a 404 is an answer too: nothing. It asks nobody and heeds no -WhatIf:
    # callers read, or have asked already.
    param(
        [Parameter(Mandatory = $true)][ValidateSet('GET', 'POST', 'PUT', 'DELETE')][string]$Method,
        [Parameter(Mandatory = $true)][string]$Path,
        $Body = $null,
        [switch]$MissingIsNull
    )
    $call = @{ Method = $Method; Path = $Path; ErrorAction = 'Stop'; WhatIf = $false; Confirm = $false }
    if ($null -ne $Body) { $call.Payload = ConvertTo-Json -InputObject $Body -Depth 20 -Compress }
    $answer = Invoke-AzRestMethod @call
    $content = $null
    if (-not [string]::IsNullOrWhiteSpace($answer.Content)) {
        try { $content = ConvertFrom-Json -InputObject $answer.Content }
        catch { $content = $null }
    }
    $status = [int]$answer.StatusCode
    if ($status -ge 200 -and $status -lt 300) { return $content }
    if ($status -eq 404 -and $MissingIsNull) { return $null }
    $code = Get-Part -From $content -Path 'error.code'
    $message = Get-Part -From $content -Path 'error.message'
    $asked = $Path.Split('?')[0]
    throw "Azure answered $status $code to $Method $asked. $message"
}

function Get-ArmList {
    # Every item of a listing, page after page. Callers wrap it in @().
    param([Parameter(Mandatory = $true)][string]$Path)
    $items = @()
    $next = $Path
    while (-not [string]::IsNullOrEmpty($next)) {
        $page = Invoke-Arm -Method GET -Path $next
        $items += @(Get-Part -From $page -Path 'value' | Where-Object { $null -ne $_ })
        $link = Get-Part -From $page -Path 'nextLink'
        $next = if ([string]::IsNullOrEmpty($link)) { $null } else { ([uri]$link).PathAndQuery }
    }
    return $items
}

function Wait-Until {
    # Asks until the answer is something, or the time is up (then nothing).
    param(
        [Parameter(Mandatory = $true)][scriptblock]$Ask,
        [Parameter(Mandatory = $true)][int]$Minutes,
        [Parameter(Mandatory = $true)][string]$For,
        [int]$EverySeconds = 15
    )
    $until = [datetime]::UtcNow.AddMinutes($Minutes)
    $said = $false
    while ($true) {
        $answer = & $Ask
        if ($answer) { return $answer }
        if ([datetime]::UtcNow -ge $until) { return $null }
        if (-not $said) {
            Write-Line "  waiting for $For, up to $Minutes minutes ..."
            $said = $true
        }
        Start-Sleep -Seconds $EverySeconds
    }
}

function Get-PlainText {
    # A token or key for the one line that sends it.
    param([Parameter(Mandatory = $true)]$Secret)
    if ($Secret -is [securestring]) {
        return (New-Object -TypeName System.Net.NetworkCredential -ArgumentList '', $Secret).Password
    }
    return [string]$Secret
}

function Get-Caller {
    # Object id and kind of whoever is signed in, read from their own token:
    # asking the directory would need a permission that deploying does not.
    $token = Get-PlainText -Secret (Get-AzAccessToken -ErrorAction Stop -WarningAction SilentlyContinue).Token
    $claims = $token.Split('.')[1].Replace('-', '+').Replace('_', '/')
    $claims = $claims.PadRight($claims.Length + (4 - $claims.Length % 4) % 4, '=')
    $parsed = ConvertFrom-Json -InputObject ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($claims)))
    $kind = if ((Get-Part -From $parsed -Path 'idtyp') -eq 'app') { 'ServicePrincipal' } else { 'User' }
    return @{ Id = (Get-Part -From $parsed -Path 'oid'); Kind = $kind }
}
