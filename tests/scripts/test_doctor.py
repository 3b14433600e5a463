"""doctor.py hands the right settings to the program, and shows none of them."""

import base64
import json
import os
import pathlib
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

    def run_it(self, *arguments, app_settings=None):
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin"}
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

    def test_what_stops_it_is_said_without_a_value(self):
        wrong = self.settings("FunctionConfigSessionKey=a\nhunter2\n")
        done = self.run_it("--settings", wrong)
        self.assertEqual(done.returncode, 2)
        self.assertIn("line 2: not NAME=value", done.stderr)
        self.assertNotIn("hunter2", done.stdout + done.stderr)
        done = self.run_it("--resource-group", "another", "--app", "app", app_settings={})
        self.assertEqual(done.returncode, 2)
        self.assertIn("settings could not be read", done.stderr)
        done = self.run_it("--settings", self.folder / "none.env")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.package.write_text("no zip")
        done = self.run_it("--settings", self.settings("A=b\n"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not the package", done.stderr)
        self.assertEqual(self.run_it("--app", "app").returncode, 2)

    def test_the_readme_and_the_deployment_name_it_as_it_is(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        script = (ROOT / "scripts" / "Deploy-DefenderAlertExport.ps1").read_text(encoding="utf-8")
        self.assertIn("python3 ./scripts/doctor.py --settings doctor.env", readme)
        for text in (readme, script):
            self.assertIn("python3 ./scripts/doctor.py --resource-group ", text)
            self.assertIn(" --app ", text)


if __name__ == "__main__":
    unittest.main()
