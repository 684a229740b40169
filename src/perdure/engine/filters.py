"""Filters by search attributes, as people and programs write them: NAME=VALUE and the like."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from perdure.conversations.attributes import AttributeValue
from perdure.engine.searching import AttributeFilter, Between, StartsWith
from perdure.errors import UsageError

_FILTER: Final = re.compile(r"(?P<name>[^=<>^]+)(?P<sign>>=|<=|\^=|=)(?P<value>.*)", re.DOTALL)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT")


def filters_of(texts: Sequence[str], *, what: str) -> dict[str, AttributeFilter]:
    """Return what filters mean; `>=` and `<=` of one name go together. Raises UsageError, which calls them `what`."""
    found: dict[str, AttributeFilter] = {}
    for text in texts:
        shown = f"{what} {text!r}"
        parts = _FILTER.fullmatch(text)
        if parts is None:
            raise UsageError(f"{shown}: expected NAME=VALUE, NAME>=VALUE, NAME<=VALUE or NAME^=BEGINNING")
        name, sign, value = parts["name"], parts["sign"], parts["value"]
        before = found.get(name)
        if before is not None and not (isinstance(before, Between) and sign in (">=", "<=")):
            raise UsageError(f"{shown}: {name} is asked for twice")
        low, high = (before.low, before.high) if isinstance(before, Between) else (None, None)
        match sign:
            case "^=":
                found[name] = StartsWith(value)
            case ">=":
                found[name] = Between(_value(value, shown), high)
            case "<=":
                found[name] = Between(low, _value(value, shown))
            case _:
                found[name] = _value(value, shown)
    return found


def _value(text: str, shown: str) -> AttributeValue:
    """Return what a value means: a time, a JSON scalar, or else text."""
    if _TIME.match(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(f"{shown}: expected a time such as 2026-03-01T12:00:00Z: {error}") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float) else text
