"""Small checks on the JSON of a received document; each raises ValueError with the path and what was expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from perdure.schemas.canonical import SAFE_INTEGER, Json
from perdure.schemas.values import order_of, plain

HASH: Final = re.compile(r"[0-9a-f]{32}")
_FLOAT: Final = re.compile(r"[0-9a-f]{16}")
_BYTES: Final = re.compile(r"([0-9a-f]{2})*")
_DIGITS: Final = re.compile(r"-?[1-9][0-9]{15,4299}")  # 16 digits or more; the interpreter converts at most 4,300

_MINUS_ZERO: Final = {"float": "8000000000000000"}


def require(condition: object, path: str, expected: str) -> None:
    """Raise unless `condition` holds."""
    if not condition:
        raise ValueError(f"{path}: expected {expected}")


def check_object(tree: Json, path: str, required: str, optional: str = "") -> None:
    """Require an object with these keys; both arguments are words with spaces between them."""
    least, most = set(required.split()), {*required.split(), *optional.split()}
    require(isinstance(tree, dict) and least <= tree.keys() <= most, path, f"an object with {sorted(least)}, at most {sorted(most)}")


def check_list(tree: Json, path: str, *, least: int = 0, exactly: int | None = None) -> list[Json]:
    """Require a list of `least` items or more, or of `exactly` so many, and return it."""
    fits = isinstance(tree, list) and len(tree) >= least and exactly in {None, len(tree)}
    require(fits, path, f"a list of {least} items or more" if exactly is None else f"a list of {exactly} items")
    return list(tree)


def check_flags(tree: Json, path: str, *keys: str) -> None:
    """Require that each of these keys is true or not there."""
    for key in keys:
        require(tree.get(key, True) is True, f"{path}.{key}", "true, or no such key")


def check_name(tree: Json, path: str) -> str:
    """Require text of one character or more, and return it."""
    require(isinstance(tree, str) and tree, path, "a name")
    return str(tree)


def check_order(values: Sequence[Json], path: str) -> None:
    """Require values in the order of their canonical bytes, without repeats."""
    keys = [order_of(value) for value in values]
    require(all(one < other for one, other in pairwise(keys)), path, "canonical order without repeats")


def is_integer(tree: Json) -> bool:
    """Tell whether a checked value is an integer, small or large."""
    return (isinstance(tree, int) and not isinstance(tree, bool)) or (isinstance(tree, dict) and "int" in tree)


def check_scalar(tree: Json, path: str) -> None:
    """Require what a tag or a member of an enum may be: an integer or text."""
    check_value(tree, path)
    require(isinstance(tree, str) or is_integer(tree), path, "an integer or text")


def check_bound(word: str, name: str, bound: Json, path: str) -> None:
    """Require a constraint whose value fits its name and the type."""
    check_value(bound, path)
    if name == "tz":
        require(isinstance(bound, bool), path, "true or false")
    elif name == "pattern":
        require(isinstance(bound, str), path, "text")
    elif name in {"min_length", "max_length"}:
        require(type(bound) is int and bound >= 0, path, "a length")
    elif word in {"float", "f32"}:
        require(isinstance(bound, dict) and "float" in bound and bound != _MINUS_ZERO, path, "a float, and one of the two zeros only")
    else:
        require(is_integer(bound), path, "an integer")
    require(name != "multiple_of" or plain(bound) > 0, path, "a number above zero")


def check_value(tree: Json, path: str) -> None:
    """Require a canonical value."""
    if isinstance(tree, list):
        for place, part in enumerate(tree):
            check_value(part, f"{path}[{place}]")
    elif isinstance(tree, dict):
        require(len(tree) == 1, path, "one key")
        [(word, inner)] = tree.items()
        _check_worded(word, inner, f"{path}.{word}")


def _check_worded(word: str, inner: Json, path: str) -> None:
    match word:
        case "int":
            known = isinstance(inner, str) and _DIGITS.fullmatch(inner) and abs(int(inner)) > SAFE_INTEGER
            require(known, path, "an integer beyond ±(2^53-1), in digits")
        case "float" | "bytes":
            form = _FLOAT if word == "float" else _BYTES
            require(isinstance(inner, str) and form.fullmatch(inner), path, "lower-case hex digits")
        case "text":
            require(isinstance(inner, str), path, "text")
        case "enum":
            check_scalar(inner, path)
        case "set":
            check_value(check_list(inner, path), path)
            check_order(inner, path)
        case "dict" | "struct":
            pairs = [check_list(pair, path, exactly=2) for pair in check_list(inner, path)]
            check_value(pairs, path)
            if word == "dict":
                check_order([key for key, _ in pairs], path)
            else:
                names = [name for name, _ in pairs if isinstance(name, str)]
                require(len(set(names)) == len(pairs), path, "names without repeats")
        case _:
            require(None, path, "a value")
