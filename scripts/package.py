"""Puts the executable, host.json and the function folders into the zip that the
Functions host runs, and writes its hash, its list of contents (CycloneDX) and
the deployment kit beside it. Called by build-package.sh.

Every byte follows from the inputs and SOURCE_DATE_EPOCH: entries are sorted,
stored uncompressed (zlib builds differ in what they write), carry one time, and
are marked as made on Unix with their mode. A zip made without modes fails in
Azure with exit code 126.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import uuid
import zipfile

NAME = "defender-alert-export"
KIT_FOLDERS = ("docs", "infra")
# Messages of the program send people to it.
KIT_FILES = ("README.md",)
KIT_SCRIPTS = ("scripts/*.ps1", "scripts/deployment/*.ps1", "scripts/doctor.py")


class Refused(Exception):
    """The inputs do not make a package that would run."""


def epoch():
    """The commit's time, as UTC."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if not seconds:
        raise Refused("SOURCE_DATE_EPOCH is not set; build-package.sh sets it from the commit")
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)


def write_zip(path, entries, when):
    """entries: {name in zip: (bytes, mode)}."""
    stamp = (max(when.year, 1980), when.month, when.day, when.hour, when.minute, when.second // 2 * 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            content, mode = entries[name]
            info = zipfile.ZipInfo(name, stamp)
            info.create_system = 3
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, content)


def write_hash(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")
    return digest


def function_folders(root):
    return sorted(found.parent.name for found in root.glob("*/function.json"))


def package_entries(root, binary):
    host = json.loads((root / "host.json").read_text(encoding="utf-8"))
    starts = host.get("customHandler", {}).get("description", {}).get("defaultExecutablePath")
    if starts != NAME:
        raise Refused(f"host.json starts {starts!r}, but the package holds {NAME!r}")
    executable = binary.read_bytes()
    # ELF, 64 bits, little endian, machine 62 (x86-64).
    if executable[:6] != b"\x7fELF\x02\x01" or executable[18:20] != b"\x3e\x00":
        raise Refused(f"{binary} is no Linux executable for x86-64")
    folders = function_folders(root)
    if not folders:
        raise Refused(f"no folder with a function.json in {root.resolve()}")
    entries = {NAME: (executable, 0o755), "host.json": ((root / "host.json").read_bytes(), 0o644)}
    for folder in folders:
        text = (root / folder / "function.json").read_bytes()
        json.loads(text)
        entries[f"{folder}/function.json"] = (text, 0o644)
    return entries


def kit_entries(root, out):
    """What a trust's admin needs on one machine, and nothing to download later."""
    entries = {}
    for folder in KIT_FOLDERS:
        for found in sorted((root / folder).rglob("*")):
            if found.is_file():
                entries[found.relative_to(root).as_posix()] = (found.read_bytes(), 0o644)
    for name in KIT_FILES:
        entries[name] = ((root / name).read_bytes(), 0o644)
    for pattern in KIT_SCRIPTS:
        for found in sorted(root.glob(pattern)):
            entries[found.relative_to(root).as_posix()] = (found.read_bytes(), 0o644)
    for name in (f"{NAME}.zip", f"{NAME}.zip.sha256", f"{NAME}.cdx.json"):
        entries[name] = ((out / name).read_bytes(), 0o644)
    return {f"{NAME}/{name}": entry for name, entry in entries.items()}


def cargo_metadata(root, target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)


def reachable(nodes, start, kinds):
    """Packages met from start over dependencies of these kinds; the packages a
    build script or a macro needs are met over its own normal dependencies."""
    seen, todo = set(), [start]
    while todo:
        package = todo.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] in kinds for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return seen


def sbom(metadata, lock, digest, when):
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock["package"]}
    inside = reachable(nodes, root, (None,))
    everything = reachable(nodes, root, (None, "build"))

    def purl(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package, kind):
        entry = {
            "type": kind,
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(package),
        }
        if package.get("license"):
            # Old manifests write the SPDX "OR" as a slash.
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    components = []
    for identity in sorted(everything - {root}, key=lambda found: purl(packages[found])):
        entry = component(packages[identity], "library")
        # Needed to build it, not part of it.
        entry["scope"] = "required" if identity in inside else "excluded"
        components.append(entry)
    dependencies = [
        {
            "ref": purl(packages[identity]),
            "dependsOn": sorted({purl(packages[d["pkg"]]) for d in nodes[identity]["deps"] if d["pkg"] in everything
                                 and any(kind["kind"] != "dev" for kind in d["dep_kinds"])}),
        }
        for identity in sorted(everything, key=lambda found: purl(packages[found]))
    ]
    main = component(packages[root], "application")
    main["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{purl(packages[root])}#{digest}')}",
        "version": 1,
        "metadata": {"timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": main},
        "components": components,
        "dependencies": dependencies,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, required=True, help="the repository")
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the executable")
    parser.add_argument("--target", required=True, help="Rust target the executable is built for")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write to")
    given = parser.parse_args()
    try:
        when = epoch()
        given.out.mkdir(parents=True, exist_ok=True)
        package = given.out / f"{NAME}.zip"
        write_zip(package, package_entries(given.root, given.binary), when)
        digest = write_hash(package)
        lock = tomllib.loads((given.root / "Cargo.lock").read_text(encoding="utf-8"))
        bom = sbom(cargo_metadata(given.root, given.target), lock, digest, when)
        (given.out / f"{NAME}.cdx.json").write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        kit = given.out / f"{NAME}-deployment.zip"
        write_zip(kit, kit_entries(given.root, given.out), when)
        write_hash(kit)
    except Refused as reason:
        sys.exit(f"no package: {reason}")


if __name__ == "__main__":
    main()
