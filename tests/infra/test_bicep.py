"""Every Bicep file is legal as far as two parsers and Microsoft's type data can tell.

Not the real compiler: that one can be had from no package registry.
"""

import re

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Parser

import bicep
import on_paper
import resource_types
from conftest import FILES, INFRA, LEAST, MAIN, VARIANTS, deploy

TREE_SITTER = Parser(Language(tree_sitter_bicep.language()))
ALSO_FUNCTIONS = {"loadTextContent()", "loadJsonContent()"}
DECORATORS = {"allowed", "description", "maxLength", "maxValue", "minLength", "minValue", "onlyIfNotExists", "secure"}


def syntax_errors(text: str) -> list[int]:
    """Lines the tree-sitter grammar cannot read."""
    found, todo = [], [TREE_SITTER.parse(text.encode()).root_node]
    while todo:
        node = todo.pop()
        if node.type == "ERROR" or node.is_missing:
            found.append(node.start_point[0] + 1)
        todo += node.children
    return sorted(found)


def name_faults(declarations: list) -> list[str]:
    """Names used and not declared, declared and not used, unknown functions and decorators."""
    declared = {d.name for d in declarations if d.kind in ("param", "var", "resource", "module")}
    used = set().union(*(bicep.names_used(d.value) for d in declarations))
    used |= set().union(*(bicep.names_used(a) for d in declarations for _, a in d.decorators))
    functions = {f + "()" for f in on_paper.FUNCTIONS} | ALSO_FUNCTIONS
    return (
        [f"does not exist: {n}" for n in sorted(used - declared - functions)]
        + [f"never used: {d.name}" for d in declarations if d.kind in ("param", "var") and d.name not in used]
        + [f"unknown decorator: {n}" for d in declarations for n, _ in d.decorators if n not in DECORATORS]
    )


def member_faults(declarations: list) -> list[str]:
    """Members of parameters that are used and not declared, declared and not used, or null and not asked for with `.?`."""
    known = {d.name: d.type for d in declarations if d.kind == "param" and isinstance(d.type, dict)}
    used = {one for d in declarations for one in bicep.members_used(d.value) if one[1] in known}
    asked = {(name, member) for _, name, member in used}
    found = [f"does not exist: {name}.{member}" for name, member in sorted(asked) if member not in known[name]]
    found += [f"never used: {name}.{member}" for name in known for member in known[name] if (name, member) not in asked]
    for how, name, member in sorted(used):
        if (how == "maybe") != on_paper.is_nullable(known[name].get(member)):
            found.append(f"wrongly asked for: {name}.{member}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_parses_and_every_name_in_it_exists(path):
    assert syntax_errors(path.read_text(encoding="utf-8")) == []
    assert name_faults(bicep.parse(path)) == []
    assert member_faults(bicep.parse(path)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_has_no_more_than_500_lines(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 500


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_parameter_is_described_and_every_secret_is_marked(path):
    for one in bicep.parse(path):
        if one.kind == "param":
            decorators = [name for name, _ in one.decorators]
            assert "description" in decorators, one.name
            held = one.type if isinstance(one.type, dict) else {one.name: one.type}
            if any(kind != "bool" and re.search(r"(?i)key$|settings$", name) for name, kind in held.items()):
                assert "secure" in decorators, one.name


def test_no_folder_is_deeper_than_modules():
    assert {p.parent for p in INFRA.rglob("*") if p.is_file()} <= {INFRA, INFRA / "modules", INFRA / "queries"}


def test_every_module_and_every_query_is_used():
    text = "".join(p.read_text(encoding="utf-8") for p in FILES)
    for path in [*(INFRA / "modules").iterdir(), *(INFRA / "queries").iterdir(), INFRA / "workbook.json", INFRA / "columns.json"]:
        assert path.name in text, path.name


def test_every_road_through_the_files_can_be_carried_out(variant):
    assert variant.outputs["nextSteps"]


def test_every_resource_says_what_azure_takes(variant):
    for one in variant.resources:
        if not one.existing:
            assert resource_types.faults(one.type, one.body) == [], one.symbol


def test_every_resource_declared_is_deployed_by_some_road():
    declared = {(f.stem, d.name) for f in FILES for d in bicep.parse(f) if d.kind == "resource" and not d.existing}
    reached = {(r.module, r.symbol) for p in VARIANTS.values() for r in deploy(**p).resources if not r.existing}
    assert declared - reached == set()


def test_deploying_twice_gives_the_same_names():
    first, second = deploy(), deploy()
    assert [r.id for r in first.resources] == [r.id for r in second.resources]


def test_no_two_resources_share_a_name(variant):
    ids = [(r.id, str(r.body.get("scope", ""))) for r in variant.resources if not r.existing]
    assert len(ids) == len(set(ids))


def test_every_module_is_deployed_under_a_name_of_its_own_that_azure_takes(variant):
    assert len(variant.nested) == len(set(variant.nested)) > 8
    assert [name for _, name in variant.nested if len(name) > 64] == []


def test_what_is_deployed_elsewhere_goes_into_the_group_named_under_a_name_no_other_app_has():
    hub = {"eventHubNamespace": "hubs", "eventHubName": "alerts", "eventHubResourceGroup": "rg-hub", "eventHubSubscriptionId": "h"}
    places = {"workspaceResourceGroup": "rg-law", "workspaceSubscriptionId": "w", **hub}
    lake = {"alertBlobServiceUri": "https://lake.blob.core.windows.net", "alertStorageResourceGroup": "rg-lake", "alertStorageSubscriptionId": "l"}
    made = deploy(targetType="LogsIngestion;EventHub;StorageBlob", **places, **lake)
    elsewhere = {(group, re.sub(r"-[a-z2-7]{13}$", "-HASH", name)) for group, name in made.nested if group != on_paper.group_id()}
    assert elsewhere == {
        ("/subscriptions/w/resourceGroups/rg-law", "dae-tables-HASH"),
        ("/subscriptions/w/resourceGroups/rg-law", "dae-functions-HASH"),
        ("/subscriptions/w/resourceGroups/rg-law", "dae-sentinel-HASH"),
        ("/subscriptions/h/resourceGroups/rg-hub", "dae-event-hub-HASH"),
        ("/subscriptions/l/resourceGroups/rg-lake", "dae-alert-container-HASH"),
    }


def test_the_example_has_every_required_parameter_and_no_unknown_one():
    example = INFRA / "main.example.bicepparam"
    given = {d.name for d in bicep.parse(example) if d.kind == "param"}
    known = {d.name for d in bicep.parse(MAIN) if d.kind == "param"}
    # Not required, but wrong by default for every fleet of more than a dozen.
    assert given == set(LEAST) | {"callsPerHour"}
    commented = set(re.findall(r"^// param (\w+) =", example.read_text(encoding="utf-8"), re.M))
    assert commented and commented <= known


# ---- The checks above can fail

BROKEN = {
    "var a = {\n": "syntax",
    "var a = [1, 2": "syntax",
    "param a string\nvar b = a\noutput c string = d\n": "does not exist: d",
    "var a = noSuchFunction(1)\noutput b int = a\n": "does not exist: noSuchFunction()",
    "param a string\n": "never used: a",
    "@secret()\nparam a string\noutput b string = a\n": "unknown decorator: secret",
    "var a = true ? 'x' : missing\noutput b string = a\n": "does not exist: missing",
}


@pytest.mark.parametrize(("text", "fault"), BROKEN.items(), ids=BROKEN.values())
def test_a_broken_file_is_noticed(tmp_path, text, fault):
    path = tmp_path / "broken.bicep"
    path.write_text(text, encoding="utf-8")
    if fault == "syntax":
        assert syntax_errors(text)
        with pytest.raises((bicep.BicepError, IndexError)):
            bicep.parse(path)
    else:
        assert fault in name_faults(bicep.parse(path))


TYPED = "type D = 'x' | 'y'\n@secure()\ntype A = {\n  b: string\n  c: int?\n  d: D\n}\nparam a A\noutput e array = [a.b, a.?c, a.d]\n"


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("a.b", "a.bb", "does not exist: a.bb"),
        (", a.d", "", "never used: a.d"),
        ("a.?c", "a.c", "wrongly asked for: a.c"),
        ("a.b", "a.?b", "wrongly asked for: a.b"),
    ],
    ids=str,
)
def test_a_misspelt_member_of_a_parameter_is_noticed(tmp_path, right, wrong, fault):
    path = tmp_path / "typed.bicep"
    path.write_text(TYPED, encoding="utf-8")
    assert (syntax_errors(TYPED), member_faults(bicep.parse(path))) == ([], [])
    assert [d.decorators for d in bicep.parse(path) if d.kind == "param"] == [[("secure", [])]]
    assert right in TYPED
    path.write_text(TYPED.replace(right, wrong), encoding="utf-8")
    assert fault in member_faults(bicep.parse(path))


@pytest.mark.parametrize(("right", "wrong", "fault"), [("d: D", "d: E", "type E does not exist"), ("d: D", "d: string", "never used: .'D'.")], ids=str)
def test_a_misspelt_type_is_noticed(tmp_path, right, wrong, fault):
    path = tmp_path / "typed.bicep"
    path.write_text(TYPED.replace(right, wrong), encoding="utf-8")
    with pytest.raises(bicep.BicepError, match=fault):
        bicep.parse(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"b": "1", "d": "x", "bb": "1"}, "a has no member \\['bb'\\]"),
        ({"b": "1"}, "a lacks \\['d'\\]"),
        ({"b": 1, "d": "x"}, "a.b takes string"),
        ({"b": "1", "d": "z"}, "a.d takes one of"),
        ({"b": "1", "d": "x", "c": "2"}, "a.c takes int"),
        ("b", "a takes an object"),
    ],
    ids=str,
)
def test_a_parameter_takes_no_object_of_another_shape(tmp_path, given, message):
    path = tmp_path / "typed.bicep"
    path.write_text(TYPED, encoding="utf-8")
    for c in ({}, {"c": None}, {"c": 2}):
        assert on_paper.deploy(path, {"a": {"b": "1", "d": "y", **c}}).outputs["e"] == ["1", c.get("c"), "y"]
    with pytest.raises(bicep.BicepError, match=message):
        on_paper.deploy(path, {"a": given})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"planKind": "Tiny"}, "breaks @allowed"),
        ({"runEveryMinutes": 7}, "breaks @allowed"),
        ({"pageSize": 10}, "breaks @minValue"),
        ({"deviceGroups": []}, "breaks @minLength"),
        ({"noSuchThing": 1}, "no such parameter"),
        ({"trustName": 5}, "takes string"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused(parameters, message):
    with pytest.raises(bicep.BicepError, match=message):
        deploy(**parameters)


def test_a_module_parameter_left_out_is_noticed(tmp_path):
    (tmp_path / "inner.bicep").write_text("param a string\noutput b string = a\n", encoding="utf-8")
    outer = tmp_path / "outer.bicep"
    outer.write_text("module m 'inner.bicep' = {\n  name: 'm'\n  params: {}\n}\n", encoding="utf-8")
    with pytest.raises(bicep.BicepError, match="parameters missing"):
        on_paper.deploy(outer, {})
    outer.write_text("module m 'inner.bicep' = {\n  name: 'm'\n  params: { a: 'x' }\n}\noutput c string = m.outputs.nothing\n", encoding="utf-8")
    with pytest.raises(bicep.BicepError, match="no property nothing"):
        on_paper.deploy(outer, {})


def test_two_modules_of_one_name_are_noticed(tmp_path):
    (tmp_path / "inner.bicep").write_text("output b string = 'x'\n", encoding="utf-8")
    middle = "module a 'inner.bicep' = {\n  name: 'm'\n}\n"
    (tmp_path / "middle.bicep").write_text(middle, encoding="utf-8")
    outer = tmp_path / "outer.bicep"
    outer.write_text("module a 'middle.bicep' = {\n  name: 'm'\n}\nmodule b 'inner.bicep' = {\n  name: 'm'\n  scope: resourceGroup('s', 'other')\n}\n", encoding="utf-8")
    made = on_paper.deploy(outer, {}).nested
    assert made == [("/subscriptions/s/resourceGroups/rg", "m")] * 2 + [("/subscriptions/s/resourceGroups/other", "m")]


def test_a_wrong_resource_body_is_noticed():
    kind = "Microsoft.KeyVault/vaults/secrets@2024-11-01"
    assert resource_types.faults(kind, {"name": "a", "properties": {"value": "v"}}) == []
    assert resource_types.faults(kind, {"name": "a", "properties": {"valeu": "v"}}) == ["properties.valeu: not allowed"]
    assert resource_types.faults(kind, {"name": "a"}) == ["properties: missing"]
    assert resource_types.faults(kind, {"name": "a", "properties": {"value": 1}}) == ["properties.value: string expected"]
    assert resource_types.faults("Microsoft.KeyVault/vaults@1999-01-01", {}) == ["unknown resource type"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3 % 4", 1),
        ("'a${toLower('B')}c'", "abc"),
        ("empty('') ? 'none' : missing.member", "none"),
        ("filter(['a', 'b'], x => x != 'a')[0]", "b"),
        ("map([1, 2], n => n == 1 ? 'one' : string(n))", ["one", "2"]),
        ("join(['a', 'b'], ';')", "a;b"),
        ("null ?? 'x'", "x"),
        ("'it\\'s'", "it's"),
    ],
)
def test_the_evaluator_works_out_expressions_as_bicep_does(tmp_path, expression, value):
    path = tmp_path / "one.bicep"
    path.write_text(f"output it string = {expression}\n", encoding="utf-8")
    assert on_paper.deploy(path, {}).outputs["it"] == value
