"""Reads PowerShell scripts with the tree-sitter grammar and holds them against
rules for what has gone wrong in deployment scripts. It is not PowerShell: it
runs nothing and knows no cmdlet's parameters.

    python3 powershell_rules.py FILE.ps1 ...
"""

import pathlib
import re
import sys

import tree_sitter_powershell
from tree_sitter import Language, Parser

ALIASES = set(
    "cat cd clear cls copy cp curl del diff dir echo foreach ft fl gc gci gi gm iex irm iwr kill ls md measure move mv "
    "ni ps pwd rm select set sleep sort tee type wget where write".split()
) | {"?", "%"}
# Syntax that PowerShell 7 has and Windows PowerShell 5.1 cannot read.
NEWER_SYNTAX = {
    "??": re.compile(r"(?<!\?)\?\?(?!\?)"),
    "?.": re.compile(r"\$\{\w+\}\?\.|\)\?\.|\]\?\."),
    "&&": re.compile(r"&&"),
    "||": re.compile(r"\|\|"),
    "ternary": re.compile(r"\)\s\?\s[^:{}\n]+\s:\s"),
}
# Parameters that Windows PowerShell's version of the cmdlet lacks.
NEWER_PARAMETERS = ("-AsHashtable", "-SkipHttpErrorCheck", "-Parallel", "-AsPlainText", "-MaximumRetryCount", "-NoProxy")
SECRET_NAMES = re.compile(r"\$(?:\w*(?:key|secret|token|password)\w*|sessionKey)\b", re.IGNORECASE)
# Names with "key" in them that hold no key.
HARMLESS = re.compile(r"\$(?:keyBefore|keyAfter|keyVaultName)\b", re.IGNORECASE)
PRINTERS = {"write-line", "write-output", "write-information", "write-verbose", "write-warning", "write-host", "write-error"}
APPROVED_VERBS = set(
    "Add Clear Close Complete Confirm Connect ConvertFrom ConvertTo Copy Disable Disconnect Enable Exit Export Find "
    "Format Get Import Initialize Install Invoke Join Measure Merge Move New Open Out Publish Read Register Remove "
    "Rename Reset Resolve Restart Restore Resume Save Search Select Send Set Show Split Start Stop Suspend Sync Test "
    "Uninstall Unregister Update Use Wait Write".split()
)

PARSER = Parser(Language(tree_sitter_powershell.language()))


def walk(node):
    yield node
    for child in node.children:
        yield from walk(child)


def without_comments(source, tree):
    """The source with comments blanked, so that words in them break no rule."""
    text = bytearray(source)
    for node in walk(tree):
        if node.type == "comment":
            for place in range(node.start_byte, node.end_byte):
                if text[place : place + 1] not in (b"\n", b"\r"):
                    text[place] = 32
    return bytes(text)


def without_strings(source, tree):
    text = bytearray(source)
    for node in walk(tree):
        if node.type.endswith("string_literal") or node.type.endswith("string_characters"):
            for place in range(node.start_byte, node.end_byte):
                if text[place : place + 1] not in (b"\n", b"\r"):
                    text[place] = 32
    return bytes(text)


def faults(name, source, script):
    """(line, words) for each fault. A script is run; any other file is dot-sourced."""
    found = []
    tree = PARSER.parse(source).root_node

    def fault(node, words):
        found.append((node.start_point[0] + 1, words))

    for number, line in enumerate(source.split(b"\n"), 1):
        if any(byte > 126 for byte in line):
            found.append((number, "a character beyond ASCII: Windows PowerShell reads a file without a mark as ANSI"))

    commentless = without_comments(source, tree)
    code = without_strings(commentless, tree).decode("ascii", "replace")
    for number, line in enumerate(code.splitlines(), 1):
        for what, pattern in NEWER_SYNTAX.items():
            if pattern.search(line):
                found.append((number, f"{what} is not in Windows PowerShell 5.1"))
        for parameter in NEWER_PARAMETERS:
            if re.search(rf"(?<!\w){parameter}\b", line, re.IGNORECASE):
                found.append((number, f"{parameter} is not in Windows PowerShell 5.1, or turns a secret into text"))

    defined, called = {}, set()
    assigned, used = {}, set()
    for node in walk(tree):
        text = node.text.decode("utf-8", "replace")
        if node.type == "ERROR" or node.is_missing:
            fault(node, f"not PowerShell as far as the grammar knows: {text[:40]!r}")
        elif node.type == "command_name":
            lower = text.lower()
            called.add(lower)
            if lower in ALIASES:
                fault(node, f"{text} is an alias; write the command's name")
            if lower == "invoke-expression":
                fault(node, "Invoke-Expression runs whatever the text says")
            if lower == "write-host":
                fault(node, "Write-Host cannot be caught or silenced; use Write-Line")
        elif node.type == "command":
            head = text.split(None, 1)[0].lower()
            if head in PRINTERS:
                for word in SECRET_NAMES.findall(text):
                    if not HARMLESS.fullmatch(word):
                        fault(node, f"{word} may be a secret, and {head} shows it")
            if head in ("invoke-webrequest", "invoke-restmethod") and "-UseBasicParsing" not in text:
                fault(node, f"{head} without -UseBasicParsing needs Internet Explorer on Windows PowerShell")
            if head == "start-bitstransfer":
                fault(node, "packages are loaded in one place only, Get-Package")
        elif node.type == "redirection" and not re.search(r"\d?>&\d|\$null$", text):
            fault(node, f"{text} writes no file under -WhatIf")
        elif node.type == "catch_clause" and re.fullmatch(r"catch\s*\{\s*\}", text, re.IGNORECASE):
            fault(node, "an empty catch hides what happened")
        elif node.type == "function_statement":
            match = re.match(r"function\s+([\w-]+)", text, re.IGNORECASE)
            if match:
                defined[match.group(1).lower()] = node
                verb = match.group(1).split("-")[0]
                if verb not in APPROVED_VERBS:
                    fault(node, f"{verb} is no approved verb")
        elif node.type in ("expandable_string_literal", "expandable_here_string_literal"):
            for match in re.finditer(r"(?<!`)\$(\w+)(\?|:(?!:))", text):
                scope = match.group(1).lower()
                if match.group(2) == "?" or scope not in ("env", "script", "global", "using", "local"):
                    fault(node, f"${match.group(1)}{match.group(2)} is read as one name; write ${{{match.group(1)}}}")
            used |= {word.lower() for word in re.findall(r"\$\{?([\w:]+)", text)}
        elif node.type == "variable":
            variable = text.lower().lstrip("$").strip("{}")
            place = node
            while place.parent is not None and place.parent.type not in ("assignment_expression", "pipeline", "statement_list"):
                place = place.parent
            target = place.parent is not None and place.parent.type == "assignment_expression" and place.parent.children[0] == place
            if target and place.text == node.text:
                assigned.setdefault(variable, node)
            else:
                used.add(variable)
    used |= {word.lower() for word in re.findall(r"(?<!\w)@(\w+)", source.decode("ascii", "replace"))}
    automatic = {"erroractionpreference", "progresspreference", "null"}
    for variable, node in assigned.items():
        if variable not in used and variable not in automatic and not variable.startswith(("script:", "env:")):
            # Constants that a dot-sourced file gives to the script.
            if script or node.start_point[1] != 0:
                fault(node, f"${variable} is set and never read")
    if script:
        text = source.decode("ascii", "replace")
        for needed in ("Set-StrictMode -Version Latest", "$ErrorActionPreference = 'Stop'", "SupportsShouldProcess", ".SYNOPSIS", ".DESCRIPTION", ".EXAMPLE"):
            if needed not in text:
                found.append((1, f"lacks {needed}"))
        block = text[text.index("param(") : text.index("\n)\n")] if "param(" in text and "\n)\n" in text else ""
        for parameter in re.findall(r"\$(\w+)(?: = [^,\n]+)?,?\n", block + "\n"):
            if not re.search(rf"^\.PARAMETER {parameter}$", text, re.MULTILINE):
                found.append((1, f"parameter {parameter} has no help"))
        for parameter in re.findall(r"^\.PARAMETER (\w+)$", text, re.MULTILINE):
            if not re.search(rf"\${parameter}\b", block):
                found.append((1, f"help names {parameter}, which is no parameter"))
    return sorted(found), defined, called


def unknown_calls(files):
    """Own functions that are called and nowhere defined, or defined and never called."""
    found = []
    defined, called = {}, {}
    for name, (_, functions, calls) in files.items():
        for function, node in functions.items():
            if function in defined:
                found.append(f"{name}: {function} is defined in {defined[function]} too")
            defined[function] = name
        for call in calls:
            called.setdefault(call, name)
    for call, name in sorted(called.items()):
        # Cmdlets of modules: Az, Azure Storage, and PowerShell's own.
        own = re.match(r"^[a-z]+-[a-z]+$", call) and not re.match(r"^[a-z]+-az", call)
        if own and call not in defined and call not in BUILT_IN:
            found.append(f"{name}: {call} is neither defined here nor a known cmdlet")
    for function, name in sorted(defined.items()):
        if function not in called:
            found.append(f"{name}: {function} is never called")
    return found


BUILT_IN = {
    name.lower()
    for name in (
        "Add-Type ConvertFrom-Json ConvertTo-Json ForEach-Object Get-Command Get-Content Get-FileHash Get-Module "
        "Import-PowerShellDataFile Invoke-WebRequest Join-Path New-Item New-Object Out-Null Out-String Remove-Item "
        "Resolve-Path Select-Object Set-StrictMode Sort-Object Split-Path Start-Sleep Test-Path Where-Object "
        "Write-Information Write-Verbose"
    ).split()
}


def main(paths):
    files, bad = {}, 0
    for path in paths:
        path = pathlib.Path(path)
        files[path.name] = faults(path.name, path.read_bytes(), script="deployment" not in path.parts)
        for line, words in files[path.name][0]:
            print(f"{path}:{line}: {words}")
            bad += 1
    for words in unknown_calls(files):
        print(words)
        bad += 1
    return bad


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
