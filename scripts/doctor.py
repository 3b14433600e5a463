"""Runs `doctor` of the packaged program in Azure Cloud Shell: before a deployment
with settings from a file, after it with the app's own. README.md, Doctor.

    python3 scripts/doctor.py --settings doctor.env
    python3 scripts/doctor.py --resource-group GROUP --app NAME

Needs Python 3.9 and, for the second, the Azure CLI, signed in. Reads the app and
changes nothing. Settings reach the program as its environment, never as
arguments, and are not shown. The exit code is the program's: 0 unless a check
fails; 2 if it could not be run.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import zipfile

PROGRAM = "defender-alert-export"
PACKAGE = pathlib.Path(__file__).resolve().parents[1] / f"{PROGRAM}.zip"
KEY = "FunctionConfigSessionKey"
REFERENCE = re.compile(r"@Microsoft\.KeyVault\((.+)\)")


class Stopped(Exception):
    """Nothing was checked; the text says why and what to do."""


def say(text):
    print(text, file=sys.stderr)


def settings_of_file(path):
    """`NAME=value` a line, as it stands; empty lines and lines with # in front are passed."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            # Never the line: it may hold a secret.
            raise Stopped(f"{path}, line {number}: not NAME=value.")
        found[name.strip()] = value.strip()
    return found


def az(*arguments):
    """What the Azure CLI answers; nothing if it refuses."""
    try:
        done = subprocess.run(["az", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        raise Stopped("The Azure CLI (az) is not here. Run this in Azure Cloud Shell.") from None
    return done.stdout if done.returncode == 0 else None


def settings_of_app(group, app):
    """The app's own, with what the vault holds for them."""
    listed = az("functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", app, "--output", "json")
    if listed is None:
        raise Stopped("The app's settings could not be read. The lines above say why; the role Contributor on its resource group is enough.")
    found = {one["name"]: one["value"] or "" for one in json.loads(listed)}
    for name, value in list(found.items()):
        reference = REFERENCE.fullmatch(value)
        if reference:
            secret = of_vault(reference[1])
            if secret is None:
                del found[name]
                say(f"{name} is in the key vault and you may not read it there: that takes the role Key Vault Secrets User, and a network the vault is open to. It counts as not set.")
            else:
                found[name] = secret
    return found


def of_vault(reference):
    parts = dict(part.partition("=")[::2] for part in reference.split(";"))
    if "SecretUri" in parts:
        where = ["--id", parts["SecretUri"].rstrip("/")]
    else:
        where = ["--vault-name", parts.get("VaultName", ""), "--name", parts.get("SecretName", "")]
    value = az("keyvault", "secret", "show", *where, "--query", "value", "--output", "tsv")
    return None if value is None else value.rstrip("\r\n")


def with_key(settings):
    """A throwaway key where there is none: it opens nothing, and everything else is checked."""
    if settings.get(KEY):
        return settings
    say(f"{KEY} is not known here, so a throwaway takes its place: the lines sign-in and session-key say nothing of the app's own.")
    return {**settings, KEY: base64.b64encode(secrets.token_bytes(32)).decode("ascii")}


def run(package, settings, more):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(package) as archive:
                program = pathlib.Path(archive.extract(PROGRAM, folder))
        except (OSError, KeyError, zipfile.BadZipFile):
            raise Stopped(f"{package} is not the package, {PROGRAM}.zip. Run this from the unpacked deployment zip, or name it with --package.") from None
        program.chmod(0o700)
        command = [program, "doctor", "--state-dir", os.path.join(folder, "state"), *more]
        try:
            return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode
        except OSError:
            raise Stopped("The program does not start here: it is for Linux on x86-64, as Cloud Shell is.") from None


def main(arguments):
    parser = argparse.ArgumentParser(description="Checks everything once, before or after the deployment.")
    parser.add_argument("--settings", type=pathlib.Path, help="file of NAME=value lines: before the deployment")
    parser.add_argument("--resource-group", help="of the app: after the deployment")
    parser.add_argument("--app", help="name of the Function App: after the deployment")
    parser.add_argument("--package", type=pathlib.Path, default=PACKAGE, help="the package, if it is not beside this folder")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    given = parser.parse_args(arguments)
    if bool(given.settings) == bool(given.resource_group or given.app) or bool(given.resource_group) != bool(given.app):
        parser.error("give --settings FILE, or --resource-group GROUP and --app NAME")
    try:
        if given.settings:
            try:
                settings = settings_of_file(given.settings)
            except (OSError, UnicodeDecodeError):
                raise Stopped(f"{given.settings} cannot be read as text.") from None
        else:
            settings = settings_of_app(given.resource_group, given.app)
        return run(given.package, with_key(settings), ["--json"] if given.json else [])
    except Stopped as stopped:
        say(str(stopped))
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
