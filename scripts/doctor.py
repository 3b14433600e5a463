"""Runs the packaged program in Azure Cloud Shell: `doctor`, before a deployment
with settings from a file, after it with the app's own (docs/doctor.md); and,
beside a deployed app, the two verbs that the portal page has no button for.

    python3 scripts/doctor.py --settings doctor.env
    python3 scripts/doctor.py --subscription ID --resource-group GROUP --app NAME
    python3 scripts/doctor.py --subscription ID --resource-group GROUP --app NAME replay [NUMBER...|--all]
    python3 scripts/doctor.py --subscription ID --resource-group GROUP --app NAME status --verify

Needs Python 3.9 and, for all but the first, the Azure CLI, signed in; without
--subscription it takes the one the Azure CLI would take. Only
`replay` changes anything: it sends again what was set aside. Settings reach the
program as its environment, never as arguments, and are not shown. The exit code
is the program's: 0 unless a check fails; 2 if settings are wrong, or if it
could not be run.

The two verbs work with the rights of whoever is signed in, and never open the
stored sign-in: its key is not even asked for. Verbs that would use the sign-in
are refused, because it must be used from the app alone.
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
# Everything the program takes for a setting.
OURS = ("FunctionConfig", "AzureWebJobsStorage")
# With none of these it keeps state on the machine it runs on.
STORAGE = ("AzureWebJobsStorage", "AzureWebJobsStorage__accountName", "AzureWebJobsStorage__tableServiceUri")
# Why a verb is not run from here, and where it is.
ELSEWHERE = {
    "sign-in": "Sign in on the portal page.",
    "sign-out": "Sign out on the portal page.",
    "resume": "The portal page has the button.",
    "backfill": "The portal page has the form. It shows how far the backfill is, and cancels it.",
    "run": "The app runs by itself, every few minutes.",
    "status": "The portal page shows how the export stands. Here there is: status --verify.",
}
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


def az(subscription, *arguments):
    """What the Azure CLI answers; nothing if it refuses."""
    where = ["--subscription", subscription] if subscription else []
    try:
        done = subprocess.run(["az", *arguments, *where], stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        raise Stopped("The Azure CLI (az) is not here. Run this in Azure Cloud Shell.") from None
    return done.stdout if done.returncode == 0 else None


def settings_of_app(subscription, group, app, verb):
    """The app's own, with what the vault holds for them. Only doctor goes on
    without a secret, and only doctor asks for the sign-in's keys."""
    listed = az(subscription, "functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", app, "--output", "json")
    if listed is None:
        raise Stopped("The app's settings could not be read. The lines above say why. Check the subscription (--subscription), the resource group and the name; if they are right, the role Contributor on the resource group is missing.")
    found = {one["name"]: one["value"] or "" for one in json.loads(listed)}
    for name, value in list(found.items()):
        reference = REFERENCE.fullmatch(value)
        if reference and verb != "doctor" and name.startswith(KEY):
            del found[name]
        elif reference:
            secret = of_vault(subscription, reference[1])
            if secret is None:
                if verb != "doctor" and name.startswith(OURS):
                    raise Stopped(f"{name} is in the key vault and you may not read it there: that takes the role Key Vault Secrets User, and a network the vault is open to. Nothing was done.")
                del found[name]
                say(f"{name} is in the key vault and you may not read it there: that takes the role Key Vault Secrets User, and a network the vault is open to. It counts as not set.")
            else:
                found[name] = secret
    return found


def of_vault(subscription, reference):
    parts = dict(part.partition("=")[::2] for part in reference.split(";"))
    if "SecretUri" in parts:
        where = ["--id", parts["SecretUri"].rstrip("/")]
    else:
        where = ["--vault-name", parts.get("VaultName", ""), "--name", parts.get("SecretName", "")]
    value = az(subscription, "keyvault", "secret", "show", *where, "--query", "value", "--output", "tsv")
    return None if value is None else value.rstrip("\r\n")


def with_key(settings, verb):
    """A throwaway key where there is none: it opens nothing, and everything else is checked."""
    if settings.get(KEY):
        return settings
    if verb == "doctor":
        say(f"{KEY} is not known here, so a throwaway takes its place: the lines sign-in and session-key say nothing of the app's own.")
    return {**settings, KEY: base64.b64encode(secrets.token_bytes(32)).decode("ascii")}


def refuse(verb, rest, deployed):
    """Stops what must not, or cannot, be run from here."""
    if verb == "doctor" or verb == "replay" or (verb == "status" and "--verify" in rest):
        if verb != "doctor" and not deployed:
            raise Stopped(f"{verb} is about a deployed app: give --subscription ID, --resource-group GROUP and --app NAME.")
        return
    where = ELSEWHERE.get(verb, "Here there are: replay, status --verify, and without a verb the checks.")
    raise Stopped(f"`{verb}` is not run from here. {where}")


def run(package, settings, verb, more):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(package) as archive:
                program = pathlib.Path(archive.extract(PROGRAM, folder))
        except (OSError, KeyError, zipfile.BadZipFile):
            raise Stopped(f"{package} is not the package, {PROGRAM}.zip. Run this from the unpacked deployment zip, or name it with --package.") from None
        program.chmod(0o700)
        command = [program, verb, "--state-dir", os.path.join(folder, "state"), *more]
        # What lies about in this shell is not the app's, nor the file's.
        around = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        try:
            return subprocess.run(command, env={**around, **settings}, check=False).returncode
        except OSError:
            raise Stopped("The program does not start here: it is for Linux on x86-64, as Cloud Shell is.") from None


def main(arguments):
    parser = argparse.ArgumentParser(description="Checks everything once, before or after the deployment; beside a deployed app also sends again what was set aside.")
    parser.add_argument("--settings", type=pathlib.Path, help="file of NAME=value lines: before the deployment")
    parser.add_argument("--subscription", help="of the app: its id or name; without it the one that az takes")
    parser.add_argument("--resource-group", help="of the app: after the deployment")
    parser.add_argument("--app", help="name of the Function App: after the deployment")
    parser.add_argument("--package", type=pathlib.Path, default=PACKAGE, help="the package, if it is not beside this folder")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    parser.add_argument("verb", nargs=argparse.REMAINDER, help="after the deployment: replay [NUMBER...|--all], or status --verify; without one, doctor")
    given = parser.parse_args(arguments)
    if bool(given.settings) == bool(given.resource_group or given.app) or bool(given.resource_group) != bool(given.app):
        parser.error("give --settings FILE, or --subscription ID, --resource-group GROUP and --app NAME")
    verb, *rest = given.verb or ["doctor"]
    try:
        refuse(verb, rest, deployed=bool(given.app))
        if given.settings:
            try:
                settings = settings_of_file(given.settings)
            except (OSError, UnicodeDecodeError):
                raise Stopped(f"{given.settings} cannot be read as text.") from None
        else:
            settings = settings_of_app(given.subscription, given.resource_group, given.app, verb)
            if verb != "doctor" and not any(settings.get(name) for name in STORAGE):
                raise Stopped("The app's settings name no storage account, so what was set aside cannot be found. Run this without a verb: the line settings says what is wrong.")
        return run(given.package, with_key(settings, verb), verb, (["--json"] if given.json else []) + rest)
    except Stopped as stopped:
        say(str(stopped))
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
