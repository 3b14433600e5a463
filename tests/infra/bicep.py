"""A small reader of Bicep, for tests: from text to statements.

It knows the part of the language this project writes, and reads expressions into
tuples without working them out; on_paper.py does that. It is not the Bicep
compiler: what it takes may still be refused there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class BicepError(Exception):
    """The text is not legal, as far as this reader can tell."""


TOKEN = re.compile(
    r"(?P<space>[ \t\r]+|//[^\n]*|/\*.*?\*/)|(?P<newline>\n)|(?P<number>\d+)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<op>=>|==|!=|=~|!~|<=|>=|&&|\|\||\?\?|\.\?|::|[-+*/%<>!?:.,()\[\]{}=@|])",
    re.S,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", "$": "$"}


def lex(text: str, start: int = 0, inner: bool = False) -> tuple[list[tuple], int]:
    """Tokens of `text` as (kind, value, offset); with `inner`, up to the closing brace."""
    tokens, at, depth = [], start, 0
    while at < len(text):
        if text.startswith("'''", at):
            end = text.index("'''", at + 3)
            body = text[at + 3 : end]
            tokens.append(("string", [body.removeprefix("\n")], at))
            at = end + 3
        elif text[at] == "'":
            parts, here, literal = [], at, ""
            at += 1
            while text[at] != "'":
                if text[at] == "\n":
                    raise BicepError(f"unfinished string at offset {here}")
                if text[at] == "\\":
                    if text[at + 1] not in ESCAPES:
                        raise BicepError(f"unknown escape \\{text[at + 1]}")
                    literal, at = literal + ESCAPES[text[at + 1]], at + 2
                elif text.startswith("${", at):
                    inside, at = lex(text, at + 2, inner=True)
                    parts += [literal, Parser(inside + [("end", "", at)]).whole_expression()]
                    literal = ""
                else:
                    literal, at = literal + text[at], at + 1
            parts.append(literal)
            tokens.append(("string", parts, here))
            at += 1
        else:
            found = TOKEN.match(text, at)
            if not found:
                raise BicepError(f"unexpected character {text[at]!r} at offset {at}")
            kind, value = found.lastgroup, found.group()
            if inner and value == "}" and depth == 0:
                return tokens, found.end()
            depth += (value == "{") - (value == "}")
            if kind != "space":
                tokens.append((kind, value, at))
            at = found.end()
    if inner:
        raise BicepError("unfinished interpolation")
    return tokens, at


BINARY = {
    "??": 1, "||": 2, "&&": 3, "==": 4, "!=": 4, "=~": 4, "!~": 4,
    "<": 5, "<=": 5, ">": 5, ">=": 5, "+": 6, "-": 6, "*": 7, "/": 7, "%": 7,
}


@dataclass
class Declaration:
    """One top-level statement.

    The type is a name such as `int?`, a tuple of the texts it may be, or, of an
    object whose members are declared, their names and types.
    """

    kind: str
    name: str
    value: Any = None
    type: Any = None
    text: str = ""
    existing: bool = False
    decorators: list = field(default_factory=list)


class Parser:
    """Recursive descent; expressions become tuples whose first item is their kind."""

    def __init__(self, tokens: list[tuple]):
        self.tokens, self.at = tokens, 0

    def peek(self, ahead: int = 0) -> tuple:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def take(self, value: str | None = None, kind: str | None = None) -> Any:
        token = self.peek()
        if (value is not None and (token[0] == "string" or token[1] != value)) or (kind and token[0] != kind):
            raise BicepError(f"expected {value or kind}, found {token[1]!r} at offset {token[2]}")
        self.at += 1
        return token[1]

    def accept(self, value: str) -> bool:
        token = self.peek()
        if token[0] != "string" and token[1] == value:
            self.at += 1
            return True
        return False

    def newlines(self) -> None:
        while self.peek()[0] == "newline":
            self.at += 1

    def whole_expression(self) -> tuple:
        value = self.expression()
        if self.peek()[0] != "end":
            raise BicepError(f"unexpected {self.peek()[1]!r} at offset {self.peek()[2]}")
        return value

    def expression(self) -> tuple:
        if self.peek()[0] == "name" and self.peek(1)[1] == "=>":
            name = self.take()
            self.take("=>")
            return ("lambda", [name], self.expression())
        test = self.binary(1)
        if self.accept("?"):
            yes = self.expression()
            self.take(":")
            return ("if", test, yes, self.expression())
        return test

    def binary(self, least: int) -> tuple:
        left = self.unary()
        while self.peek()[0] == "op" and BINARY.get(self.peek()[1], 0) >= least:
            op = self.take()
            left = ("binary", op, left, self.binary(BINARY[op] + 1))
        return left

    def unary(self) -> tuple:
        for op in ("!", "-"):
            if self.accept(op):
                return ("unary", op, self.unary())
        return self.postfix(self.primary())

    def postfix(self, value: tuple) -> tuple:
        while True:
            if self.accept(".?"):
                value = ("maybe", value, self.take(kind="name"))
            elif self.accept("."):
                name = self.take(kind="name")
                if self.peek()[1] == "(" and self.peek()[0] == "op":
                    value = ("method", value, name, self.arguments())
                else:
                    value = ("member", value, name)
            elif self.accept("["):
                value = ("index", value, self.expression())
                self.take("]")
            elif self.peek()[1] == "!" and self.peek(1)[1] in (".", ",", ")", "\n"):
                self.at += 1
            else:
                return value

    def arguments(self) -> list[tuple]:
        self.take("(")
        found = []
        self.newlines()
        while not self.accept(")"):
            found.append(self.expression())
            self.newlines()
            if not self.accept(","):
                self.newlines()
                self.take(")")
                break
            self.newlines()
        return found

    def primary(self) -> tuple:
        kind, value, offset = self.peek()
        if kind == "string":
            self.at += 1
            return ("string", value)
        if kind == "number":
            self.at += 1
            return ("value", int(value))
        if kind == "name":
            self.at += 1
            if value in ("true", "false", "null"):
                return ("value", {"true": True, "false": False, "null": None}[value])
            if self.peek()[0] == "op" and self.peek()[1] == "(":
                return ("call", value, self.arguments())
            return ("name", value)
        if self.accept("("):
            self.newlines()
            inner = self.expression()
            self.newlines()
            self.take(")")
            return inner
        if self.accept("{"):
            return self.object()
        if self.accept("["):
            return self.array()
        raise BicepError(f"unexpected {value!r} at offset {offset}")

    def object(self) -> tuple:
        pairs, seen = [], set()
        self.newlines()
        while not self.accept("}"):
            key = self.take() if self.peek()[0] == "name" else ("string", self.take(kind="string"))
            if isinstance(key, str):
                key = ("string", [key])
            if str(key) in seen:
                raise BicepError(f"property {key[1]} stands twice")
            seen.add(str(key))
            self.take(":")
            pairs.append((key, self.expression()))
            if not self.accept(",") and self.peek()[0] != "newline" and self.peek()[1] != "}":
                raise BicepError(f"expected a new line at offset {self.peek()[2]}")
            self.newlines()
        return ("object", pairs)

    def array(self) -> tuple:
        self.newlines()
        if self.peek()[0] == "name" and self.peek()[1] == "for":
            self.take("for")
            if self.accept("("):
                names = [self.take(kind="name")]
                self.take(",")
                names.append(self.take(kind="name"))
                self.take(")")
            else:
                names = [self.take(kind="name")]
            self.take("in")
            source = self.expression()
            self.take(":")
            condition = None
            if self.peek()[1] == "if":
                self.take("if")
                condition = self.primary()
            body = self.expression()
            self.newlines()
            self.take("]")
            return ("for", names, source, condition, body)
        items = []
        while not self.accept("]"):
            items.append(self.expression())
            if not self.accept(",") and self.peek()[0] != "newline" and self.peek()[1] != "]":
                raise BicepError(f"expected a new line at offset {self.peek()[2]}")
            self.newlines()
        return ("array", items)

    def type(self) -> Any:
        if self.peek()[0] == "string":
            texts = ["".join(self.take(kind="string"))]
            while self.accept("|"):
                texts.append("".join(self.take(kind="string")))
            return tuple(texts)
        if not self.accept("{"):
            return self.take(kind="name") + ("?" if self.accept("?") else "")
        members = {}
        self.newlines()
        while not self.accept("}"):
            name = self.take(kind="name")
            if name in members:
                raise BicepError(f"member {name} stands twice")
            self.take(":")
            members[name] = self.type()
            self.take(kind="newline")
            self.newlines()
        return members

    def file(self) -> list[Declaration]:
        found, decorators = [], []
        self.newlines()
        while self.peek()[0] != "end":
            if self.accept("@"):
                decorators.append((self.take(kind="name"), self.arguments()))
                self.newlines()
                continue
            one = self.statement()
            one.decorators, decorators = decorators, []
            found.append(one)
            if self.peek()[0] not in ("newline", "end"):
                raise BicepError(f"unexpected {self.peek()[1]!r} at offset {self.peek()[2]}")
            self.newlines()
        return found

    def statement(self) -> Declaration:
        kind = self.take(kind="name")
        if kind == "targetScope":
            self.take("=")
            return Declaration(kind, kind, self.expression())
        if kind == "using":
            return Declaration(kind, kind, self.expression())
        if kind == "type":
            one = Declaration(kind, self.take(kind="name"))
            self.take("=")
            one.type = self.type()
            return one
        if kind not in ("param", "var", "resource", "module", "output"):
            raise BicepError(f"unknown statement {kind}")
        one = Declaration(kind, self.take(kind="name"))
        if kind in ("param", "output") and self.peek()[1] != "=":
            one.type = self.type()
        if kind in ("resource", "module"):
            one.text = "".join(self.take(kind="string"))
            one.existing = self.accept("existing")
        if self.accept("="):
            if kind in ("resource", "module") and self.peek()[1] == "if":
                self.take("if")
                one.value = ("when", self.primary(), self.primary())
            else:
                one.value = self.expression()
        elif kind != "param":
            raise BicepError(f"{kind} {one.name} has no value")
        return one


TYPES = {"string", "int", "bool", "array", "object"}


def with_types(declarations: list[Declaration]) -> list[Declaration]:
    """The statements, with a declared type in the place of its name."""
    types, used = {d.name: d for d in declarations if d.kind == "type"}, set()

    def known(declared: Any) -> Any:
        if isinstance(declared, dict):
            return {name: known(kind) for name, kind in declared.items()}
        if isinstance(declared, str) and declared in types:
            used.add(declared)
            return known(types[declared].type)
        if isinstance(declared, str) and declared.rstrip("?") not in TYPES:
            raise BicepError(f"the type {declared} does not exist")
        return declared

    for one in declarations:
        if one.kind == "param":
            # A parameter of a declared type must not repeat what is said of that.
            one.decorators += types[one.type].decorators if isinstance(one.type, str) and one.type in types else []
            one.type = known(one.type)
    if idle := set(types) - used:
        raise BicepError(f"types never used: {sorted(idle)}")
    return declarations


def parse(path: Path) -> list[Declaration]:
    """The statements of a file."""
    text = path.read_text(encoding="utf-8")
    try:
        tokens, end = lex(text)
        return with_types(Parser(tokens + [("end", "", end)]).file())
    except BicepError as error:
        raise BicepError(f"{path.name}: {error}") from None


def names_used(node: Any, local: frozenset = frozenset()) -> set[str]:
    """Every free name of an expression, in branches not taken too; functions end with `()`."""
    if not isinstance(node, (tuple, list)):
        return set()
    if isinstance(node, tuple) and node:
        if node[0] == "name":
            return set() if node[1] in local else {node[1]}
        if node[0] == "call":
            return {node[1] + "()"} | names_used(node[2], local)
        if node[0] in ("member", "method"):
            return names_used(node[1], local) | (names_used(node[3], local) if node[0] == "method" else set())
        if node[0] == "lambda":
            return names_used(node[2], local | set(node[1]))
        if node[0] == "for":
            return names_used(node[2], local) | names_used(list(node[3:]), local | set(node[1]))
    return set().union(*(names_used(part, local) for part in node)) if node else set()


def members_used(node: Any) -> set[tuple[str, str, str]]:
    """Every member of a name in an expression: how it is asked for, the name, the member."""
    if not isinstance(node, (tuple, list)):
        return set()
    found = set().union(*(members_used(part) for part in node)) if node else set()
    if isinstance(node, tuple) and node and node[0] in ("member", "maybe") and node[1][0] == "name":
        found.add((node[0], node[1][1], node[2]))
    return found
