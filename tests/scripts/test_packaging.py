"""The package has the same bytes for the same inputs, and a wrong one is seen to be wrong."""

import hashlib
import importlib.util
import json
import pathlib
import struct
import sys
import tempfile
import unittest
import zipfile

import check_package

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("package", ROOT / "scripts" / "package.py")
package = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(package)

WHEN = package.datetime.datetime(2026, 11, 21, 10, 20, 31, tzinfo=package.datetime.timezone.utc)
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 62, 1) + bytes(40)
HOST = {"version": "2.0", "customHandler": {"description": {"defaultExecutablePath": "defender-alert-export"}}}


class Packaging(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        (self.root / "host.json").write_text(json.dumps(HOST))
        for name in ("timer_export", "a_function"):
            (self.root / name).mkdir()
            (self.root / name / "function.json").write_text('{"bindings": []}')
        self.binary = self.root / "program"
        self.binary.write_bytes(ELF)
        self.zip = self.root / "out.zip"

    def build(self):
        package.write_zip(self.zip, package.package_entries(self.root, self.binary), WHEN)
        return self.zip.read_bytes()

    def rebuilt(self, change):
        """A zip made from the good one by a change of its entries."""
        self.build()
        with zipfile.ZipFile(self.zip) as archive:
            entries = [(info, archive.read(info)) for info in archive.infolist()]
        changed = self.root / "changed.zip"
        with zipfile.ZipFile(changed, "w") as archive:
            for info, content in change(entries):
                archive.writestr(info, content)
        return zipfile.ZipFile(changed)

    def faults(self, archive):
        with archive:
            found = list(check_package.contents(archive, self.root)) + list(check_package.modes(archive))
            return found + list(check_package.same_bytes_for_everybody(archive))

    def test_the_same_inputs_give_the_same_bytes(self):
        first = self.build()
        self.binary.touch()
        self.assertEqual(self.build(), first)

    def test_the_bytes_are_these_on_every_machine(self):
        self.assertEqual(hashlib.sha256(self.build()).hexdigest(), "c469720e7d819d280cfb76f1042a566622006cf5e59e0d366986ed252eaf25a7")

    def test_a_good_package_has_no_fault(self):
        self.build()
        self.assertEqual(self.faults(zipfile.ZipFile(self.zip)), [])

    def test_a_program_that_may_not_be_run_is_found(self):
        def change(entries):
            for info, content in entries:
                info.external_attr = 0o100644 << 16
                yield info, content

        self.assertEqual(len(self.faults(self.rebuilt(change))), 1)

    def test_a_zip_from_windows_is_found(self):
        def change(entries):
            for info, content in entries:
                info.create_system = 0
                yield info, content

        self.assertEqual(len(self.faults(self.rebuilt(change))), 4)

    def test_a_missing_function_is_found(self):
        found = self.faults(self.rebuilt(lambda entries: [entry for entry in entries if entry[0].filename != "timer_export/function.json"]))
        self.assertEqual(found, ["timer_export/function.json is missing"])

    def test_a_stray_file_is_found(self):
        found = self.faults(self.rebuilt(lambda entries: [*entries, ("z/local.settings.json", b"{}")]))
        self.assertIn("z/local.settings.json has no business in the package", found)

    def test_another_order_or_time_is_found(self):
        self.assertTrue(self.faults(self.rebuilt(lambda entries: reversed(entries))))

        def change(entries):
            entries[0][0].date_time = (2020, 1, 1, 0, 0, 0)
            return entries

        self.assertTrue(self.faults(self.rebuilt(change)))

    def test_a_program_for_another_machine_is_refused(self):
        self.binary.write_bytes(ELF[:18] + b"\xb7\x00" + ELF[20:])
        with self.assertRaises(package.Refused):
            self.build()

    def test_a_host_that_starts_something_else_is_refused(self):
        (self.root / "host.json").write_text(json.dumps({"customHandler": {"description": {"defaultExecutablePath": "handler"}}}))
        with self.assertRaises(package.Refused):
            self.build()

    def test_no_function_folder_is_refused(self):
        for name in ("timer_export", "a_function"):
            (self.root / name / "function.json").unlink()
        with self.assertRaises(package.Refused):
            self.build()

    def kit(self, without=()):
        """The repository's own deployment kit, around a package of no worth."""
        for name in ("defender-alert-export.zip", "defender-alert-export.zip.sha256", "defender-alert-export.cdx.json"):
            (self.root / name).write_bytes(b"")
        entries = {name: entry for name, entry in package.kit_entries(ROOT, self.root).items() if name not in without}
        package.write_zip(self.root / "defender-alert-export-deployment.zip", entries, WHEN)
        return list(check_package.kit(self.root, ROOT))

    def test_the_deployment_kit_is_whole_and_its_pages_lead_to_what_is_in_it(self):
        self.assertEqual(self.kit(), [])

    def test_a_kit_without_the_page_that_messages_name_is_found(self):
        found = self.kit(without={"defender-alert-export/README.md"})
        self.assertIn("the deployment zip lacks README.md", found)
        self.assertTrue(any("infra/README.md links to ../README.md" in words for words in found), found)

    def test_a_link_to_a_heading_that_is_gone_is_found(self):
        path = self.root / "pages.zip"
        package.write_zip(path, {"a/README.md": (b"# One two\n[x](#one-two) [y](#two)\n", 0o644)}, WHEN)
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(list(check_package.links(archive)), ["a/README.md links to #two, and there is no such heading"])

    def test_a_program_that_needs_a_newer_glibc_is_found(self):
        # Python itself needs a glibc newer than the first for x86-64.
        found = list(check_package.executable(pathlib.Path(sys.executable).resolve().read_bytes(), "2.2.5"))
        self.assertTrue(any("the host may have 2.2.5 only" in words for words in found), found)


class ListOfContents(unittest.TestCase):
    METADATA = {
        "resolve": {
            "root": "r",
            "nodes": [
                {"id": "r", "deps": [
                    {"pkg": "a", "dep_kinds": [{"kind": None}]},
                    {"pkg": "b", "dep_kinds": [{"kind": "build"}]},
                    {"pkg": "t", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "a", "deps": []},
                {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": None}]}]},
                {"id": "c", "deps": []},
                {"id": "t", "deps": []},
            ],
        },
        "packages": [
            {"id": "r", "name": "root", "version": "1.0.0", "license": "MIT"},
            {"id": "a", "name": "alpha", "version": "1.0.0", "license": "MIT/Apache-2.0"},
            {"id": "b", "name": "beta", "version": "1.0.0", "license": "MIT"},
            {"id": "c", "name": "gamma", "version": "1.0.0", "license": "MIT"},
            {"id": "t", "name": "tests-only", "version": "1.0.0", "license": "MIT"},
        ],
    }
    LOCK = {"package": [{"name": "alpha", "version": "1.0.0", "checksum": "00"}]}

    def setUp(self):
        self.bom = package.sbom(self.METADATA, self.LOCK, "ff", WHEN)

    def test_tells_what_is_inside_from_what_only_builds_it(self):
        scopes = {component["name"]: component["scope"] for component in self.bom["components"]}
        self.assertEqual(scopes, {"alpha": "required", "beta": "excluded", "gamma": "excluded"})

    def test_carries_hash_and_licence(self):
        alpha = self.bom["components"][0]
        self.assertEqual(alpha["hashes"], [{"alg": "SHA-256", "content": "00"}])
        self.assertEqual(alpha["licenses"], [{"expression": "MIT OR Apache-2.0"}])

    def test_names_no_dependency_that_it_does_not_list(self):
        self.assertEqual(self.bom["dependencies"][-1], {"ref": "pkg:cargo/root@1.0.0", "dependsOn": ["pkg:cargo/alpha@1.0.0", "pkg:cargo/beta@1.0.0"]})


if __name__ == "__main__":
    unittest.main()
