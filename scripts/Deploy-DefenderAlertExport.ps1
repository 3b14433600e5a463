<#
.SYNOPSIS
Deploys or upgrades the Defender alert export of one trust, and tests it.

.DESCRIPTION
One command, from Azure Cloud Shell or any PowerShell with the Az modules. It
changes nothing before every check has passed and you have seen what would
change and agreed (-Confirm:$false agrees beforehand). In order:

  1. checks: modules, sign-in, values, providers, permissions, region, the
     workspace and the event hub, the package and its hash
  2. shows what would change, and asks
  3. deploys infra/main.bicep
  4. uploads the package
  5. tests: functions listed, exporter answers, first heartbeat seen and what it
     says

Run it again, with the same parameter file, to upgrade or to change a value. The
settings of the app (FunctionConfig...) stay unless you give another value:
command line before parameter file before the settings the app has now.
Everything else, such as plan, network, runEveryMinutes and alarms, is as you
give it now, and otherwise the default: keep it in the file. The key that seals the sign-in is made once and never
shown or replaced.

In the resource group of the Python predecessor it takes over its settings and
its storage account, and with it the saved time. The predecessor goes on until
you run the same command with -StopPredecessor, so that nothing pauses.

What is left to do, such as the sign-in on the portal page, is printed before it
waits for the first heartbeat, and again at the end. A first deployment whose
heartbeat is still on its way is done: that can take an hour.

Exit code 0: done. 1: not done, or a test failed, or the exporter says that it
cannot deliver; the lines above say why.

.PARAMETER TenantId
Tenant everything is deployed to.

.PARAMETER SubscriptionId
Subscription everything is deployed to.

.PARAMETER ResourceGroupName
Resource group of the app; made if it does not exist. To take over from the
predecessor: the predecessor's.

.PARAMETER ParameterFile
Values for infra/main.bicep: a copy of infra/main.example.bicepparam (.bicepparam),
or a PowerShell table (.psd1).

.PARAMETER Parameter
Any value of infra/main.bicep by its name there, for example @{ planKind = 'Premium' }.

.PARAMETER Location
Region of a new resource group and of the app. Default: that of the resource group.

.PARAMETER DefenderTenantId
Tenant that holds the Defender portal and the app registration.

.PARAMETER DefenderClientAppId
Application (client) id of the app registration there.

.PARAMETER TrustName
Short name of the trust, written on every row.

.PARAMETER DeviceGroups
Device groups whose alerts may leave, spelled as in Defender.

.PARAMETER WorkspaceName
Log Analytics workspace of the trust. It must exist.

.PARAMETER WorkspaceResourceGroup
Its resource group. Default: ResourceGroupName.

.PARAMETER AlertEmailAddresses
Who is mailed by every alarm.

.PARAMETER TargetType
LogsIngestion, EventHub, StorageBlob, S3, or the retired LogAnalytics; several
with semicolons between them. What StorageBlob and S3 need is given in the
parameter file.

.PARAMETER EventHubNamespace
Namespace of the existing event hub.

.PARAMETER EventHubName
The existing event hub.

.PARAMETER EventHubResourceGroup
Its resource group. Default: ResourceGroupName.

.PARAMETER EventHubAccessKeyName
Shared access policy to send with. Without it the app's own identity sends,
which is better: there is then no key.

.PARAMETER PackagePath
The package. Default: defender-alert-export.zip beside the folder scripts. Its
hash comes from PackageSha256 or the file FILE.sha256 beside it.

.PARAMETER PackageUri
The package as an asset of one named GitHub release, instead of PackagePath.

.PARAMETER PackageSha256
The package's SHA-256. Required with PackageUri.

.PARAMETER PredecessorAppName
Name of the predecessor's app, if the resource group has more than one.

.PARAMETER IgnorePredecessor
Takes nothing over from a predecessor in the resource group.

.PARAMETER StopPredecessor
Stops the predecessor, once this exporter's newest heartbeat is good.

.PARAMETER ResetSettings
Forgets the settings the app has now: values not given become the defaults.

.PARAMETER SkipCheck
Leaves out a check that is wrong about your case: Region, Permissions, or
Network, which keeps a closed storage account and vault from being opened.

.PARAMETER HeartbeatMinutes
How long to wait for the first heartbeat; 0 leaves that test out. Default: 35
minutes and the time between two runs, because a new role can take 30 minutes to
arrive. A new table shows its first rows after 10 to 15 minutes more.

.EXAMPLE
./scripts/Deploy-DefenderAlertExport.ps1 -TenantId $t -SubscriptionId $s -ResourceGroupName rg-defender-export -ParameterFile ./infra/main.bicepparam -WhatIf

Shows what would change and changes nothing.

.EXAMPLE
./scripts/Deploy-DefenderAlertExport.ps1 -TenantId $t -SubscriptionId $s -ResourceGroupName rg-defender-export -ParameterFile ./infra/main.bicepparam

Deploys or upgrades.

.LINK
infra/README.md
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High')]
param(
    [Parameter(Mandatory = $true)][ValidatePattern('^[0-9a-fA-F-]{36}$')][string]$TenantId,
    [Parameter(Mandatory = $true)][ValidatePattern('^[0-9a-fA-F-]{36}$')][string]$SubscriptionId,
    [Parameter(Mandatory = $true)][ValidatePattern('^[-\w\._\(\)]{1,90}$')][string]$ResourceGroupName,
    [string]$ParameterFile,
    [hashtable]$Parameter = @{},
    [string]$Location,
    [string]$DefenderTenantId,
    [string]$DefenderClientAppId,
    [string]$TrustName,
    [string[]]$DeviceGroups,
    [string]$WorkspaceName,
    [string]$WorkspaceResourceGroup,
    [string[]]$AlertEmailAddresses,
    [string]$TargetType,
    [string]$EventHubNamespace,
    [string]$EventHubName,
    [string]$EventHubResourceGroup,
    [string]$EventHubAccessKeyName,
    [string]$PackagePath,
    [string]$PackageUri,
    [string]$PackageSha256,
    [string]$PredecessorAppName,
    [switch]$IgnorePredecessor,
    [switch]$StopPredecessor,
    [switch]$ResetSettings,
    [ValidateSet('Region', 'Permissions', 'Network')][string[]]$SkipCheck = @(),
    [ValidateRange(0, 120)][int]$HeartbeatMinutes = 40
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$here = Split-Path -Parent -Path $MyInvocation.MyCommand.Path
foreach ($file in @('azure', 'settings', 'checks', 'package', 'selftest', 'plan')) {
    . (Join-Path -Path $here -ChildPath "deployment/$file.ps1")
}
$root = Split-Path -Parent -Path $here
$template = Join-Path -Path $root -ChildPath 'infra/main.bicep'
if (-not $PackagePath) { $PackagePath = Join-Path -Path $root -ChildPath 'defender-alert-export.zip' }

# Parameters above that are parameters of main.bicep too, under the same name.
$templateNames = @(
    'Location', 'DefenderTenantId', 'DefenderClientAppId', 'TrustName', 'DeviceGroups', 'WorkspaceName',
    'WorkspaceResourceGroup', 'AlertEmailAddresses', 'TargetType', 'EventHubNamespace', 'EventHubName',
    'EventHubResourceGroup', 'EventHubAccessKeyName'
)

function Stop-OnFault {
    # All faults of one stage at once.
    param([string[]]$Faults)
    $real = @($Faults | Where-Object { -not [string]::IsNullOrEmpty($_) })
    if ($real.Count -eq 0) { return }
    throw "Nothing was deployed, because of:`n$(($real | ForEach-Object { "  - $_" }) -join "`n")"
}

function Write-NextStep {
    param([Parameter(Mandatory = $true)][string]$Title, [string[]]$Steps = @())
    Write-Line ''
    Write-Line $Title
    foreach ($step in $Steps) { Write-Line "  - $step" }
}

$folder = Join-Path -Path ([IO.Path]::GetTempPath()) -ChildPath ([guid]::NewGuid().ToString())
New-Item -ItemType Directory -Path $folder -WhatIf:$false -Confirm:$false | Out-Null
try {
    Write-Line '1. Checks'
    Stop-OnFault -Faults @(Test-Module)
    Stop-OnFault -Faults @(Test-Context -TenantId $TenantId -SubscriptionId $SubscriptionId)

    $groupId = "/subscriptions/$SubscriptionId/resourceGroups/$ResourceGroupName"
    $group = Invoke-Arm -Method GET -Path "${groupId}?api-version=2021-04-01" -MissingIsNull
    $apps = @()
    if ($null -ne $group -and (Get-ProviderState -SubscriptionId $SubscriptionId -Name 'Microsoft.Web') -eq 'Registered') {
        $apps = @(Find-Exporter -GroupId $groupId)
    }

    $given = @{}
    if ($ParameterFile) { $given = Read-ParameterFile -Path $ParameterFile }
    foreach ($name in $Parameter.Keys) { $given[$name] = $Parameter[$name] }
    foreach ($name in $templateNames) {
        if ($PSBoundParameters.ContainsKey($name)) {
            $given[$name.Substring(0, 1).ToLowerInvariant() + $name.Substring(1)] = $PSBoundParameters[$name]
        }
    }
    $choice = Select-App -Apps $apps -Named ([string]$given['functionAppName']) -PredecessorName $PredecessorAppName -Ignore:$IgnorePredecessor
    $plan = New-Plan -Choice $choice -Given $given -TemplatePath $template -Reset:$ResetSettings
    $values = $plan.Chosen
    foreach ($note in $plan.Notes) { Write-Line "  $note" }
    Stop-OnFault -Faults @(@(Test-Name -Values $given -TemplatePath $template) + @(Test-Value -Values $values))

    $target = Find-Target -Values $values -SubscriptionId $SubscriptionId -ResourceGroupName $ResourceGroupName -MayOpen:($SkipCheck -contains 'Network')
    foreach ($note in $target.Notes) { Write-Line "  $note" }
    if (-not $values['location']) { $values['location'] = [string](Get-Part -From $group -Path 'location') }
    if (-not $values['location']) { Stop-OnFault -Faults @("The resource group $ResourceGroupName does not exist yet, so Location is needed, for example uksouth.") }

    $providers = @(Get-NeededProvider -Values $values)
    $faults = @($target.Faults)
    if ($values['planKind'] -in @($null, 'FlexConsumption') -and $SkipCheck -notcontains 'Region') {
        $faults += @(Test-Region -SubscriptionId $SubscriptionId -Location $values['location'])
    }
    if ($SkipCheck -notcontains 'Permissions') {
        $needed = Get-NeededAction -Values $values
        $groupScope = if ($null -ne $group) { $groupId } else { "/subscriptions/$SubscriptionId" }
        $faults += @(Test-Permission -Scope $groupScope -Actions $needed.Group -Where "the resource group $ResourceGroupName")
        $faults += @(Test-Permission -Scope $target.WorkspaceScope -Actions $needed.Workspace -Where "the workspace's resource group")
        if ($target.HubScope) { $faults += @(Test-Permission -Scope $target.HubScope -Actions $needed.Hub -Where "the event hub's resource group") }
    }
    $package = $null
    try { $package = Get-Package -Path $PackagePath -Uri $PackageUri -Hash $PackageSha256 -Folder $folder }
    catch { $faults += $_.Exception.Message }
    $compiled = Join-Path -Path $folder -ChildPath 'main.json'
    try { Invoke-Bicep -Arguments @('build', $template, '--outfile', $compiled) | Out-Null }
    catch { $faults += $_.Exception.Message }
    # Last, and only if all else is well: registering is a change.
    $look = $WhatIfPreference -or @($faults | Where-Object { $_ }).Count -gt 0
    $faults += @(Register-Provider -SubscriptionId $SubscriptionId -Names $providers -Look:$look)
    Stop-OnFault -Faults $faults
    Write-Line "  all passed. Package: $($package.Sha256)"

    Write-Line '2. What would change'
    if ($null -ne $group) {
        # Placeholders for secrets: what is compared is also shown.
        $shown = Get-DeploymentValue -Values $values -WithoutSecrets
        $changes = Get-AzResourceGroupDeploymentWhatIfResult -ResourceGroupName $ResourceGroupName -TemplateFile $compiled -TemplateParameterObject $shown
        Write-Line ($changes | Out-String -Width 160)
        Write-Line '  Lines about app settings and secrets are compared with placeholders, so that none is shown; they look changed when they are not.'
    }
    else {
        Write-Line "  The resource group $ResourceGroupName does not exist yet, so everything in infra/main.bicep is new. In the workspace only what the README's picture shows is added."
    }
    if (-not $PSCmdlet.ShouldProcess("$ResourceGroupName in subscription $SubscriptionId", 'Deploy the Defender alert export')) {
        Write-Line 'Nothing was changed.'
        exit 0
    }

    Write-Line '3. Infrastructure'
    if ($null -eq $group) {
        New-AzResourceGroup -Name $ResourceGroupName -Location $values['location'] -Force -Confirm:$false | Out-Null
    }
    $caller = Get-Caller
    if (-not $values['deployerPrincipalId']) {
        $values['deployerPrincipalId'] = $caller.Id
        $values['deployerPrincipalType'] = $caller.Kind
    }
    $keyBefore = Get-SessionKeyVersion -GroupId $groupId -VaultName ([string]$values['keyVaultName'])
    $began = [datetime]::UtcNow
    $deployment = New-AzResourceGroupDeployment -ResourceGroupName $ResourceGroupName -Name "defender-alert-export-$($began.ToString('yyyyMMddHHmmss'))" `
        -TemplateFile $compiled -TemplateParameterObject (Get-DeploymentValue -Values $values) -Confirm:$false
    if ($deployment.ProvisioningState -ne 'Succeeded') {
        throw "The deployment ended as $($deployment.ProvisioningState). The Azure portal shows why: resource group $ResourceGroupName, Deployments. Run this script again after mending it."
    }
    $appName = [string]$deployment.Outputs['functionAppName'].Value
    $portalUrl = [string]$deployment.Outputs['portalUrl'].Value
    $containerUrl = [string]$deployment.Outputs['packageContainerUrl'].Value
    $heartbeatTable = [string]$deployment.Outputs['heartbeatTable'].Value
    $siteId = "$groupId/providers/Microsoft.Web/sites/$appName"
    $problems = @()
    $keyAfter = Get-SessionKeyVersion -GroupId $groupId -VaultName ([string]$values['keyVaultName'])
    if ($keyBefore -and $keyAfter -ne $keyBefore) {
        $problems += 'The key that seals the sign-in was replaced, which must not happen. The stored sign-in cannot be opened any more: sign in again on the portal page, and report this.'
    }
    Write-Line "  deployed: $appName"

    Write-Line '4. Package'
    $blob = 'released-package.zip'
    if ($values['planKind'] -notin @($null, 'FlexConsumption')) {
        $blob = if ($values['packageBlobName']) { [string]$values['packageBlobName'] } else { 'defender-alert-export.zip' }
    }
    Publish-Package -Package $package -ContainerUrl $containerUrl -BlobName $blob -SiteId $siteId
    # A heartbeat of before would be that of the program that was replaced.
    $uploaded = [datetime]::UtcNow
    Write-Line '  uploaded'

    Write-Line '5. Tests'
    $problems += @(Test-FunctionList -SiteId $siteId -Expected $FunctionNames)
    $problems += @(Test-Handler -SiteId $siteId -PortalUrl $portalUrl)
    $steps = @($deployment.Outputs['nextSteps'].Value | Select-Object -Skip 1 | ForEach-Object { [string]$_ })
    $isNew = $null -eq $choice.Ours
    if (-not $PSBoundParameters.ContainsKey('HeartbeatMinutes') -and $values['runEveryMinutes']) {
        $HeartbeatMinutes = 35 + [int]$values['runEveryMinutes']
    }
    $notes = @()
    $heartbeat = $null
    if ($isNew) {
        # Before the wait: Cloud Shell may be closed when it ends.
        Write-NextStep -Title 'Deployed. You can do this now; what follows here only waits and looks:' -Steps $steps
        Write-Line '  Cloud Shell closes after 20 minutes without a key pressed. Nothing is lost by that.'
        Write-Line ''
    }
    if ($HeartbeatMinutes -gt 0 -and $values['sendHeartbeat'] -ne $false) {
        $where = @{ WorkspaceCustomerId = $target.WorkspaceCustomerId; Table = $heartbeatTable; TrustName = $values['trustName']; Minutes = $HeartbeatMinutes }
        $heartbeat = Wait-Heartbeat -Since $uploaded @where
        if ($null -ne $heartbeat) { $heartbeat = Wait-Secret -Heartbeat $heartbeat -Where $where -SiteId $siteId }
        if ($null -eq $heartbeat) {
            $missing = "No heartbeat of $($values['trustName']) is in $heartbeatTable after $HeartbeatMinutes minutes."
            $look = "If the query DefenderExportHeartbeat is still empty in half an hour, open timer_export of $appName in the Azure portal: its runs say what is wrong."
            if ($isNew) {
                $notes += "$missing In the first hour that is normal, signed in or not: a new role takes up to 30 minutes, and the first rows of a new table 15 more. Nothing is lost meanwhile. $look The alarm 'no heartbeat' stays raised until there is one."
            }
            else { $problems += "$missing If this deployment gave the app a new role or made a new table, wait: that takes up to an hour, and nothing is lost meanwhile. $look" }
        }
        else {
            Write-Line "  heartbeat: $($heartbeat.Status). $($heartbeat.Message)"
            $said = Get-HeartbeatVerdict -Heartbeat $heartbeat -IsNew:$isNew
            $problems += $said.Problems
            $notes += $said.Notes
        }
    }
    else { Write-Line '  heartbeat: not waited for' }

    if ($choice.Predecessor) {
        $old = $choice.Predecessor
        if ($StopPredecessor -and $null -ne $heartbeat -and $heartbeat.Status -in @('Ok', 'CatchingUp', 'SignInExpiring')) {
            Invoke-Arm -Method POST -Path "$($old.Id)/stop?api-version=2024-04-01" | Out-Null
            Write-Line "  The predecessor $($old.Name) is stopped. infra/README.md says how to go back, and when to delete it."
        }
        elseif ($StopPredecessor) {
            $problems += "The predecessor $($old.Name) was not stopped, because this exporter's newest heartbeat is not good yet."
        }
        else {
            Write-Line "  The predecessor $($old.Name) still runs. When the heartbeat says Ok, run the same command with -StopPredecessor."
        }
    }

    Write-Line 'Keep two things where your team finds them in a year: your parameter file, the only place with everything you chose, and the deployment zip, which says how to operate this and has the commands for it.'
    # Told and not run: what it finds must not hide how the deployment ended.
    Write-Line "To check everything once, now or later: python3 ./scripts/doctor.py --subscription '$SubscriptionId' --resource-group '$ResourceGroupName' --app '$appName'"
    $problems = @($problems | Where-Object { -not [string]::IsNullOrEmpty($_) })
    if ($problems.Count -gt 0) { Write-NextStep -Title 'Deployed, but:' -Steps @($problems + $notes) }
    elseif ($notes.Count -gt 0) { Write-NextStep -Title 'Deployed. To know:' -Steps $notes }
    else { Write-NextStep -Title 'Deployed and tested.' }
    # Whatever was wrong: without a sign-in no alert flows. Where the heartbeat
    # says another thing, that stands above and comes first.
    if ($null -eq $heartbeat -or $heartbeat.Status -eq 'SignInNeeded') {
        Write-NextStep -Title 'What is left to do:' -Steps $steps
    }
    if ($problems.Count -gt 0) { exit 1 }
    exit 0
}
catch {
    Write-Line ''
    Write-Line "Stopped. $($_.Exception.Message)"
    Write-Verbose -Message $_.ScriptStackTrace
    exit 1
}
finally {
    Remove-Item -LiteralPath $folder -Recurse -Force -WhatIf:$false -Confirm:$false -ErrorAction SilentlyContinue
}
