"""The manifest: what a package's identity is made of, in one form."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import PackageFormatUnknown, PackageManifestMalformed, PackageRefused, PackageTooLarge
from perdure.packages.canonical import encode
from perdure.packages.manifest import Manifest, ManifestFile, ManifestMessage, ManifestProcess, decode_manifest, describe, identity_of
from perdure.packages.ranges import normal_range, normal_requirement
from perdure.schemas import SchemaRegistry, schema_of
from tests.packages.samples import FILES, IDENTITY, MANIFEST, ORDER, shop


class Placed(msgspec.Struct):
    sku: str
    lines: list[int] = []


class Tree(msgspec.Struct):
    label: str
    children: list[Tree] = []


PLACED, PLACED_SCHEMAS = schema_of(Placed)
TREE, TREE_SCHEMAS = schema_of(list[Tree])
FOUND, FOUND_SCHEMAS = schema_of(dict[str, bool])
SCHEMAS = PLACED_SCHEMAS | TREE_SCHEMAS | FOUND_SCHEMAS
TYPED = ManifestProcess(
    type="typed",
    object="shop.flows:Typed",
    fields=TREE.hash,
    messages=(
        ManifestMessage(kind="place", schema=PLACED.hash, result=None),
        ManifestMessage(kind="ask", schema=TREE.hash, result=FOUND.hash),
    ),
)


def tree(**changes: Any) -> dict[str, Any]:
    return {**json.loads(MANIFEST), **changes}


def process(**changes: Any) -> dict[str, Any]:
    return {"fields": None, "messages": [], "object": "shop.flows:Order", "type": "order", **changes}


def with_schemas(**changes: Any) -> dict[str, Any]:
    described = describe(FILES, name="shop", python="", processes=[TYPED], schemas=SCHEMAS)
    return {**json.loads(described.encode()), **changes}


def refusal(value: Any) -> str:
    with pytest.raises(PackageManifestMalformed, match=r"^perdure\.json: ") as caught:
        decode_manifest(encode(value))
    assert caught.value.code == "package-manifest-malformed"
    return str(caught.value).removeprefix("perdure.json: ")


def test_the_vector_has_its_bytes_and_its_identity() -> None:
    manifest = shop()

    assert manifest.encode() == MANIFEST
    assert manifest.identity == identity_of(MANIFEST) == IDENTITY == hashlib.sha256(MANIFEST).hexdigest()
    assert decode_manifest(MANIFEST) == manifest


def test_the_order_of_what_is_given_does_not_count() -> None:
    processes = [ORDER, TYPED, ManifestProcess(type="Änderung", object="shop.flows:Change", fields=None, messages=())]
    requires = ["perdure>=1", "msgspec", "Attrs<30"]
    made = {
        describe(dict(files), name="shop", python=">=3.11", processes=some_processes, requires=some_requires, schemas=SCHEMAS).encode()
        for files, some_processes, some_requires in zip(
            itertools.permutations(FILES.items()), itertools.permutations(processes), itertools.permutations(requires), strict=True
        )
    }

    [one] = made
    assert [row["type"] for row in json.loads(one)["processes"]] == ["order", "typed", "Änderung"]
    assert [row["kind"] for row in json.loads(one)["processes"][1]["messages"]] == ["ask", "place"]
    assert json.loads(one)["requires"] == ["attrs<30", "msgspec", "perdure>=1"]


def test_schemas_come_whole_and_only_those_that_are_reached() -> None:
    unused = schema_of(dict[str, Placed])[1]
    described = describe(FILES, name="shop", python="", processes=[TYPED], schemas=SCHEMAS | unused)

    assert described.schemas == SCHEMAS
    assert {name: hashlib.sha256(document).digest()[:16].hex() for name, document in described.schemas.items()} == {
        name: name for name in SCHEMAS
    }
    assert decode_manifest(described.encode()) == described


def test_whatever_is_in_the_manifest_is_in_the_identity() -> None:
    made = [
        shop(),
        shop({**FILES, "shop/flows.py": b"x = 2\n"}),
        shop({**FILES, "shop/more.py": b""}),
        describe(FILES, name="shop2", python=">=3.11", processes=[ORDER], requires=["perdure>=1,<2"]),
        describe(FILES, name="shop", python=">=3.12", processes=[ORDER], requires=["perdure>=1,<2"]),
        describe(FILES, name="shop", python=">=3.11", processes=[], requires=["perdure>=1,<2"]),
        describe(FILES, name="shop", python=">=3.11", processes=[ORDER], requires=["perdure>=1,<3"]),
        describe(FILES, name="shop", python=">=3.11", processes=[ORDER], requires=["perdure>=1,<2"], isolation="process"),
    ]

    assert len({manifest.identity for manifest in made}) == len(made)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "an object with a `format`"),
        ({}, "an object with a `format`"),
        ("format", "an object with a `format`"),
        (tree(format="1"), "an object with a `format`"),
        (tree(format=True), "an object with a `format`"),
        (tree(more=1), "unknown field `more`"),
        ({key: value for key, value in tree().items() if key != "requires"}, "missing required field `requires`"),
        (tree(name=""), "name: expected 1 to 100"),
        (tree(name="-shop"), "name: expected 1 to 100"),
        (tree(name="shop."), "name: expected 1 to 100"),
        (tree(name="Shop"), "name: expected 1 to 100"),
        (tree(name="shop\n"), "name: expected 1 to 100"),
        (tree(name="a" * 101), "name: expected 1 to 100"),
        (tree(name=None), "Expected `str`, got `null`"),
        (tree(isolation="none"), "Invalid enum value 'none'"),
        (tree(files={}), "Expected `array`"),
        (tree(files=[["a.py", 0]]), "at least length 3"),
        (tree(files=[["a.py", 0, "0" * 64, 1]]), "at most length 3"),
        (tree(files=[["a.py", -1, "0" * 64]]), ">= 0"),
        (tree(files=[["a.py", True, "0" * 64]]), "Expected `int`"),
        (tree(files=[["a.py", "0", "0" * 64]]), "Expected `int`"),
        (tree(files=[["a.py", 0, "0" * 63]]), "matching regex"),
        (tree(files=[["a.py", 0, "0" * 64 + "\n"]]), "matching regex"),
        (tree(files=[["a.py", 0, "A" * 64]]), "matching regex"),
        (tree(files=[[1, 0, "0" * 64]]), "Expected `str`"),
        (tree(files=[["b.py", 0, "0" * 64], ["a.py", 0, "0" * 64]]), "files: expected in order"),
        (tree(processes=[process(type="")]), "type: expected 1 to 256 bytes"),
        (tree(processes=[process(type="a" * 257)]), "type: expected 1 to 256 bytes"),
        (tree(processes=[process(type="a\x1b")]), "control characters"),
        (tree(processes=[process(), process()]), "each once"),
        (tree(processes=[process(type="b"), process(type="a")]), "processes: expected in order"),
        (tree(processes=[process(object="shop.flows")]), "expected module:name"),
        (tree(processes=[process(object="shop/flows.py:Order")]), "expected module:name"),
        (tree(processes=[process(object="shop.flows:Order()")]), "expected module:name"),
        (tree(processes=[process(object=".flows:Order")]), "expected module:name"),
        (tree(processes=[process(object=":Order")]), "expected module:name"),
        (tree(processes=[process(object="shop@0123456789abcdef.flows:Order")]), "expected module:name"),
        (tree(processes=[process(object="a:" + "b" * limits.PACKAGE_OBJECT_MAX)]), "expected module:name"),
        (tree(processes=[process(more=1)]), "unknown field `more`"),
        (tree(processes=[process(fields="0" * 31)]), "matching regex"),
        (tree(processes=[process(fields="0" * 32)]), "schema 00000000000000000000000000000000"),
        (tree(processes=[process(messages=[{"kind": "a", "result": None, "schema": None}])]), "Expected `str`"),
        (tree(processes=[process(messages=[{"kind": "", "result": None, "schema": "0" * 32}])]), "kind: expected 1 to 256"),
        (tree(processes=[process(messages=[{"kind": "a", "result": None, "schema": "0" * 32}] * 2)]), "each once"),
        (tree(python="3.11"), "expected a range of versions"),
        (tree(python=">=three"), "expected a range of versions"),
        (tree(python=">=3" + "," * 2_000), "the limit is 1,024"),
        (tree(requires="perdure"), "Expected `array`"),
        (tree(requires=["not a requirement"]), "expected a requirement"),
        (tree(requires=["a @ https://example.test/a.zip"]), "found a URL"),
        (tree(requires=["b", "a"]), "requires: expected in order"),
        (tree(requires=["a", "a"]), "each once"),
        (tree(requires=["a" * 1_025]), "the limit is 1,024"),
        (tree(schemas=[]), "expected an object"),
        (tree(schemas={"0" * 32: {"defs": ["int"], "schema": 1}}), "no process refers to"),
        (with_schemas(schemas={}), "is neither given nor stored"),
        (with_schemas(schemas={name: {"defs": ["int"], "schema": 1} for name in SCHEMAS}), "hashes to"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_manifest_that_breaks_a_rule_is_refused_and_the_text_names_it(value: Any, says: str) -> None:
    assert says in refusal(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "Expecting value"),
        (b"PK", "Expecting value"),
        (b"\xff", "can't decode"),
        (MANIFEST + b"\n", "canonical"),
        (MANIFEST.replace(b'"format":1', b'"format": 1'), "canonical"),
        (MANIFEST.replace(b'"format":1', b'"format":1.0'), "float"),
        (MANIFEST.replace(b'"format":1', b'"format":1,"format":1'), "canonical"),
        (MANIFEST.replace(b"shop/flows", b"shop\\/flows"), "canonical"),
        (MANIFEST.replace(b'"schemas":{}', b'"schemas":{},"x":' + b"[" * 70 + b"]" * 70), "64 levels"),
    ],
)
def test_a_manifest_in_another_spelling_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PackageManifestMalformed, match=says):
        decode_manifest(data)


@pytest.mark.parametrize("value", [tree(format=2), {"format": 0}, {"format": 2, "whatever": [{"it": "has"}]}])
def test_a_manifest_of_another_format_says_so_whatever_else_it_has(value: Any) -> None:
    with pytest.raises(PackageFormatUnknown) as caught:
        decode_manifest(encode(value))

    assert (caught.value.code, caught.value.found, caught.value.known) == ("package-format-unknown", value["format"], 1)


def test_each_limit_is_reached_and_not_passed() -> None:
    files = [[f"{number:05}.txt", 0, "0" * 64] for number in range(limits.PACKAGE_FILES_MAX + 1)]
    types = [process(type=f"{number:04}") for number in range(limits.PACKAGE_TYPES_MAX + 1)]
    requires = [f"a{number:04}" for number in range(limits.PACKAGE_REQUIRES_MAX + 1)]
    within = tree(files=files[:-1], processes=types[:-1], requires=requires[:-1], name="a" * 100, python=">=3" + " " * 1_021)

    assert len(decode_manifest(encode(within)).files) == limits.PACKAGE_FILES_MAX
    assert "processes: 1,001, the limit is 1,000" in refusal(tree(processes=types))
    assert "requires: 1,001, the limit is 1,000" in refusal(tree(requires=requires))
    with pytest.raises(PackageTooLarge, match="files: 10,001, the limit is 10,000"):
        decode_manifest(encode(tree(files=files)))
    with pytest.raises(PackageTooLarge, match="bytes: 8,388,609, the limit is 8,388,608"):
        decode_manifest(b" " * (limits.PACKAGE_MANIFEST_MAX + 1))
    with pytest.raises(PackageManifestMalformed):
        decode_manifest(b" " * limits.PACKAGE_MANIFEST_MAX)


def test_each_limit_of_a_type_is_reached_and_not_passed() -> None:
    known = with_schemas()
    [schema, *_] = known["schemas"]
    kinds = [{"kind": f"{number:04}", "result": None, "schema": schema} for number in range(limits.PACKAGE_KINDS_MAX + 1)]
    longest = "a:" + "b" * (limits.PACKAGE_OBJECT_MAX - 2)

    def taken(**changes: Any) -> Any:
        return decode_manifest(encode({**known, "processes": [*known["processes"], process(type="zz", **changes)]})).processes[-1]

    assert len(taken(messages=kinds[:-1]).messages) == limits.PACKAGE_KINDS_MAX
    assert taken(object=longest).object == longest
    with pytest.raises(PackageManifestMalformed, match="messages: 1,001, the limit is 1,000"):
        taken(messages=kinds)
    with pytest.raises(PackageManifestMalformed, match="expected module:name"):
        taken(object=longest + "b")
    assert decode_manifest(encode(tree(requires=["a" * limits.PACKAGE_RANGE_MAX]))).requires[0] == "a" * limits.PACKAGE_RANGE_MAX


def test_schemas_that_would_take_too_long_to_check_are_refused_before() -> None:
    circle = [{"fields": [{"name": "a", "type": {"ref": (number + 1) % 1_001}}], "struct": "S"} for number in range(1_001)]

    assert "1,002,001 pairs, the limit is 1,000,000" in refusal(tree(schemas={"0" * 32: {"defs": circle, "schema": 1}}))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("perdure", "perdure"),
        ("Perdure <2, >= 1", "perdure>=1,<2"),
        ("a_B.c==1.*", "a-b-c==1.*"),
        ("a[Y,x_z]~=1.4", "a[x-z,y]~=1.4"),
        ("a!=1.5,>1,<2", "a>1,!=1.5,<2"),
        ("a===any", "a===any"),
        ("a;python_version<'3.12'", 'a; python_version < "3.12"'),
    ],
)
def test_a_requirement_is_written_in_one_form(given: str, written: str) -> None:
    assert normal_requirement(given) == normal_requirement(written) == written


@pytest.mark.parametrize(
    ("given", "written"), [("", ""), (" <4 , >=3.11", ">=3.11,<4"), (">=3.11", ">=3.11"), ("!=3.12.*,>=3", ">=3,!=3.12.*")]
)
def test_a_range_is_written_in_one_form(given: str, written: str) -> None:
    assert normal_range(given) == normal_range(written) == written


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Shop"},
        {"python": "newest"},
        {"requires": ["a @ file:///a"]},
        {"processes": [ManifestProcess(type="\ud800", object="a:b", fields=None, messages=())]},
        {"processes": [ManifestProcess(type="a", object="a", fields=None, messages=())]},
        {"processes": [ManifestProcess(type="a", object="a:b", fields="0" * 32, messages=())]},
        {"processes": [TYPED], "schemas": dict.fromkeys(SCHEMAS, b"{}")},
        {"isolation": "none"},
    ],
)
def test_what_could_not_be_read_again_is_not_described(options: dict[str, Any]) -> None:
    with pytest.raises(PackageManifestMalformed):
        describe(FILES, **{"name": "shop", "python": "", **options})


def test_what_a_manifest_cannot_hold_is_not_written() -> None:
    odd: Any = msgspec.structs.replace(shop(), python=1.5)
    odder: Any = msgspec.structs.replace(shop(), schemas=SchemaRegistry({"a": b'{"a": 1}'}))

    for manifest in (odd, odder):
        with pytest.raises(PackageManifestMalformed):
            manifest.encode()


PATHS = st.lists(st.from_regex(r"[a-z]{1,6}/[a-zé]{1,6}\.py", fullmatch=True), unique=True, max_size=6)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    PATHS, NAMES, st.sets(st.sampled_from(["a", "b>=1", "c[x]<2", 'd; sys_platform == "linux"'])), st.sampled_from(["shared", "process"])
)
def test_what_is_written_is_read_as_the_same_manifest(paths: list[str], name: str, requires: set[str], isolation: Any) -> None:
    files = {path: path.encode() for path in paths}

    manifest = describe(files, name=name, python=">=3.11", requires=requires, isolation=isolation, processes=[TYPED], schemas=SCHEMAS)

    assert decode_manifest(manifest.encode()) == manifest
    assert {file.path: file for file in manifest.files} == {path: ManifestFile.of(path, data) for path, data in files.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*tree(), "type", "kind", "defs"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(tree())), JSON)
def test_any_value_in_any_field_is_taken_or_refused_with_a_code(field: str, value: Any) -> None:
    data = encode(tree(**{field: value}))
    try:
        found: Manifest = decode_manifest(data)
    except PackageRefused:
        return

    assert found.encode() == data
