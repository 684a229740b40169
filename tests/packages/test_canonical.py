"""Canonical JSON: one spelling of each value, and no other is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.packages.canonical import decode, encode, said_by
from tests.packages.samples import MANIFEST

SAFE = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(max_codepoint=0x7F), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20)


def nested(depth: int) -> Any:
    value: Any = []
    for number in range(depth - 1):
        value = {"a": value} if number % 2 else [value]
    return value


@given(VALUES)
def test_what_is_written_is_read_as_the_same_value_and_is_json(value: Any) -> None:
    data = encode(value)

    assert decode(data) == value
    assert json.loads(data) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, False, None], "B": -1}, b'{"B":-1,"a":[true,false,null],"b":1}'),
        ({}, b"{}"),
        ([], b"[]"),
        ("", b'""'),
        (SAFE, b"9007199254740991"),
        (-SAFE, b"-9007199254740991"),
        # Each as JSON.stringify writes it.
        ('"\\/', b'"\\"\\\\/"'),
        ("\b\t\n\f\r", b'"\\b\\t\\n\\f\\r"'),
        ("\x00\x01\x0b\x1f", b'"\\u0000\\u0001\\u000b\\u001f"'),
        ("\x7f\x80\u2028\u2029", b'"\x7f\xc2\x80\xe2\x80\xa8\xe2\x80\xa9"'),
        ("é€\U0001f600\ufeff\uffff", '"é€\U0001f600\ufeff\uffff"'.encode()),
        ("e\u0301", b'"e\xcc\x81"'),
        ({"\x7f": 0, "~": 1, "": 2, "\x00": 3}, b'{"":2,"\\u0000":3,"~":1,"\x7f":0}'),
    ],
)
def test_a_value_has_this_spelling(value: Any, expected: bytes) -> None:
    assert encode(value) == expected
    assert decode(expected) == value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        [0.5],
        float("nan"),
        float("inf"),
        SAFE + 1,
        -SAFE - 1,
        {"ü": 1},
        {1: 1},
        {None: 1},
        {"\ud800": 1},
        "\ud800",
        ["a\udfff"],
        b"bytes",
        (1, 2),
        {1, 2},
        nested(limits.SCHEMA_DEPTH_MAX + 1),
    ],
    ids=repr,
)
def test_what_has_no_spelling_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(value)


def test_64_levels_are_written_and_read_and_one_more_is_not_read() -> None:
    deepest = nested(64)

    assert decode(encode(deepest)) == deepest
    with pytest.raises(ValueError, match="64 levels"):
        decode(b"[" + encode(deepest) + b"]")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":2}',
        b'{"\\u0061":1}',
        b"1.0",
        b"1e3",
        b"1E3",
        b"-0",
        b"01",
        b"+1",
        b"1.",
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 5_000,
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"null ",
        b" null",
        b"null\n",
        b"[1, 2]",
        b"[1,]",
        b'{"a": 1}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u001F"',
        b'"\\u000a"',
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b'"\t"',
        '{"ü":1}'.encode(),
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b"",
        b"{}{}",
        b"{}\x00",
        b"'a'",
        b"// {}\n{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_another_spelling_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(data)


@given(st.integers(0, len(MANIFEST) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_makes_another_value(place: int, byte: int) -> None:
    changed = MANIFEST[:place] + bytes([byte]) + MANIFEST[place + 1 :]
    try:
        value = decode(changed)
    except ValueError:
        return

    assert encode(value) == changed
    assert (value == decode(MANIFEST)) == (changed == MANIFEST)


@given(st.binary(max_size=40))
def test_any_bytes_are_one_spelling_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except ValueError:
        return

    assert encode(value) == data


def test_the_number_of_parts_is_bounded_before_anything_is_made_of_them() -> None:
    most = b"[" + b",".join([b"0"] * limits.PACKAGE_PARTS_MAX) + b"]"
    more = most[:-1] + b",0]"

    assert len(decode(most)) == limits.PACKAGE_PARTS_MAX
    with pytest.raises(ValueError, match=f"{limits.PACKAGE_PARTS_MAX + 1:,} brackets"):
        decode(more)


def test_the_text_of_a_defect_is_cut_and_moves_no_cursor() -> None:
    assert said_by(ValueError("a\x1b[2J\r\nü\u202e")) == "a\\x1b[2J\\r\\nü\\u202e"
    assert len(said_by(ValueError("x" * 100_000))) == limits.ERROR_TEXT_MAX
