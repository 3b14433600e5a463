"""Scripts, Bicep, function folders and README name the same things.

A name that one side changes and the other keeps fails only in Azure, at a trust.
"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAIN = ROOT / "infra" / "main.bicep"
EXPORTER = ROOT / "infra" / "modules" / "exporter.bicep"
README = ROOT / "infra" / "README.md"
SCRIPTS = sorted((ROOT / "scripts").glob("*.ps1")) + sorted((ROOT / "scripts" / "deployment").glob("*.ps1"))

# The variables of the predecessor's script, which trusts have filled in.
PREDECESSOR = """
tenantId subscriptionId FunctionConfigMDETenantId FunctionConfigMDEClientAppId FunctionConfigAlertTargetType
LogAnalyticsResourceGroupName LogAnalyticsWorkspaceName EventHubResourceGroupName FunctionConfigEventHubNamespace
FunctionConfigEventHubName FunctionConfigEventHubAccessKeyName randomIdentifier location functionAppResourceGroup tag
storage functionApp skuStorage functionsVersion pythonVersion FunctionConfigSendHeartbeatToLogAnalytics
FunctionConfigUse_last_saved_time FunctionConfigLogAnalyticsTableName FunctionConfigStorageTable
FunctionConfigStorageContainer FunctionConfigLoggingLevel filepath resourceProviderName
FunctionConfigLogAnalyticsKeyValue FunctionConfigLogAnalyticsWorkspaceId FunctionConfigEventHubAccessKeyValue
FunctionConfigEventHubAccessKeyType FunctionConfigQueryDepth FunctionConfigLoggingType
""".split()

# Settings the template works out by itself, which no parameter stands for.
WORKED_OUT = {
    "FunctionConfigTimerSchedule",
    "FunctionConfigSessionKey",
    "FunctionConfigSessionKeyPrevious",
    "FunctionConfigLogsIngestionEndpoint",
    "FunctionConfigLogsIngestionRuleId",
    "FunctionConfigLogAnalyticsWorkspaceId",
    "FunctionConfigLogAnalyticsKeyValue",
    "FunctionConfigEventHubAccessKeyValue",
    "FunctionConfigS3SecretAccessKey",
}


def text(path):
    return path.read_text(encoding="utf-8")


def scripts():
    return "\n".join(text(path) for path in SCRIPTS)


class PredecessorVariables(unittest.TestCase):
    def test_each_has_a_row_in_the_readme(self):
        rows = [line for line in text(README).splitlines() if line.startswith("|")]
        for variable in PREDECESSOR:
            with self.subTest(variable):
                self.assertTrue(any(f"`${variable}`" in row.split("|")[1] for row in rows), f"no row for ${variable}")


class Costs(unittest.TestCase):
    def test_sums_in_the_readme_are_right(self):
        page = text(README)
        row = page[page.index("| **rows together") : page.index("| runs: ")]
        total = page[page.index("| **dollars a month**") :].splitlines()[0]
        runs = round(288 * 30.4)
        self.assertIn(f"{runs:,} a month", page)
        self.assertIn(f"{runs * 50:,} operations", page)
        self.assertIn(f"{runs * 2.5:,.0f} GB-s", page)
        asked = re.findall(r"^    minutes: (\w+)$", text(ROOT / "infra" / "modules" / "monitoring.bicep"), re.MULTILINE)
        rare = sum(minutes.isdigit() and int(minutes) > 60 for minutes in asked)
        self.assertIn(f"{len(asked) - rare} x 1.50 + {rare} x 0.50 (P4) | {(len(asked) - rare) * 1.5 + rare * 0.5:.2f} |", page)
        for alerts in (10, 100, 1000):
            gigabytes = (alerts * 4 * 6 * 30.4 + runs * 1 + runs * 15) / 1e6
            self.assertIn(f"{gigabytes:.3f} GB, {gigabytes * 4.30:.2f}", row)
            dollars = round(gigabytes * 4.30, 2) + round(runs * 50 / 10_000 * 0.05, 2) + (len(asked) - rare) * 1.50 + rare * 0.50
            self.assertIn(f"**{dollars:.2f}**", total)
        for more in (runs * 2.5 * 0.000026, 4 * 730 * 0.01, 0.5 * 30.4 * 86_400 * 0.000004):
            self.assertIn(f"= {more:.2f}", page)


@unittest.skipUnless(MAIN.exists(), "infra/main.bicep is not in this work tree")
class Bicep(unittest.TestCase):
    def setUp(self):
        self.parameters = set(re.findall(r"^param (\w+) ", text(MAIN), re.MULTILINE))
        self.outputs = set(re.findall(r"^output (\w+) ", text(MAIN), re.MULTILINE))
        self.settings = set(re.findall(r"\b(FunctionConfig\w+):", text(EXPORTER)))

    def test_has_every_parameter_the_scripts_name(self):
        named = set(re.findall(r"\$(?:[Vv]alues|[Gg]iven|ready)\['(\w+)'\]", scripts()))
        named |= {parameter for parameter, _ in re.findall(r"FunctionConfig\w+\s*= @\('(\w+)', '(text|bool|int|list)'\)", scripts())}
        block = re.search(r"\$templateNames = @\((.*?)\n\)", scripts(), re.DOTALL).group(1)
        named |= {name[0].lower() + name[1:] for name in re.findall(r"'(\w+)'", block)}
        self.assertGreater(len(named), 40, "the pattern above no longer finds the names")
        self.assertEqual(named - self.parameters, set())

    def test_what_the_page_says_is_forgotten_is_what_the_script_does_not_keep(self):
        kept = {parameter for parameter, _ in re.findall(r"FunctionConfig\w+\s*= @\('(\w+)', '(text|bool|int|list)'\)", scripts())}
        kept |= set(re.findall(r"\$values\['(\w+)'\] = ", re.search(r"function ConvertFrom-ExistingApp .*?\n}\n", scripts(), re.DOTALL).group(0)))
        kept |= {"storageSku", "location"}  # read from what is there: Find-Target
        self.assertGreater(len(kept), 40)
        line = next(line for line in text(README).splitlines() if line.startswith("- Everything else becomes the default again"))
        said = set(re.findall(r"`(\w+)`", line))
        families = tuple(re.findall(r"`(\w+)\.\.\.`", line))
        self.assertEqual(said - self.parameters, set())
        self.assertEqual((said | {name for name in self.parameters if name.startswith(families)}) & kept, set())
        # The rest: asked for, worked out anew each time, or in words.
        worked_out = {"workspaceName", "allowSharedKeyAccess", "classicAlertTable", "classicHeartbeatTable", "workspaceKey", "eventHubAccessKey", "sessionKey", "recoverDeletedVault", "deployerPrincipalId", "deployerPrincipalType", "s3SecretAccessKey", "packageBlobName"}
        in_words = {name for name in self.parameters if name.endswith(("ResourceGroup", "SubscriptionId", "Sku", "MemoryMB", "ZoneResourceGroupId"))}
        self.assertEqual({name for name in self.parameters if not name.startswith(families)} - kept - said - worked_out - in_words, set())

    def test_has_every_output_the_scripts_read(self):
        read = set(re.findall(r"Outputs\['(\w+)'\]", scripts()))
        self.assertGreater(len(read), 3)
        self.assertEqual(read - self.outputs, set())

    def test_settings_it_writes_are_the_settings_the_scripts_keep(self):
        kept = set(re.findall(r"(FunctionConfig\w+)\s*= @\('", scripts()))
        self.assertEqual(kept, self.settings - WORKED_OUT)

    def test_writes_settings_only_in_the_file_where_the_script_looks_for_their_names(self):
        looked_into = re.search(r"function Get-ManagedSettingName .*?\n}\n", scripts(), re.DOTALL).group(0)
        self.assertIn("-ChildPath 'modules/exporter.bicep'", looked_into)
        pattern = re.search(r"\$pattern = '(.+)'\n", looked_into).group(1)
        found = {path.name for path in (ROOT / "infra").rglob("*.bicep") if re.search(pattern, text(path))}
        self.assertEqual(found, {"exporter.bicep"})
        self.assertLessEqual(self.settings, set(re.findall(pattern, text(EXPORTER))))

    def test_names_what_removal_looks_for(self):
        for suffix in ("-plan", "-rule", "-log"):
            with self.subTest(suffix):
                self.assertIn(f"'${{place.functionAppName}}{suffix}'", text(EXPORTER))
        self.assertIn("ruleName: '${functionAppName}-rule'", text(MAIN), "what is watched is what is made")

    def test_takes_the_package_from_the_blob_the_script_writes(self):
        self.assertIn("param packageBlobName string = 'defender-alert-export.zip'", text(MAIN))
        self.assertIn("else { 'defender-alert-export.zip' }", scripts())

    def test_every_parameter_can_be_found_in_the_readme_or_the_example(self):
        known = text(README) + text(ROOT / "infra" / "main.example.bicepparam") + text(MAIN)
        for parameter in self.parameters:
            self.assertRegex(known, rf"\b{parameter}\b")


class Deploying(unittest.TestCase):
    """The order of what the person at the screen is told; nothing here runs PowerShell."""

    def setUp(self):
        self.script = text(ROOT / "scripts" / "Deploy-DefenderAlertExport.ps1")

    def place(self, words):
        self.assertEqual(self.script.count(words), 1, words)
        return self.script.index(words)

    def test_what_is_left_to_do_is_told_before_the_wait_and_whatever_the_end(self):
        waits, ends = self.place("Wait-Heartbeat "), self.place("    if ($problems.Count -gt 0) { exit 1 }\n    exit 0\n}\ncatch {")
        told = [found.start() for found in re.finditer(r"Write-NextStep .*-Steps \$steps", self.script)]
        self.assertEqual([place < waits for place in told], [True, False])
        self.assertLess(self.place("Outputs['nextSteps']"), told[0])
        self.assertLess(told[1], ends)
        after = self.script[waits:ends]
        self.assertNotIn("exit ", after, "nothing leaves between the wait and what is left to do")
        # Neither of the two hangs on whether there were problems.
        self.assertRegex(self.script, r"\n    if \(\$isNew\) \{\n.*\n        Write-NextStep .*-Steps \$steps")
        self.assertRegex(self.script, r"\n    if \(\$null -eq \$heartbeat -or .*\) \{\n        Write-NextStep .*-Steps \$steps")

    def test_a_heartbeat_that_is_not_there_yet_is_no_fault_of_a_first_deployment(self):
        self.assertRegex(self.script, r"if \(\$isNew\) \{\n\s*\$notes \+= \"\$missing[^\n]*\n\s*\}\n\s*else \{ \$problems \+= \"\$missing")

    def test_storage_that_is_closed_is_not_opened_because_a_line_is_missing_in_the_file(self):
        finds = re.search(r"function Find-Target .*?\n}\n", scripts(), re.DOTALL).group(0)
        (when,) = re.findall(r"\n            if \((.*)\) \{\n                \$faults \+= 'Storage and vault are closed to the Internet now", finds)
        self.assertEqual(when, "-not $MayOpen -and -not $Values['privateEndpointSubnetId'] -and (Get-Part -From $storage -Path 'properties.publicNetworkAccess') -eq 'Disabled'")
        self.assertIn("add -SkipCheck Network.", finds)
        (checks,) = re.findall(r"\[ValidateSet\(([^)]*)\)\]\[string\[\]\]\$SkipCheck", self.script)
        self.assertIn("'Network'", checks)
        self.assertLess(self.place("-MayOpen:($SkipCheck -contains 'Network')"), self.place("$faults = @($target.Faults)"))
        self.assertLess(self.place("$faults = @($target.Faults)"), self.place("New-AzResourceGroupDeployment "))
        # What the template closes, and by which parameter.
        self.assertIn("var isPrivate = !empty(place.privateEndpointSubnetId)", text(EXPORTER))

    def test_whoever_deployed_is_told_to_keep_the_file_and_the_zip_whatever_the_end(self):
        self.assertRegex(self.script, r"\n    Write-Line 'Keep two things [^\n]*your parameter file[^\n]*the deployment zip")
        self.assertLess(self.place("Get-HeartbeatVerdict "), self.place("Keep two things"))
        self.assertLess(self.place("Keep two things"), self.place("if ($problems.Count -gt 0) { exit 1 }"))

    def test_a_bicep_that_is_too_old_is_renewed_by_a_command_that_there_is(self):
        self.assertNotRegex(re.sub(r"az bicep upgrade", "", scripts()), r"bicep upgrade")
        # az puts it into a folder of its own, behind that of Cloud Shell's.
        self.assertIn("""'az bicep upgrade; $env:PATH = "$HOME/.azure/bin:$env:PATH"'""", scripts())

    def test_a_run_that_could_not_deliver_makes_the_deployment_fail_and_one_that_did_its_duty_does_not(self):
        rust = text(ROOT / "src" / "domain" / "heartbeat.rs")
        duty = rust.partition("fn did_its_duty")[2].partition("\n    }\n")[0]
        good, bad = (set(re.findall(r"Self::(\w+)", part)) for part in duty.split("=> true", 1))
        self.assertIn("ConfigInvalid", bad)
        verdict = re.search(r"function Get-HeartbeatVerdict .*?\n}\n", scripts(), re.DOTALL).group(0)
        clauses = {
            status: does
            for names, does in re.findall(r"^        (\{ \$_ -in @\(.*?\) \}|'\w+') \{ (.*) \}$", verdict, re.MULTILINE)
            for status in re.findall(r"'(\w+)'", names)
        }
        self.assertEqual(set(clauses), good - {"Reconciled"}, "the rest, and what is unknown here, is a problem")
        self.assertIn("\n        default { $verdict.Problems = @($said) }\n", verdict)
        self.assertEqual(clauses.pop("SignInNeeded"), "if (-not $IsNew) { $verdict.Problems = @($said) }")
        self.assertEqual({status for status, does in clauses.items() if "Problems" in does}, set())
        self.assertEqual({status for status, does in clauses.items() if does == "$verdict.Notes = @($said)"}, {"SignInExpiring", "ScopeViolation", "SourceThrottled"})
        for words in ("$($Heartbeat.Message)", "$($Heartbeat.NextStep)"):
            self.assertIn(words, verdict)
        told = self.place("Get-HeartbeatVerdict -Heartbeat $heartbeat -IsNew:$isNew\n            $problems += $said.Problems\n            $notes += $said.Notes\n")
        self.assertLess(told, self.place("if ($problems.Count -gt 0) { Write-NextStep -Title 'Deployed, but:'"))

    def test_a_secret_that_is_not_readable_yet_is_told_by_the_words_the_exporter_has_for_it(self):
        said = "Key Vault reference"
        self.assertRegex(text(ROOT / "src" / "config" / "reader.rs"), rf'"its {said} [^"]*resolved')
        tested = re.search(r"function Test-Secret .*?\n}\n", scripts(), re.DOTALL).group(0)
        (pattern,) = re.findall(r"-notmatch '(.*)'", tested)
        self.assertRegex(said, pattern)
        for page in (text(README), text(EXPORTER)):
            self.assertIn(said, page)
            self.assertIn("Pull reference values", page)

    def test_a_secret_that_is_not_readable_yet_is_read_again_before_it_is_called_a_fault(self):
        self.assertLess(self.place("Wait-Heartbeat -Since $uploaded @where"), self.place("Wait-Secret "))
        self.assertLess(self.place("Wait-Secret "), self.place("Get-HeartbeatVerdict "))
        waits = re.search(r"function Wait-Secret .*?\n}\n", scripts(), re.DOTALL).group(0)
        steps = ["Test-Secret", "Start-Sleep -Seconds 600", "configreferences/appsettings/refresh", "/restart?", "Wait-Heartbeat @Where"]
        self.assertEqual(sorted(steps, key=waits.index), steps, "read again before the restart, and looked at afterwards")
        self.assertIn("@(1, 2, 3)", waits)
        self.assertIn("three times, ten minutes apart", text(README))

    def test_who_is_signed_in_is_not_told_to_sign_in(self):
        (when,) = re.findall(r"if \((.*)\) \{\n        Write-NextStep -Title 'What is left to do:'", self.script)
        self.assertEqual(when, "$null -eq $heartbeat -or $heartbeat.Status -eq 'SignInNeeded'")

    def test_it_waits_longer_than_a_role_takes_to_arrive(self):
        least, every = re.search(r"\$HeartbeatMinutes = (\d+) \+ \[int\]\$values\['(runEveryMinutes)'\]", self.script).groups()
        usual = int(re.search(r"^param runEveryMinutes int = (\d+)$", text(MAIN), re.MULTILINE).group(1))
        self.assertGreater(int(least), 30)
        self.assertIn(f"[int]$HeartbeatMinutes = {int(least) + usual}\n", self.script)
        self.assertIn(f"Default: {least}\nminutes and the time between two runs", self.script)

    def test_the_heartbeat_waited_for_is_that_of_the_package_just_uploaded(self):
        self.assertLess(self.place("    Publish-Package "), self.place("$uploaded = [datetime]::UtcNow"))
        self.assertLess(self.place("$uploaded = [datetime]::UtcNow"), self.place("-Since $uploaded "))


class Example(unittest.TestCase):
    """The file every trust copies."""

    def setUp(self):
        self.example = text(ROOT / "infra" / "main.example.bicepparam")

    def test_is_deployed_by_the_script_that_checks_and_uploads(self):
        commands = re.findall(r"^//\s+(\./\S+|az) (.*)$", self.example, re.MULTILINE)
        self.assertEqual({program for program, _ in commands}, {"./scripts/Deploy-DefenderAlertExport.ps1"})
        for program, rest in commands:
            self.assertIn(f"{program} {rest}\n", text(README), "the page shows the same line")

    def test_asks_for_the_share_of_the_calls_as_the_page_and_the_central_team_do(self):
        quota, fleet = 1500, 250
        self.assertRegex(self.example, rf"(?m)^param callsPerHour = {quota // fleet}$")
        sends = next(line for line in text(README).splitlines() if line.startswith("Send the trust:"))
        fill_in = next(line for line in text(README).splitlines() if "Fill it in: " in line)
        for words in (sends, fill_in):
            self.assertIn("callsPerHour", words)
            self.assertIn(f"{fleet} trusts: {quota // fleet}", words)
        self.assertIn("(`callsPerHour` of the deployment) to 1,500 divided by the number of trusts", text(ROOT / "docs" / "quota.md"))


class Names(unittest.TestCase):
    def test_the_central_team_has_one_name(self):
        """Else a reader looks for a second one."""
        for path in [README, *SCRIPTS, *(ROOT / "infra").rglob("*.bicep*"), ROOT / "infra" / "workbook.json"]:
            with self.subTest(path.name):
                self.assertNotRegex(text(path), r"(?i)CSOC|team (?:that runs|of) the central")
        self.assertIn("\n- **The central team** runs the central tenant", text(README))

    def test_what_is_done_in_operation_stands_before_what_is_done_once(self):
        headings = re.findall(r"^## (.*)$", text(README), re.MULTILINE)
        self.assertLess(headings.index("Who is who"), headings.index("In operation"))
        self.assertLess(headings.index("In operation"), headings.index("Deploy, upgrade, remove"))
        operation = text(README).partition("\n## In operation\n")[2].partition("\n## ")[0]
        for heading in re.findall(r"^### (.*)$", operation, re.MULTILINE):
            anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            self.assertIn(f"](#{anchor})", text(README).partition("\n## ")[0], "the list of contents has it")


class Folders(unittest.TestCase):
    @unittest.skipUnless(list(ROOT.glob("*/function.json")), "no function folder is in this work tree")
    def test_are_the_functions_the_self_test_expects(self):
        expected = re.search(r"\$FunctionNames = @\(([^)]*)\)", scripts()).group(1)
        self.assertEqual(sorted(re.findall(r"'(\w+)'", expected)), sorted(found.parent.name for found in ROOT.glob("*/function.json")))


class EngineersTable(unittest.TestCase):
    def test_names_files_that_are_there(self):
        page = text(ROOT / "README.md")
        table = page[page.index("| change | file |") :].partition("\n\n")[0]
        folder, named = ROOT, []
        for row in table.splitlines()[2:]:
            for path in re.findall(r"`([\w./*-]+)`", row.split(" | ", 1)[1]):
                if "/" in path:
                    folder = ROOT / path.rsplit("/", 1)[0]
                elif "." not in path:
                    continue
                named.append((row, path))
                # A bare name stands for a file beside the one before it.
                found = list(ROOT.glob(path.rstrip("/"))) if "/" in path else [folder / path]
                self.assertTrue(found and found[0].exists(), f"{path} of {row}")
        self.assertGreater(len(named), 60)

    def test_counts_no_lines(self):
        self.assertNotRegex(text(ROOT / "README.md"), r"\(\d+ lines\)")


class Workflows(unittest.TestCase):
    def test_pin_every_action_by_its_full_commit(self):
        uses = [line.strip() for path in (ROOT / ".github" / "workflows").glob("*.yml") for line in text(path).splitlines() if "uses:" in line]
        self.assertGreater(len(uses), 3)
        for line in uses:
            with self.subTest(line):
                self.assertRegex(line, r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
