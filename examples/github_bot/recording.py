"""Recorded webhooks: reading the file, and making of it what a bad day brings, with duplicates and in any order."""

from __future__ import annotations

import gzip
import hashlib
import random
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from examples.github_bot.events import Payload

WEBHOOKS: Final = Path(__file__).with_name("data") / "github-webhooks.json.gz"
_RENUMBERED: Final = frozenset({"login", "full_name", "ghsa_id"})
_SHA: Final = re.compile(r"[0-9a-f]{40}")


class BadInput(Exception):
    """The input cannot be used; the text is one line for people."""


class Webhook(NamedTuple):
    """One webhook: GitHub's event type, and what it says."""

    name: str
    payload: Payload


class _Recorded(msgspec.Struct):
    name: str
    examples: list[Payload]


def read(path: Path) -> list[Webhook]:
    """Return the webhooks of a file, in its order.

    Args:
        path: gzip of a JSON array of `{"name": …, "examples": [payload, …]}`; other members are not looked at.

    Raises:
        BadInput: it is none.
    """
    try:
        with gzip.open(path) as file:
            text = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: expected a gzip file, found something else ({error})") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        recorded = msgspec.json.decode(text, type=list[_Recorded])
    except msgspec.ValidationError as error:
        raise BadInput(f'{path}: expected a JSON array of {{"name": text, "examples": [object, …]}} ({error})') from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: expected JSON inside the gzip file ({error})") from error
    return [Webhook(entry.name, payload) for entry in recorded for payload in entry.examples]


def repeated(webhooks: Sequence[Webhook], count: int) -> list[Webhook]:
    """Return the webhooks `count` times, each time with repositories, accounts and commits of their own."""
    return [*webhooks, *(Webhook(hook.name, _renumbered(hook.payload, copy)) for copy in range(2, count + 1) for hook in webhooks)]


def disturbed(webhooks: Sequence[Webhook], *, duplicates: float, shuffle: int | None) -> list[Webhook]:
    """Return the webhooks as a bad day brings them.

    Args:
        webhooks: in order.
        duplicates: how many arrive again, as a share of all of them, 0 to 1.
        shuffle: seed of a random order; in order when not given.
    """
    chance = random.Random(shuffle or 0)  # noqa: S311  # the same disturbance for the same seed
    arriving = list(webhooks)
    for hook in chance.choices(webhooks, k=round(len(webhooks) * duplicates)) if webhooks else ():
        arriving.insert(chance.randrange(len(arriving) + 1), hook)
    if shuffle is not None:
        chance.shuffle(arriving)
    return arriving


def _renumbered(value: Any, copy: int, name: str = "") -> Any:
    match value:
        case dict():
            return {field: _renumbered(part, copy, field) for field, part in value.items()}
        case list():
            return [_renumbered(part, copy) for part in value]
        case str() if name in _RENUMBERED:
            return f"{value}-{copy}"
        case str() if _SHA.fullmatch(value) and value.strip("0"):
            return hashlib.sha1(f"{copy} {value}".encode(), usedforsecurity=False).hexdigest()
        case _:
            return value
