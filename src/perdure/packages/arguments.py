"""What callers of the package store bring, checked before anything is read or written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros, micros_of
from perdure.errors import ArchiveSizeRefused, InvalidContentHash, InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, UsageError
from perdure.identity import ContentHash, checked_count, checked_text
from perdure.packages.contract import Needs, PackagePlace, PackageRecord
from perdure.packages.routes import By

_PREFIX: Final = re.compile(rf"[0-9a-f]{{{limits.PACKAGE_PREFIX_MIN},64}}")


def checked_hash(text: str) -> str:
    """Return the name of a package. Raises InvalidContentHash."""
    try:
        return str(ContentHash(text))
    except InvalidIdentifier as error:
        raise InvalidContentHash(str(error)) from None


def checked_prefix(text: str) -> str:
    """Return the beginning of a package's name. Raises InvalidContentHash."""
    if not isinstance(text, str) or not _PREFIX.fullmatch(text):
        rule = f"{limits.PACKAGE_PREFIX_MIN} to 64 lower-case hex digits"
        raise InvalidContentHash(f"the beginning of a package's hash: expected {rule}, found {text!r:.{limits.REPR_MAX}}")
    return text


def checked_type(text: str) -> str:
    """Return a process type. Raises InvalidIdentifier."""
    return str(checked_text(text, what="workflow_type", limit=limits.REGISTRY_KEY_MAX))


def checked_types(texts: Sequence[str], *, what: str) -> tuple[str, ...]:
    """Return process types, each once. Raises InvalidIdentifier, UsageError."""
    if isinstance(texts, str):
        raise UsageError(f"{what}: expected a list of process types, found the text {texts!r:.{limits.REPR_MAX}}")
    found = tuple(dict.fromkeys(checked_type(each) for each in texts))
    if len(found) > limits.PACKAGE_TYPES_MAX:
        raise UsageError(
            f"{what}: expected at most {limits.PACKAGE_TYPES_MAX:,} types, found {len(found):,}; make several packages of them"
        )
    return found


def checked_kinds(kinds: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the kinds of message of each type, one a line. Raises InvalidIdentifier, UsageError."""
    found = {checked_type(each): tuple(dict.fromkeys(listed)) for each, listed in kinds.items()}
    for each, listed in found.items():
        if len(listed) > limits.PACKAGE_KINDS_MAX or any("\n" in kind or not kind for kind in listed):
            raise UsageError(f"kinds of {each!r}: expected at most {limits.PACKAGE_KINDS_MAX:,}, of one line each, found {len(listed):,}")
    return {each: "\n".join(listed) for each, listed in found.items()}


def checked_needs(needs: Needs | None) -> str | None:
    """Return what a package needs as JSON. Raises UsageError, PayloadTooLarge."""
    if needs is None:
        return None
    if not isinstance(needs, Needs):
        raise UsageError(f"needs: expected Needs, found {type(needs).__name__}")
    encoded = msgspec.json.encode(needs)
    if len(encoded) > limits.PACKAGE_NEEDS_MAX:
        raise PayloadTooLarge("needs", size=len(encoded), limit=limits.PACKAGE_NEEDS_MAX)
    return encoded.decode()


def checked_record(record: PackageRecord) -> PackageRecord:
    """Return what is to be stored. Raises InvalidIdentifier, InvalidContentHash, ArchiveSizeRefused, UsageError."""
    if not isinstance(record, PackageRecord):
        raise UsageError(f"record: expected a PackageRecord, found {type(record).__name__}")
    if not isinstance(record.archive, bytes):
        raise UsageError(f"archive: expected bytes, found {type(record.archive).__name__}")
    if not 1 <= len(record.archive) <= limits.PACKAGE_ARCHIVE_MAX:
        raise ArchiveSizeRefused(size=len(record.archive), limit=limits.PACKAGE_ARCHIVE_MAX)
    return msgspec.structs.replace(record, workflow_type=checked_type(record.workflow_type), content_hash=checked_hash(record.content_hash))


def instant_of(when: datetime) -> Micros:
    """Return a time of a deployer as microseconds since the epoch. Raises UsageError when it has no time zone."""
    if not isinstance(when, datetime) or when.utcoffset() is None:
        raise UsageError(f"deployed_at: expected a time with its time zone, found {when!r:.{limits.REPR_MAX}}")
    return micros_of(when)


def checked_duration(duration: timedelta, *, what: str) -> Micros:
    """Return a duration in microseconds. Raises UsageError."""
    if not isinstance(duration, timedelta) or not 0 <= duration // timedelta(microseconds=1) <= limits.DURATION_MAX:
        raise UsageError(f"{what}: expected a timedelta from 0 to a century, found {duration!r:.{limits.REPR_MAX}}")
    return duration // timedelta(microseconds=1)


def checked_place(after: PackagePlace) -> PackagePlace:
    """Return after which package a page begins. Raises InvalidIdentifier, InvalidContentHash, UsageError."""
    at = checked_count(after.deployed_at, what="after", least=-limits.SEQUENCE_MAX, most=limits.SEQUENCE_MAX)
    return PackagePlace(checked_type(after.workflow_type), at, checked_hash(after.content_hash))


def checked_by(actor: str, built_with: Mapping[str, Any] | None) -> By:
    """Return who does something, for the log. Raises InvalidIdentifier, UsageError, PayloadUnencodable, PayloadTooLarge."""
    checked_text(actor, what="actor", limit=limits.ACTOR_MAX)
    if built_with is None:
        return By(str(actor))
    if not isinstance(built_with, Mapping):
        raise UsageError(f"built_with: expected a dict, found {type(built_with).__name__}")
    try:
        text = msgspec.json.encode(dict(built_with), order="sorted").decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadUnencodable(f"built_with: expected a dict that can be written as JSON: {error}") from None
    if len(text.encode()) > limits.PACKAGE_BUILT_WITH_MAX:
        raise PayloadTooLarge("built_with", size=len(text.encode()), limit=limits.PACKAGE_BUILT_WITH_MAX)
    return By(str(actor), text)


def checked_log(types: Iterable[str], by: By) -> int:
    """Return the bytes that go into the logs of these types. Raises PayloadTooLarge when one transaction does not take them."""
    size = len(by.built_with.encode()) * len(set(types))
    if size > limits.TRANSACTION_BYTES_MAX:
        raise PayloadTooLarge("built_with, once for each type", size=size, limit=limits.TRANSACTION_BYTES_MAX)
    return size
