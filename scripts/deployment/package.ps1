# The package: where it comes from, that it is the right one, and into the app.
# Dot-sourced; defines functions and nothing else.

$FunctionNames = @('entity_state', 'orchestrator', 'portal', 'timer_export')

function Get-Package {
    # Path of a package whose hash is known. A release asset is loaded only with
    # a hash to hold it against: what an address serves can change.
    param(
        [string]$Path,
        [string]$Uri,
        [string]$Hash,
        [Parameter(Mandatory = $true)][string]$Folder
    )
    if ($Uri) {
        if ($Uri -notmatch '^https://github\.com/[^/]+/[^/]+/releases/download/[^/]+/[^/?#]+\.zip$' -or $Uri -match '/releases/download/latest/') {
            throw 'PackageUri must be an asset of one named release: https://github.com/OWNER/REPOSITORY/releases/download/TAG/FILE.zip'
        }
        if (-not $Hash) { throw 'PackageUri needs PackageSha256, the hash that the release shows for the file.' }
        $Path = Join-Path -Path $Folder -ChildPath 'defender-alert-export.zip'
        Write-Line "  loading $Uri"
        [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
        Invoke-WebRequest -Uri $Uri -OutFile $Path -UseBasicParsing -ErrorAction Stop
    }
    if (-not (Test-Path -LiteralPath $Path -PathType Leaf)) {
        throw "There is no package $Path. It is in the deployment zip of a release, and scripts/build-package.sh makes it."
    }
    if (-not $Hash) {
        $beside = "$Path.sha256"
        if (-not (Test-Path -LiteralPath $beside -PathType Leaf)) {
            throw "Nothing says what $Path should be: neither PackageSha256 nor a file $beside."
        }
        $Hash = ((Get-Content -LiteralPath $beside -Raw).Trim() -split '\s+')[0]
    }
    if ($Hash -notmatch '^[0-9A-Fa-f]{64}$') { throw 'PackageSha256 must be 64 hexadecimal digits.' }
    $is = (Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash
    if ($is -ne $Hash) {
        throw "The package is not what it should be. SHA-256 expected $($Hash.ToLowerInvariant()), found $($is.ToLowerInvariant()). Load it again; if it stays so, do not use it and tell the central team."
    }
    Test-PackageContent -Path $Path
    return @{ Path = (Resolve-Path -LiteralPath $Path).ProviderPath; Sha256 = $is.ToLowerInvariant() }
}

function Test-PackageContent {
    # Everything the Functions host needs is in the zip, and may be run.
    param([Parameter(Mandatory = $true)][string]$Path)
    Add-Type -AssemblyName System.IO.Compression.FileSystem
    $archive = [IO.Compression.ZipFile]::OpenRead((Resolve-Path -LiteralPath $Path).ProviderPath)
    try {
        $names = @($archive.Entries | ForEach-Object { $_.FullName })
        foreach ($needed in @('host.json', 'defender-alert-export') + @($FunctionNames | ForEach-Object { "$_/function.json" })) {
            if ($names -cnotcontains $needed) { throw "The package lacks $needed, so it is not a package of this exporter." }
        }
        $program = $archive.GetEntry('defender-alert-export')
        # Windows PowerShell on a framework before 4.7.2 does not show modes.
        if ($null -ne $program.PSObject.Properties['ExternalAttributes'] -and -not (($program.ExternalAttributes -shr 16) -band 73)) {
            throw 'The program in the package may not be run (its mode lacks x). The zip was unpacked and packed again; use the one from the release.'
        }
    }
    finally { $archive.Dispose() }
}

function Publish-Package {
    # Uploads the package to where the plan takes it from, restarts the app and
    # has its triggers taken over.
    # Flex Consumption takes released-package.zip from its deployment container;
    # the other plans run the blob that WEBSITE_RUN_FROM_PACKAGE names.
    param(
        [Parameter(Mandatory = $true)][hashtable]$Package,
        [Parameter(Mandatory = $true)][string]$ContainerUrl,
        [Parameter(Mandatory = $true)][string]$BlobName,
        [Parameter(Mandatory = $true)][string]$SiteId
    )
    $address = [uri]$ContainerUrl
    $account = $address.Host.Split('.')[0]
    $context = New-AzStorageContext -StorageAccountName $account -UseConnectedAccount -ErrorAction Stop
    $upload = @{
        File        = $Package.Path
        Container   = $address.AbsolutePath.Trim('/')
        Blob        = $BlobName
        Context     = $context
        Properties  = @{ ContentType = 'application/zip' }
        Metadata    = @{ sha256 = $Package.Sha256 }
        Force       = $true
        Confirm     = $false
        ErrorAction = 'Stop'
    }
    # The role on the container was given a moment ago and takes minutes to arrive.
    $script:uploadFault = ''
    $ask = {
        try {
            Set-AzStorageBlobContent @upload | Out-Null
            return $true
        }
        catch {
            $script:uploadFault = $_.Exception.Message
            if ($script:uploadFault -notmatch '403|Authorization|not authorized') { throw }
            return $false
        }
    }
    if (-not (Wait-Until -Ask $ask -Minutes 10 -For 'your role on the package container to arrive' -EverySeconds 20)) {
        throw "The package could not be uploaded: the storage account still refuses. If it is open only to a private network, run this script from a machine on that network. Otherwise run it again in half an hour: a role can take that long. Azure said: $($script:uploadFault)"
    }
    Invoke-Arm -Method POST -Path "$SiteId/restart?api-version=2024-04-01" | Out-Null
    # The scale controller learns of the timer by this; it refuses while the
    # host is still starting. If it goes on refusing, the tests below say so.
    $ask = {
        try {
            Invoke-Arm -Method POST -Path "$SiteId/syncfunctiontriggers?api-version=2024-04-01" | Out-Null
            return $true
        }
        catch {
            Write-Verbose -Message "triggers not taken over yet: $($_.Exception.Message)"
            return $false
        }
    }
    Wait-Until -Ask $ask -Minutes 5 -For 'the app to take over its triggers' | Out-Null
}
