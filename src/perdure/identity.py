"""Identifiers, validated at the door.

Each is a `str` that has passed its rules: constructing one is the only way to get one, and constructing
raises `InvalidIdentifier` before anything is read or written. Comparison is by bytes; nothing is normalised.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from perdure import limits
from perdure.errors import InvalidIdentifier, UsageError
from perdure.names import shown

MAX_REGISTRY_KEY_LEN: Final = limits.REGISTRY_KEY_MAX
PARTY_NAMESPACE: Final = uuid.UUID("7e4a6b1c-2d3e-5f60-8a9b-0c1d2e3f4a5b")
RESERVED_ID_PREFIX: Final = "pd-"  # ids that the engine derives; callers may not bring them

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]+")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
# C0, DEL and C1: what a terminal or a log could take for an instruction.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Randomness = Callable[[int], bytes]
"""A source of random bytes; `SYSTEM_RANDOMNESS` unless a test drives it."""
SYSTEM_RANDOMNESS: Final[Randomness] = os.urandom


def checked_text(text: object, *, what: str, limit: int) -> str:
    """Return `text` if it is 1..`limit` bytes of UTF-8 without control characters.

    Raises:
        InvalidIdentifier: it is not; the text names `what`, the rule and the value.

    Source: contracts.md, common rules.
    """
    if not isinstance(text, str):
        raise InvalidIdentifier(f"{what}: expected text, found {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidIdentifier(f"{what}: expected UTF-8 text, found a lone surrogate in {_shown(text)}") from None
    if not 1 <= size <= limit:
        raise InvalidIdentifier(f"{what}: expected 1 to {limit} bytes of UTF-8, found {size}: {_shown(text)}")
    if _CONTROL.search(text):
        raise InvalidIdentifier(f"{what}: control characters are not allowed, found {_shown(text)}")
    return text


def checked_count(value: object, *, what: str, most: int, least: int = 1) -> int:
    """Return `value` if it is an integer of `least`..`most`. Raises UsageError; the text names `what`, the range and the value."""
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{what}: expected {least:,} to {most:,}, found {value!r:.{limits.REPR_MAX}}")
    return value


def _shown(text: str) -> str:
    return ascii(text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…")


class _Identifier(str):
    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if type(text) is cls:
            return text
        return super().__new__(cls, cls._validate(text))

    @classmethod
    def _validate(cls, text: str) -> str:
        return checked_text(text, what=cls.__name__, limit=limits.REGISTRY_KEY_MAX)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as this kind of identifier; raise InvalidIdentifier when it is none."""
        return cls(text)


class TenantId(_Identifier):
    """The isolation boundary: 1..128 of `A-Z a-z 0-9 . _ -`."""

    __slots__ = ()

    @classmethod
    def _validate(cls, text: str) -> str:
        checked_text(text, what=cls.__name__, limit=limits.TENANT_ID_MAX)
        if not _TENANT.fullmatch(text):
            raise InvalidIdentifier(f"TenantId: only A-Z a-z 0-9 . _ - are allowed, found {_shown(text)}")
        return text

    @classmethod
    def from_party_id(cls, text: str) -> Self:
        """Return the tenant of a party code: UUIDv5 in a namespace of ours, so that it is the same everywhere."""
        return cls(str(uuid.uuid5(PARTY_NAMESPACE, text)))


class ProcessId(_Identifier):
    """The name of one process: UUIDv7 text, or any text under the registry-key rules."""

    __slots__ = ()

    @classmethod
    def new(cls, *, now: int | None = None, randomness: Randomness = os.urandom) -> Self:
        """Return a new UUIDv7. `now` is microseconds since the epoch; it defaults to the system's clock."""
        return cls(uuid7(now=now, randomness=randomness))


class MessageId(_Identifier):
    """The name of a message, unique within its tenant and source."""

    __slots__ = ()

    @classmethod
    def _validate(cls, text: str) -> str:
        return checked_text(text, what=cls.__name__, limit=limits.MESSAGE_ID_MAX)


class RegistryKey(_Identifier):
    """Text that names one process, 1:1: 1..256 bytes of UTF-8 without control characters."""

    __slots__ = ()

    @classmethod
    def from_conversation_and_sender(cls, conversation_id: str, sender: str) -> Self:
        """Return `<sender>:<conversation id>`: two senders number their conversations independently.

        Raises:
            InvalidIdentifier: a part breaks the rules, or the sender has a `:`, which would make it another's key.
        """
        if ":" in RegistryKey(sender):
            raise InvalidIdentifier(f"RegistryKey: a sender without ':' is expected, found {_shown(sender)}; replace the character")
        return cls(f"{sender}:{RegistryKey(conversation_id)}")

    @classmethod
    def from_correlation(cls, correlation_id: str) -> Self:
        """Return the key of a correlation id."""
        return cls(correlation_id)

    @classmethod
    def from_process(cls, process_id: str) -> Self:
        """Return the key of a process id."""
        return cls(process_id)


class Tag(_Identifier):
    """Text that names a set of processes, 1:many; the rules of registry keys."""

    __slots__ = ()


class ContentHash(_Identifier):
    """SHA-256 as 64 lower-case hex digits."""

    __slots__ = ()

    @classmethod
    def _validate(cls, text: str) -> str:
        checked_text(text, what=cls.__name__, limit=64)
        if not _HASH.fullmatch(text):
            raise InvalidIdentifier(f"ContentHash: expected 64 lower-case hex digits, found {_shown(text)}")
        return text


DEFAULT_TENANT: Final = TenantId("default")


class ProcessIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which process: its tenant, id, type, and the package it started on (none for local code)."""

    tenant_id: TenantId
    process_id: ProcessId
    process_type: str
    package_hash: ContentHash | None = None

    def __post_init__(self) -> None:
        """Validate each part, also when decoding built this."""
        force = msgspec.structs.force_setattr
        force(self, "tenant_id", TenantId(self.tenant_id))
        force(self, "process_id", ProcessId(self.process_id))
        checked_text(self.process_type, what="process_type", limit=limits.REGISTRY_KEY_MAX)
        if self.package_hash is not None:
            force(self, "package_hash", ContentHash(self.package_hash))

    @property
    def stream_id(self) -> str:
        """`process/<tenant>/<process>`, derived, never stored."""
        return f"process/{self.tenant_id}/{self.process_id}"


def uuid7(*, now: int | None = None, randomness: Randomness = os.urandom) -> str:
    """Return a UUIDv7 as text: 48 bits of milliseconds, then random bits.

    Args:
        now: microseconds since the epoch; the system's clock when not given.
        randomness: where the random bits come from.

    Source: RFC 9562, 5.7.
    """
    if now is None:
        import time  # noqa: PLC0415  # the only reader of a clock outside clock.py: contract `ProcessId.new()`

        now = time.time_ns() // 1000
    value = ((now // 1000) & (2**48 - 1)) << 80 | int.from_bytes(randomness(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived_id(*parts: str) -> str:
    """Return an id that the same parts always give: `pd-` and 32 hex digits.

    Source: engine.md, "Verbs of a turn".
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return RESERVED_ID_PREFIX + digest.hexdigest()


def decode_identifier(kind: type, value: Any) -> Any:  # the signature of msgspec's dec_hook
    """Decode an identifier through its validator; msgspec's `dec_hook` for types that hold identifiers."""
    if isinstance(kind, type) and issubclass(kind, _Identifier):
        return kind(value)
    raise NotImplementedError(f"no decoder for {shown(kind)}")


def encode_identifier(value: Any) -> Any:
    """Encode an identifier as its text; msgspec's `enc_hook` for values that hold identifiers."""
    if isinstance(value, _Identifier):
        return str(value)
    raise NotImplementedError(f"objects of type {type(value).__name__} have no form")
