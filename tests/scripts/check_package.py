"""Opens a built package and holds it against what the Functions host needs.

    python3 check_package.py FOLDER --root REPOSITORY --glibc 2.28
"""

import argparse
import hashlib
import io
import json
import pathlib
import posixpath
import re
import sys
import zipfile

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

NAME = "defender-alert-export"
# What every image of Functions v4 has: glibc's own libraries and the unwinder.
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}


def modes(archive):
    for info in archive.infolist():
        wanted = 0o100755 if info.filename.split("/")[-1] == NAME else 0o100644
        if info.create_system != 3:
            yield f"{info.filename} is not marked as made on Unix, so its mode is lost"
        if info.external_attr >> 16 != wanted:
            yield f"{info.filename} has the mode {info.external_attr >> 16:o} and not {wanted:o}"


def same_bytes_for_everybody(archive):
    names = archive.namelist()
    if names != sorted(names) or len(names) != len(set(names)):
        yield "the entries are not sorted, or one is there twice"
    if len({info.date_time for info in archive.infolist()}) != 1:
        yield "the entries carry different times"
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.extra or info.comment:
            yield f"{info.filename} is compressed, or carries extra fields"


def contents(archive, root):
    folders = {f"{found.parent.name}/function.json" for found in root.glob("*/function.json")}
    expected = folders | {"host.json", NAME}
    names = set(archive.namelist())
    for name in sorted(expected - names):
        yield f"{name} is missing"
    for name in sorted(names - expected):
        yield f"{name} has no business in the package"
    for name in sorted((expected & names) - {NAME}):
        if archive.read(name) != (root / name).read_bytes():
            yield f"{name} is not the one of the repository"
        try:
            json.loads(archive.read(name))
        except ValueError:
            yield f"{name} is no JSON"
    if "host.json" in names:
        started = json.loads(archive.read("host.json")).get("customHandler", {}).get("description", {}).get("defaultExecutablePath")
        if started != NAME:
            yield f"host.json starts {started}"


def executable(program, glibc):
    try:
        elf = ELFFile(io.BytesIO(program))
    except Exception as reason:  # pyelftools raises its own and assertion errors
        yield f"the program is no ELF file: {reason}"
        return
    if elf["e_machine"] != "EM_X86_64" or elf.elfclass != 64:
        yield f"the program is for {elf['e_machine']}, {elf.elfclass} bits"
    limit = tuple(int(part) for part in glibc.split("."))
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for library, versions in section.iter_versions():
                for version in versions:
                    match = re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", version.name)
                    if match and tuple(int(part) for part in match.group(1).split(".")) > limit:
                        yield f"the program needs {version.name} of {library.name}; the host may have {glibc} only"
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags("DT_NEEDED"):
                if tag.needed not in LIBRARIES:
                    yield f"the program needs {tag.needed}, which the host may lack"
            for tag in ("DT_RPATH", "DT_RUNPATH"):
                if list(section.iter_tags(tag)):
                    yield "the program looks for libraries in a folder of the machine that built it"
    if elf.get_section_by_name(".symtab") is not None:
        yield "the program carries its symbols"
    # build-package.sh maps the folders of its machine to these; aws-lc its own.
    for path in sorted(set(re.findall(rb"(?<![\w./-])/[\w.+@ -]+(?:/[\w.+@-]+)*\.(?:rs|c|h|cc|cpp|S)\b", program))):
        if not path.startswith((b"/source/", b"/cargo/", b"/rust/", b"/rustc/", b"/aws-lc/")):
            yield f"the program names a path of the machine that built it: {path.decode()}"


def beside(folder):
    for name in (f"{NAME}.zip", f"{NAME}-deployment.zip"):
        said = (folder / f"{name}.sha256").read_text(encoding="ascii")
        if said != f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n":
            yield f"{name}.sha256 is not the hash of {name}"
    bom = json.loads((folder / f"{NAME}.cdx.json").read_text(encoding="utf-8"))
    main = bom["metadata"]["component"]
    digest = hashlib.sha256((folder / f"{NAME}.zip").read_bytes()).hexdigest()
    if main["name"] != NAME or main["hashes"] != [{"alg": "SHA-256", "content": digest}]:
        yield "the list of contents is not of this package"
    references = [component["bom-ref"] for component in bom["components"]]
    if len(references) < 50 or len(references) != len(set(references)):
        yield "the list of contents is short, or names something twice"
    known = set(references) | {main["bom-ref"]}
    if {entry["ref"] for entry in bom["dependencies"]} != known:
        yield "the list of contents has dependencies of something it does not list"
    for entry in bom["dependencies"]:
        if not set(entry["dependsOn"]) <= known:
            yield f"{entry['ref']} depends on something that is not listed"
    for component in bom["components"]:
        if "licenses" not in component or "hashes" not in component:
            yield f"{component['bom-ref']} has no licence or no hash"


def kit(folder, root):
    with zipfile.ZipFile(folder / f"{NAME}-deployment.zip") as archive:
        names = set(archive.namelist())
        for needed in (f"{NAME}.zip", f"{NAME}.zip.sha256", "scripts/Deploy-DefenderAlertExport.ps1", "scripts/Remove-DefenderAlertExport.ps1", "scripts/doctor.py", "infra/README.md", "README.md", "docs/doctor.md"):
            if f"{NAME}/{needed}" not in names:
                yield f"the deployment zip lacks {needed}"
        if (root / "infra" / "main.bicep").exists() and f"{NAME}/infra/main.bicep" not in names:
            yield "the deployment zip lacks infra/main.bicep"
        for path in sorted((root / "scripts" / "deployment").glob("*.ps1")):
            if f"{NAME}/scripts/deployment/{path.name}" not in names:
                yield f"the deployment zip lacks {path.name}"
        yield from links(archive)
        yield from same_bytes_for_everybody(archive)


def links(archive):
    """Links of the kit's pages that lead out of the kit, or to a heading there is none of."""
    pages = {name: archive.read(name).decode("utf-8") for name in archive.namelist() if name.endswith(".md")}
    for page, text in pages.items():
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            path, _, heading = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            if target not in archive.namelist():
                yield f"{page} links to {link}, which is not in the deployment zip"
            elif heading and target in pages and heading not in anchors(pages[target]):
                yield f"{page} links to {link}, and there is no such heading"


def anchors(text):
    """The names GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def faults(folder, root, glibc):
    found = []
    with zipfile.ZipFile(folder / f"{NAME}.zip") as archive:
        found += list(contents(archive, root))
        found += list(modes(archive))
        found += list(same_bytes_for_everybody(archive))
        if NAME in archive.namelist():
            found += list(executable(archive.read(NAME), glibc))
    return found + list(beside(folder)) + list(kit(folder, root))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--glibc", default="2.28")
    given = parser.parse_args()
    found = faults(given.folder, given.root, given.glibc)
    for words in found:
        print(f"package: {words}")
    if not found:
        with zipfile.ZipFile(given.folder / f"{NAME}.zip") as archive:
            print(f"package: {len(archive.namelist())} entries, runs with glibc {given.glibc} and newer")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
