<#
.SYNOPSIS
Removes a deployment of the Defender alert export.

.DESCRIPTION
Removes the app, its plan, its data collection rule, its log, its alarms, its
workbook, its private endpoints and its role assignments; asks before each.

Stays, unless you say otherwise: the storage account with the saved time, the
sealed sign-in and quarantined alerts, and the key vault (-IncludeState); the
workspace functions and the Sentinel rule, which other exporters that send to the
same workspace use too (-IncludeWorkspaceItems).

Stays always: the workspace, its tables and every row in them.

Sign out on the portal page first. Otherwise the sign-in goes on being valid,
and anybody who gets both storage and key could use it: then ask the central team
to revoke the account's sessions.

Exit code 0: done. 1: not done; the line above says why.

.PARAMETER TenantId
Tenant it is deployed to.

.PARAMETER SubscriptionId
Subscription it is deployed to.

.PARAMETER ResourceGroupName
Resource group of the app.

.PARAMETER FunctionAppName
The app, if the resource group has more than one exporter.

.PARAMETER IncludeState
Removes the storage account and the key vault too. A new deployment then starts
without saved time and needs a new sign-in. The vault can be brought back for 90
days; the storage account cannot.

.PARAMETER IncludeWorkspaceItems
Removes the functions DefenderRawAlert, DefenderExportHeartbeat,
DefenderExportAudit and DefenderExportRecordHead and the Sentinel rule from the
workspace.

.PARAMETER WorkspaceName
The workspace, for IncludeWorkspaceItems.

.PARAMETER WorkspaceResourceGroup
Its resource group. Default: ResourceGroupName.

.EXAMPLE
./scripts/Remove-DefenderAlertExport.ps1 -TenantId $t -SubscriptionId $s -ResourceGroupName rg-defender-export -WhatIf

Shows what would be removed and removes nothing.

.LINK
infra/README.md
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High')]
param(
    [Parameter(Mandatory = $true)][ValidatePattern('^[0-9a-fA-F-]{36}$')][string]$TenantId,
    [Parameter(Mandatory = $true)][ValidatePattern('^[0-9a-fA-F-]{36}$')][string]$SubscriptionId,
    [Parameter(Mandatory = $true)][ValidatePattern('^[-\w\._\(\)]{1,90}$')][string]$ResourceGroupName,
    [string]$FunctionAppName,
    [switch]$IncludeState,
    [switch]$IncludeWorkspaceItems,
    [string]$WorkspaceName,
    [string]$WorkspaceResourceGroup
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$here = Split-Path -Parent -Path $MyInvocation.MyCommand.Path
foreach ($file in @('azure', 'settings', 'checks', 'plan', 'removal')) {
    . (Join-Path -Path $here -ChildPath "deployment/$file.ps1")
}

try {
    $faults = @(Test-Module)
    if ($faults.Count -eq 0) { $faults = @(Test-Context -TenantId $TenantId -SubscriptionId $SubscriptionId) }
    if ($IncludeWorkspaceItems -and -not $WorkspaceName) { $faults += 'IncludeWorkspaceItems needs WorkspaceName.' }
    if ($faults.Count -gt 0) { throw "Nothing was removed, because of:`n$(($faults | ForEach-Object { "  - $_" }) -join "`n")" }

    $groupId = "/subscriptions/$SubscriptionId/resourceGroups/$ResourceGroupName"
    $apps = @(Find-Exporter -GroupId $groupId)
    $choice = Select-App -Apps $apps -Named $FunctionAppName -Ignore
    $app = $choice.Ours
    if (-not $app) { throw "The resource group $ResourceGroupName has no exporter$(if ($FunctionAppName) { " named $FunctionAppName" })." }

    $items = @(Get-OwnItem -GroupId $groupId -App $app)
    if ($IncludeState) { $items += @(Get-StateItem -GroupId $groupId -App $app -Others @($apps | Where-Object { $_.Id -ne $app.Id })) }
    if ($IncludeWorkspaceItems) {
        $workspaceGroup = if ($WorkspaceResourceGroup) { $WorkspaceResourceGroup } else { $ResourceGroupName }
        $workspaceId = "/subscriptions/$SubscriptionId/resourceGroups/$workspaceGroup/providers/Microsoft.OperationalInsights/workspaces/$WorkspaceName"
        $items += @(Get-WorkspaceItem -WorkspaceId $workspaceId)
    }

    $removed = 0
    foreach ($item in $items) {
        if (-not $PSCmdlet.ShouldProcess($item.Id, "Remove the $($item.What)")) { continue }
        Remove-AzResource -ResourceId $item.Id -ApiVersion $item.Version -Force -Confirm:$false | Out-Null
        Write-Line "  removed the $($item.What): $($item.Id.Split('/')[-1])"
        $removed++
    }
    Write-Line ''
    Write-Line "$removed of $($items.Count) removed. The workspace and its tables stay."
    if (-not $IncludeState) { Write-Line 'The storage account and the key vault stay: a new deployment in the same resource group goes on where this one stopped.' }
    Write-Line 'If you did not sign out on the portal page before, ask the central team to revoke the sessions of the export account.'
    exit 0
}
catch {
    Write-Line ''
    Write-Line "Stopped. $($_.Exception.Message)"
    Write-Verbose -Message $_.ScriptStackTrace
    exit 1
}
