"""Each rule for PowerShell is seen to catch what it is for, and to let pass what is right."""

import unittest

import powershell_rules

SCRIPT_HEAD = b"""<#
.SYNOPSIS
s
.DESCRIPTION
d
.PARAMETER Name
n
.EXAMPLE
e
#>
[CmdletBinding(SupportsShouldProcess = $true)]
param(
    [string]$Name
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
"""

WRONG = {
    "a call cut short": b"$a = (Get-Content -LiteralPath 'x'\nWrite-Verbose $a",
    "null coalescing": b"$a = $b ?? 1\nWrite-Verbose $a",
    "null conditional": b"$a = (Get-Item x)?.Name\nWrite-Verbose $a",
    "chain": b"Get-Command x && Get-Command y",
    "ternary": b"$a = ($b) ? 1 : 2\nWrite-Verbose $a",
    "hash tables from JSON": b"ConvertFrom-Json -InputObject $t -AsHashtable",
    "a secret as text": b"ConvertTo-SecureString -String $t -AsPlainText -Force",
    "an alias": b"cat x",
    "code from text": b"Invoke-Expression $t",
    "a key on the screen": b'Write-Line "key: $functionKey"',
    "a token on the screen": b"Write-Verbose -Message $token",
    "an unbasic request": b"Invoke-WebRequest -Uri $u",
    "a file written by redirection": b"Get-Command x > 'out.txt'",
    "an empty catch": b"try { Get-Command x }\ncatch { }",
    "a question mark after a name": b'Invoke-Thing "$path?api-version=1"',
    "a colon after a name": b'Invoke-Thing "$name: gone"',
    "a letter beyond ASCII": "Write-Verbose 'caf\u00e9'".encode(),
    "a verb of its own": b"function Fetch-Thing { }",
    "a value never read": b"function Get-Thing {\n    $a = 1\n}",
}
RIGHT = {
    "braces before a question mark": b'Invoke-Thing "${path}?api-version=1"',
    "a scope before a colon": b'Invoke-Thing "$($env:HOME) $script:x"',
    "a question mark in a pattern": b"$a = 'a?b && c || d ?? e'\nWrite-Verbose $a",
    "an accent in no place": b"# plain words; see https://example.org/a?b=c&d=e\nGet-Command x",
    "streams joined": b"Get-Command x 2>&1",
    "splatting reads": b"$call = @{ Name = 'x' }\nGet-Command @call",
}


class EachRule(unittest.TestCase):
    def found(self, source, script=False):
        return powershell_rules.faults("x.ps1", source, script)[0]

    def test_catches_what_it_is_for(self):
        for what, source in WRONG.items():
            with self.subTest(what):
                self.assertTrue(self.found(source), source)

    def test_lets_pass_what_is_right(self):
        for what, source in RIGHT.items():
            with self.subTest(what):
                self.assertEqual(self.found(source), [])

    def test_a_script_that_has_everything_passes(self):
        self.assertEqual(self.found(SCRIPT_HEAD + b"Write-Verbose $Name\n", script=True), [])

    def test_a_script_must_be_strict_helpful_and_careful(self):
        for needed in (b"Set-StrictMode -Version Latest\n", b"$ErrorActionPreference = 'Stop'\n", b"SupportsShouldProcess = $true", b".EXAMPLE\n", b".PARAMETER Name\n"):
            with self.subTest(needed):
                self.assertTrue(self.found(SCRIPT_HEAD.replace(needed, b"") + b"Write-Verbose $Name\n", script=True))

    def test_help_for_a_parameter_that_is_gone_is_found(self):
        self.assertTrue(self.found(SCRIPT_HEAD.replace(b"$Name", b"$Other") + b"Write-Verbose $Other\n", script=True))

    def test_a_function_nobody_defines_or_calls_is_found(self):
        files = {"x.ps1": powershell_rules.faults("x.ps1", b"function Get-Thing { Get-Other }\n", False)}
        self.assertEqual(
            powershell_rules.unknown_calls(files),
            ["x.ps1: get-other is neither defined here nor a known cmdlet", "x.ps1: get-thing is never called"],
        )


if __name__ == "__main__":
    unittest.main()
