"""Writes types.json: what Azure takes in each resource this project declares.

Run by hand, with a folder of Microsoft's published type data
(https://github.com/Azure/bicep-types-az, `generated/.../<provider>/<version>/types.json`,
MIT licence, Copyright (c) Microsoft Corporation) laid out as PROVIDER/VERSION/types*.json:

    python distil_types.py FOLDER

The checks read types.json only.
"""

import json
import sys
from pathlib import Path

import bicep

HERE = Path(__file__).parent
INFRA = HERE.parent.parent / "infra"
REQUIRED, READ_ONLY = 1, 2


def used() -> set[str]:
    """Every resource type with its version that a Bicep file declares."""
    files = [INFRA / "main.bicep", *sorted((INFRA / "modules").glob("*.bicep"))]
    return {d.text for f in files for d in bicep.parse(f) if d.kind == "resource" and not d.existing}


def distil(types: list, index: int, seen: tuple = ()) -> object:
    """One type, without descriptions: a name, a list of literals, [item] or {properties}."""
    node = types[index]
    kind = node["$type"]
    follow = lambda ref: distil(types, int(ref["$ref"].split("/")[-1]), seen + (index,))
    if index in seen or kind == "AnyType":
        return "any"
    if kind == "StringLiteralType":
        return {"is": [node["value"]]}
    if kind == "UnionType":
        parts = [follow(e) for e in node["elements"]]
        literals = sum((p["is"] for p in parts if isinstance(p, dict) and "is" in p), [])
        return {"is": literals} if len(literals) == len(parts) else "string" if "string" in parts else "any"
    if kind == "ArrayType":
        return {"each": follow(node["itemType"])}
    if kind == "DiscriminatedObjectType":
        cases = {k: follow(v) for k, v in node["elements"].items()}
        return {"by": node["discriminator"], "base": members(node["baseProperties"], follow), "cases": cases}
    if kind == "ObjectType":
        found = {"has": members(node.get("properties", {}), follow)}
        if node.get("additionalProperties"):
            found["others"] = follow(node["additionalProperties"])
        return found
    return kind.removesuffix("Type").lower()


def members(properties: dict, follow) -> dict:
    """Properties that may be written; a `!` marks those that must be."""
    return {
        name + ("!" if p["flags"] & REQUIRED else ""): follow(p["type"])
        for name, p in sorted(properties.items())
        if not p["flags"] & READ_ONLY or p["flags"] & REQUIRED
    }


def main(folder: Path) -> None:
    out = {}
    for full in sorted(used()):
        name, version = full.split("@")
        for file in sorted((folder / name.split("/")[0].lower() / version).glob("types*.json")):
            types = json.loads(file.read_text(encoding="utf-8"))
            for node in types:
                if node["$type"] == "ResourceType" and node["name"].lower() == full.lower():
                    out[full] = distil(types, int(node["body"]["$ref"].split("/")[-1]))
        if full not in out:
            sys.exit(f"no type data for {full}")
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(out.items()))
    (HERE / "types.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
