"""Compares a resource body with what Azure takes, from types.json."""

import json
from pathlib import Path

from on_paper import Resource, Runtime

TYPES = json.loads((Path(__file__).with_name("types.json")).read_text(encoding="utf-8"))

# Bicep's own words, no part of what is sent.
WORDS = {"parent", "scope", "dependsOn"}

# Values Azure takes although its type data lists others.
ACCEPTED = {("kind", "Direct")}


def faults(kind: str, body: dict) -> list[str]:
    """What is wrong with a body; empty when nothing is."""
    if kind not in TYPES:
        return ["unknown resource type"]
    return compare(TYPES[kind], {k: v for k, v in body.items() if k not in WORDS}, "")


def compare(want, value, at: str) -> list[str]:
    name = at or "it"
    if want == "any" or value is None or isinstance(value, Runtime):
        return []
    if isinstance(value, Resource):
        return [f"{name}: a resource stands where a value should"]
    if want in ("string", "integer", "boolean"):
        kinds = {"string": str, "integer": int, "boolean": bool}
        wrong = not isinstance(value, kinds[want]) or (want == "integer" and isinstance(value, bool))
        return [f"{name}: {want} expected"] if wrong else []
    if "is" in want:
        return [] if value in want["is"] or (at, value) in ACCEPTED else [f"{name}: {value!r} is none of {want['is']}"]
    if "each" in want:
        if not isinstance(value, list):
            return [f"{name}: list expected"]
        return sum((compare(want["each"], item, f"{at}[{i}]") for i, item in enumerate(value)), [])
    if not isinstance(value, dict):
        return [f"{name}: object expected"]
    if "by" in want:
        case = want["cases"].get(value.get(want["by"]))
        if case is None:
            return [f"{name}: {want['by']} expected, one of {sorted(want['cases'])}"]
        want = {"has": {**want["base"], **case["has"]}}
    return members(want, value, at)


def members(want: dict, value: dict, at: str) -> list[str]:
    known = {key.rstrip("!"): rule for key, rule in want["has"].items()}
    path = lambda key: f"{at}.{key}" if at else key
    found = [f"{path(k[:-1])}: missing" for k in want["has"] if k.endswith("!") and k[:-1] not in value]
    for key, item in value.items():
        if key in known:
            found += compare(known[key], item, path(key))
        elif "others" in want:
            found += compare(want["others"], item, path(key))
        else:
            found.append(f"{path(key)}: not allowed")
    return found
