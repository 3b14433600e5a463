"""Carries a deployment out on paper: what bicep.py has read is worked out here.

Every module is followed, every condition and loop decided, every expression
worked out. What only Azure can know (a principal id, an endpoint) becomes a
`Runtime` text that names it. It knows no types but those that parameters, decorators
and `types.json` give, and no scopes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from bicep import BicepError, Declaration, parse


class Runtime(str):
    """What only Azure knows; the text names it."""

    def member(self, name: str) -> "Runtime":
        return Runtime(f"{self[:-1]}.{name}>")


@dataclass
class Resource:
    """One resource of the deployment on paper."""

    module: str
    symbol: str
    type: str
    body: dict
    existing: bool
    decorators: list[str]

    @property
    def name(self) -> str:
        parent = self.body.get("parent")
        return f"{parent.name}/{self.body['name']}" if isinstance(parent, Resource) else self.body["name"]

    @property
    def id(self) -> str:
        return f"/{self.type.split('@')[0]}/{self.name}"


@dataclass
class Deployment:
    """A module or the main file, carried out."""

    path: Path
    parameters: dict
    resources: list[Resource]
    outputs: dict
    nested: list[tuple[str, str]]
    """Resource group and name of the deployment of every module in it."""

    def of(self, kind: str) -> list[Resource]:
        """What would be deployed of one resource type."""
        return [r for r in self.resources if not r.existing and r.type.split("@")[0].lower() == kind.lower()]


HASH_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def unique_string(*parts: str) -> str:
    """Thirteen letters of the alphabet Azure's function draws from; not its hash."""
    digest = hashlib.sha256("-".join(parts).encode()).digest()
    return "".join(HASH_ALPHABET[byte % 32] for byte in digest[:13])


def group_id(*scope: str) -> str:
    """Of the deployment's own resource group, one of its subscription, or one of another."""
    subscription = scope[0] if len(scope) == 2 else "s"
    return f"/subscriptions/{subscription}/resourceGroups/{scope[-1] if scope else 'rg'}"


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else str(value) if not isinstance(value, str) else value


def merge(*values: Any) -> Any:
    if isinstance(values[0], list):
        return [item for index, item in enumerate(sum(values, [])) if item not in sum(values, [])[:index]]
    out: dict = {}
    for value in values:
        for key, item in value.items():
            both = isinstance(out.get(key), dict) and isinstance(item, dict)
            out[key] = merge(out[key], item) if both else item
    return out


FUNCTIONS: dict[str, Callable] = {
    "array": lambda v: v if isinstance(v, list) else [v],
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "concat": lambda *v: sum(v, []) if isinstance(v[0], list) else "".join(v),
    "contains": lambda a, b: b in a,
    "empty": lambda v: v is None or len(v) == 0,
    "environment": lambda: {"suffixes": {"storage": "core.windows.net"}},
    "filter": lambda v, f: [x for x in v if f(x)],
    "guid": lambda *v: str(uuid.uuid5(uuid.NAMESPACE_URL, "-".join(v))),
    "indexOf": lambda a, b: a.lower().find(b.lower()),
    "items": lambda v: [{"key": k, "value": v[k]} for k in sorted(v, key=str.lower)],
    "join": lambda v, sep: sep.join(v),
    "length": len,
    "map": lambda v, f: [f(x) for x in v],
    "max": max,
    "min": min,
    "newGuid": lambda: str(uuid.uuid4()),
    "replace": lambda text, old, new: Runtime(text.replace(old, new)) if isinstance(text, Runtime) else text.replace(old, new),
    "resourceGroup": lambda *v: {"id": group_id(*v), "name": "rg", "location": "uksouth", "scope": list(v)},
    "resourceId": lambda kind, name: f"/{kind}/{name}",
    "string": as_text,
    "subscription": lambda: {"subscriptionId": "s", "tenantId": "t", "id": "/subscriptions/s"},
    "subscriptionResourceId": lambda kind, name: f"/subscriptions/s/providers/{kind}/{name}",
    "substring": lambda text, start, count=None: text[start:] if count is None else text[start : start + count],
    "take": lambda v, n: v[:n],
    "toLower": lambda v: v.lower(),
    "toObject": lambda v, key, value=lambda x: x: {key(x): value(x) for x in v},
    "union": merge,
    "uniqueString": unique_string,
}
FILES = ("loadTextContent", "loadJsonContent")


KINDS = {"string": str, "int": int, "bool": bool, "array": list, "object": dict}


def is_nullable(declared: Any) -> bool:
    return isinstance(declared, str) and declared.endswith("?")


def misfit(value: Any, declared: Any, at: str) -> str:
    """Why a value is not of the type a parameter is declared with; nothing if it is."""
    if isinstance(declared, dict):
        if not isinstance(value, dict):
            return f"{at} takes an object, not {value!r}"
        if extra := set(value) - set(declared):
            return f"{at} has no member {sorted(extra)}"
        if missing := {name for name, kind in declared.items() if name not in value and not is_nullable(kind)}:
            return f"{at} lacks {sorted(missing)}"
        return next(filter(None, (misfit(item, declared[name], f"{at}.{name}") for name, item in value.items())), "")
    if value is None and is_nullable(declared):
        return ""
    if isinstance(declared, tuple):
        return "" if value in declared else f"{at} takes one of {declared}, not {value!r}"
    kind = KINDS[declared.rstrip("?")]
    wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    return f"{at} takes {declared}, not {value!r}" if wrong else ""


class Evaluator:
    """One file with its parameters bound."""

    def __init__(self, path: Path, parameters: dict):
        self.path, self.declarations = path, parse(path)
        self.by_name = {d.name: d for d in self.declarations if d.kind in ("param", "var", "resource", "module")}
        declared = [d.name for d in self.declarations if d.kind in ("param", "var", "resource", "module")]
        if twice := {n for n in declared if declared.count(n) > 1}:
            raise BicepError(f"{path.name}: declared twice: {sorted(twice)}")
        self.known: dict[str, Any] = {}
        self.resources: list[Resource] = []
        self.nested: list[tuple[str, str]] = []
        self.given = parameters
        self.check_parameters()

    def check_parameters(self) -> None:
        wanted = {d.name: d for d in self.declarations if d.kind == "param"}
        if extra := set(self.given) - set(wanted):
            raise BicepError(f"{self.path.name}: no such parameter: {sorted(extra)}")
        missing = [n for n, d in wanted.items() if d.value is None and n not in self.given and not is_nullable(d.type)]
        if missing:
            raise BicepError(f"{self.path.name}: parameters missing: {missing}")

    def run(self) -> Deployment:
        for one in self.declarations:
            if one.kind in ("param", "resource", "module"):
                self.symbol(one.name)
        outputs = {d.name: self.value(d.value, {}) for d in self.declarations if d.kind == "output"}
        parameters = {d.name: self.known[d.name] for d in self.declarations if d.kind == "param"}
        return Deployment(self.path, parameters, self.resources, outputs, self.nested)

    def symbol(self, name: str) -> Any:
        if name not in self.known:
            if name not in self.by_name:
                raise BicepError(f"{self.path.name}: the name {name} does not exist")
            one = self.by_name[name]
            self.known[name] = getattr(self, "bind_" + one.kind)(one)
        return self.known[name]

    def bind_var(self, one: Declaration) -> Any:
        return self.value(one.value, {})

    def bind_param(self, one: Declaration) -> Any:
        value = self.given[one.name] if one.name in self.given else (self.value(one.value, {}) if one.value else None)
        if value is None and is_nullable(one.type):
            return None
        if wrong := misfit(value, one.type, one.name):
            raise BicepError(f"{self.path.name}: parameter {wrong}")
        for rule, arguments in one.decorators:
            bound = [self.value(a, {}) for a in arguments]
            broken = {
                "allowed": lambda: value not in bound[0],
                "minLength": lambda: len(value) < bound[0] and not isinstance(value, Runtime),
                "maxLength": lambda: len(value) > bound[0] and not isinstance(value, Runtime),
                "minValue": lambda: value < bound[0],
                "maxValue": lambda: value > bound[0],
            }.get(rule, lambda: False)
            if broken():
                raise BicepError(f"{self.path.name}: parameter {one.name} breaks @{rule}({bound[0]})")
        return value

    def bind_resource(self, one: Declaration) -> Any:
        if one.value[0] == "for":
            return [self.add(one, body, local) for body, local in self.each(one.value)]
        condition, body = (one.value[1], one.value[2]) if one.value[0] == "when" else (None, one.value)
        if condition and not self.value(condition, {}):
            made = Resource(self.path.stem, one.name, one.text, self.value(body, {}), True, [])
            return made
        return self.add(one, body, {})

    def each(self, loop: tuple) -> list[tuple]:
        _, names, source, condition, body = loop
        found = []
        for index, item in enumerate(self.value(source, {})):
            local = dict(zip(names, (item, index)))
            if condition is None or self.value(condition, local):
                found.append((body, local))
        return found

    def add(self, one: Declaration, body: tuple, local: dict) -> Resource:
        made = Resource(self.path.stem, one.name, one.text, self.value(body, local), one.existing, [n for n, _ in one.decorators])
        self.resources.append(made)
        return made

    def bind_module(self, one: Declaration) -> Any:
        condition, body = (one.value[1], one.value[2]) if one.value[0] == "when" else (None, one.value)
        target = self.path.parent / one.text
        if not target.is_file():
            raise BicepError(f"{self.path.name}: no module file {one.text}")
        if condition and not self.value(condition, {}):
            return {"outputs": Runtime(f"<{one.name}>")}
        fields = self.value(body, {})
        inner = Evaluator(target, fields.get("params", {})).run()
        self.resources += inner.resources
        scope = fields.get("scope", FUNCTIONS["resourceGroup"]())
        self.nested += [(scope["id"], fields["name"]), *inner.nested]
        return {"outputs": inner.outputs, "name": fields["name"]}

    def value(self, node: tuple, local: dict) -> Any:
        return getattr(self, "on_" + node[0])(node, local)

    def on_value(self, node: tuple, _local: dict) -> Any:
        return node[1]

    def on_string(self, node: tuple, local: dict) -> str:
        parts = [p if isinstance(p, str) else as_text(self.value(p, local)) for p in node[1]]
        return "".join(parts)

    def on_name(self, node: tuple, local: dict) -> Any:
        return local[node[1]] if node[1] in local else self.symbol(node[1])

    def on_object(self, node: tuple, local: dict) -> dict:
        return {self.on_string(key, local): self.value(item, local) for key, item in node[1]}

    def on_array(self, node: tuple, local: dict) -> list:
        return [self.value(item, local) for item in node[1]]

    def on_for(self, node: tuple, local: dict) -> list:
        _, names, source, _condition, body = node
        return [self.value(body, {**local, **dict(zip(names, (item, i)))}) for i, item in enumerate(self.value(source, local))]

    def on_lambda(self, node: tuple, local: dict) -> Callable:
        return lambda *given: self.value(node[2], {**local, **dict(zip(node[1], given))})

    def on_if(self, node: tuple, local: dict) -> Any:
        return self.value(node[2] if self.value(node[1], local) else node[3], local)

    def on_unary(self, node: tuple, local: dict) -> Any:
        value = self.value(node[2], local)
        return not value if node[1] == "!" else -value

    def on_binary(self, node: tuple, local: dict) -> Any:
        op, left = node[1], self.value(node[2], local)
        if op == "&&":
            return bool(left) and bool(self.value(node[3], local))
        if op == "||":
            return bool(left) or bool(self.value(node[3], local))
        if op == "??":
            return self.value(node[3], local) if left is None else left
        right = self.value(node[3], local)
        return {
            "==": lambda: left == right, "!=": lambda: left != right,
            "=~": lambda: left.lower() == right.lower(), "!~": lambda: left.lower() != right.lower(),
            "<": lambda: left < right, "<=": lambda: left <= right, ">": lambda: left > right, ">=": lambda: left >= right,
            "+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right,
            "/": lambda: left // right, "%": lambda: left % right,
        }[op]()

    def on_member(self, node: tuple, local: dict) -> Any:
        return self.pick(self.value(node[1], local), node[2])

    def on_maybe(self, node: tuple, local: dict) -> Any:
        return self.value(node[1], local).get(node[2])

    def on_index(self, node: tuple, local: dict) -> Any:
        holder, key = self.value(node[1], local), self.value(node[2], local)
        return self.pick(holder, key) if isinstance(key, str) else holder[key]

    def on_method(self, node: tuple, local: dict) -> Runtime:
        return Runtime(f"<{self.value(node[1], local).name}.{node[2]}()>")

    def pick(self, holder: Any, name: str) -> Any:
        if isinstance(holder, Resource):
            if name in ("id", "name"):
                return holder.id if name == "id" else holder.body["name"]
            return Runtime(f"<{holder.name}.{name}>")
        if isinstance(holder, Runtime):
            return holder.member(name)
        if isinstance(holder, dict) and name in holder:
            return holder[name]
        raise BicepError(f"{self.path.name}: no property {name}")

    def on_call(self, node: tuple, local: dict) -> Any:
        name, arguments = node[1], [self.value(a, local) for a in node[2]]
        if name in FILES:
            text = (self.path.parent / arguments[0]).read_text(encoding="utf-8")
            return text if name == "loadTextContent" else json.loads(text)
        if name not in FUNCTIONS:
            raise BicepError(f"{self.path.name}: unknown function {name}")
        return FUNCTIONS[name](*arguments)


def deploy(path: Path, parameters: dict) -> Deployment:
    """The deployment of `path` with these parameters, on paper."""
    return Evaluator(path, parameters).run()
