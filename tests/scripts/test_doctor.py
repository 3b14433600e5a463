"""doctor.py hands the right settings to the program, and shows none of them."""

import base64
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Prints what reached it and ends as a check that failed.
PROGRAM = """#!/bin/sh
printf '%s\\n' "$@"
env | grep -E '^(FunctionConfig|AzureWebJobs)' | sort
exit 1
"""
AZ = """#!/bin/sh
echo "$*" >>"$0.log"
case "$*" in
*"appsettings list --resource-group rg one --name app"*) cat "$APP_SETTINGS" ;;
*"secret show --id https://v.vault.azure.net/secrets/session-key --query"*) echo "from the vault" ;;
*) echo "refused: $*" >&2; exit 1 ;;
esac
"""


class Doctor(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.package = self.folder / "package.zip"
        with zipfile.ZipFile(self.package, "w") as archive:
            archive.writestr("defender-alert-export", PROGRAM)
        az = self.folder / "az"
        az.write_text(AZ)
        az.chmod(0o755)

    def run_it(self, *arguments, app_settings=None, around=()):
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin", **dict(around)}
        if app_settings is not None:
            listed = self.folder / "listed.json"
            listed.write_text(json.dumps([{"name": n, "value": v, "slotSetting": False} for n, v in app_settings.items()]))
            environment["APP_SETTINGS"] = str(listed)
        command = [sys.executable, ROOT / "scripts" / "doctor.py", "--package", self.package, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def settings(self, text):
        path = self.folder / "doctor.env"
        path.write_text(text)
        return path

    def asked(self):
        """Every line that the Azure CLI was run with."""
        return (self.folder / "az.log").read_text().splitlines()

    def test_before_the_deployment_a_file_is_taken_as_it_stands(self):
        path = self.settings("# mine\n\nFunctionConfigTrustName = R$(id)X; `x` \"y\"\nFunctionConfigSessionKey=abc=\n")
        done = self.run_it("--settings", path, "--json")
        lines = done.stdout.splitlines()
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertEqual((lines[0], lines[1], lines[3]), ("doctor", "--state-dir", "--json"))
        self.assertEqual(lines[4:], ["FunctionConfigSessionKey=abc=", 'FunctionConfigTrustName=R$(id)X; `x` "y"'])
        self.assertFalse(pathlib.Path(lines[2]).parent.exists(), "nothing is left behind")

    def test_without_a_key_a_throwaway_is_used_and_said(self):
        path = self.settings("FunctionConfigTrustName=RXX\n")
        keys = set()
        for _ in range(2):
            done = self.run_it("--settings", path)
            (line,) = [line for line in done.stdout.splitlines() if line.startswith("FunctionConfigSessionKey=")]
            self.assertEqual(len(base64.b64decode(line.partition("=")[2])), 32)
            self.assertIn("throwaway", done.stderr)
            keys.add(line)
        self.assertEqual(len(keys), 2)

    def test_after_the_deployment_the_apps_own_are_used_with_what_the_vault_holds(self):
        done = self.run_it(
            "--resource-group", "rg one", "--app", "app",
            app_settings={
                "FunctionConfigTrustName": "RXX",
                "FunctionConfigSessionKey": "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/session-key/)",
                "FunctionConfigEventHubAccessKeyValue": "@Microsoft.KeyVault(VaultName=v;SecretName=other)",
                "AzureWebJobsStorage__accountName": "st",
            },
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stdout.splitlines()[3:],
            ["AzureWebJobsStorage__accountName=st", "FunctionConfigSessionKey=from the vault", "FunctionConfigTrustName=RXX"],
        )
        self.assertIn("FunctionConfigEventHubAccessKeyValue is in the key vault and you may not read it", done.stderr)
        self.assertNotIn("from the vault", done.stderr)

    DEPLOYED = {
        "FunctionConfigTrustName": "RXX",
        "FunctionConfigSessionKey": "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/session-key/)",
        "FunctionConfigSessionKeyPrevious": "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/session-key/)",
        "AzureWebJobsStorage__accountName": "st",
    }

    def beside(self, *verb, **settings):
        """A verb beside the deployed app."""
        return self.run_it("--resource-group", "rg one", "--app", "app", *verb, app_settings={**self.DEPLOYED, **settings})

    def test_every_question_goes_to_the_subscription_that_was_named(self):
        done = self.run_it("--subscription", "the one", "--resource-group", "rg one", "--app", "app", app_settings=self.DEPLOYED)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(self.asked()), 3)
        for line in self.asked():
            self.assertTrue(line.endswith(" --subscription the one"), line)

    def test_without_a_subscription_the_azure_cli_takes_its_own(self):
        self.run_it("--resource-group", "rg one", "--app", "app", app_settings=self.DEPLOYED)
        self.assertNotIn("--subscription", " ".join(self.asked()))

    def test_what_lies_about_in_the_shell_is_not_the_apps(self):
        around = {"FunctionConfigDeviceGroups": "another trust", "AzureWebJobsStorage": "another account"}
        done = self.run_it("--resource-group", "rg one", "--app", "app", app_settings=self.DEPLOYED, around=around)
        self.assertNotIn("another", done.stdout)

    def test_beside_a_deployed_app_two_verbs_more_are_run_and_never_with_the_sign_ins_key(self):
        for verb in (["replay"], ["replay", "1", "3"], ["replay", "--all", "--json"], ["status", "--verify"]):
            with self.subTest(verb):
                done = self.beside(*verb)
                lines = done.stdout.splitlines()
                self.assertEqual((done.returncode, done.stderr), (1, ""))
                self.assertEqual((lines[0], lines[1], lines[3 : 2 + len(verb)]), (verb[0], "--state-dir", verb[1:]))
                settings = dict(line.partition("=")[::2] for line in lines[2 + len(verb) :])
                self.assertEqual(set(settings), {"AzureWebJobsStorage__accountName", "FunctionConfigSessionKey", "FunctionConfigTrustName"})
                self.assertNotIn("from the vault", done.stdout)
                self.assertEqual(len(base64.b64decode(settings["FunctionConfigSessionKey"])), 32)

    def test_what_would_use_the_sign_in_or_has_a_button_is_refused_and_says_where_it_is(self):
        for verb in (["sign-in"], ["sign-out"], ["resume"], ["backfill", "--from", "2026-01-01", "--to", "2026-01-02", "--dry-run"], ["status"], ["status", "--json"]):
            with self.subTest(verb):
                done = self.beside(*verb)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn("ortal page", done.stderr)
        for verb in ("serve", "run", "demo", "anything"):
            done = self.beside(verb)
            self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_a_verb_never_takes_this_machine_for_the_apps_storage(self):
        """It would say that nothing was set aside."""
        done = self.run_it("--settings", self.settings("FunctionConfigTrustName=RXX\n"), "replay")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--resource-group", done.stderr)
        done = self.beside("replay", AzureWebJobsStorage__accountName="")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("name no storage account", done.stderr)

    def test_a_verb_does_not_begin_without_a_secret_it_may_need(self):
        done = self.beside("replay", FunctionConfigS3SecretAccessKey="@Microsoft.KeyVault(VaultName=v;SecretName=other)")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("Key Vault Secrets User", done.stderr)

    def test_what_stops_it_is_said_without_a_value(self):
        wrong = self.settings("FunctionConfigSessionKey=a\nhunter2\n")
        done = self.run_it("--settings", wrong)
        self.assertEqual(done.returncode, 2)
        self.assertIn("line 2: not NAME=value", done.stderr)
        self.assertNotIn("hunter2", done.stdout + done.stderr)
        done = self.run_it("--resource-group", "another", "--app", "app", app_settings={})
        self.assertEqual(done.returncode, 2)
        self.assertIn("settings could not be read", done.stderr)
        self.assertIn("Check the subscription (--subscription), the resource group and the name; if they are right, the role Contributor", done.stderr)
        done = self.run_it("--settings", self.folder / "none.env")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.package.write_text("no zip")
        done = self.run_it("--settings", self.settings("A=b\n"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not the package", done.stderr)
        self.assertEqual(self.run_it("--app", "app").returncode, 2)

    def test_the_readme_and_the_deployment_name_it_as_it_is(self):
        readme = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
        script = (ROOT / "scripts" / "Deploy-DefenderAlertExport.ps1").read_text(encoding="utf-8")
        self.assertIn("python3 ./scripts/doctor.py --settings doctor.env", readme)
        for text in (readme, script):
            self.assertIn("python3 ./scripts/doctor.py --subscription ", text)
        self.assertIn("doctor.py --subscription '$SubscriptionId' --resource-group '$ResourceGroupName' --app '$appName'", script)
        for text in (readme, script):
            self.assertIn(" --resource-group ", text)
            self.assertIn(" --app ", text)

    def test_the_operators_page_says_how_each_verb_is_run_or_where_it_is(self):
        page = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
        self.assertIn("```sh\naz login --tenant TENANT\npython3 ./scripts/doctor.py", page)
        commands = re.findall(r"^python3 \./scripts/doctor\.py --subscription ID --resource-group rg-defender-export --app NAME *([^#\n]*?) *(?:#.*)?$", page, re.MULTILINE)
        self.assertEqual(commands, ["", "replay", "replay --all", "status --verify"])
        for command in commands:
            self.assertEqual(self.beside(*command.split()).returncode, 1, "the program ran")
        self.assertRegex(page, r"\(sign in, sign out, resume, backfill, status\) is on the portal page")


if __name__ == "__main__":
    unittest.main()
