"""Where messages go, and whose turn it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import msgspec

from perdure.codec import JSON
from perdure.errors import UsageError
from perdure.identity import RESERVED_ID_PREFIX, MessageId, ProcessId, RegistryKey, Tag
from perdure.messages.mail import split_reference
from perdure.names import shown


class TurnId(NamedTuple):
    """Whose turn: the message is named by its reference."""

    tenant: str
    process: str
    message: str

    def __str__(self) -> str:
        source, message_id = split_reference(self.message)
        return f"process {self.process} ({self.tenant}), message {message_id}" + (f" of {source}" if source else "")


class Request(NamedTuple):
    """What a call of a handler sends; `starts` if a process is started for it, `decode` reads its reply."""

    process_type: str
    kind: str
    payload: bytes
    key: str | None
    starts: bool = True
    decode: Callable[[bytes], Any] = JSON.decoder(Any)

    def address(self, message_id: str) -> Address:
        """Return where the call goes: to the process that it starts, or to the one that holds its key. Raises UsageError."""
        if self.starts:
            return Address.start(self.process_type, key=self.key, id=None if self.key is not None else message_id)
        if self.key is None:
            raise UsageError(f"{self.kind}: the handler has no key= and does not start a process; address it by `to=`")
        return Address.key(self.key)

    def digest(self, address: str) -> bytes:
        """Return what tells this content from another under the same message id; `address` is empty when the app's rules said it."""
        return hashlib.sha256(b"\n".join((self.kind.encode(), address.encode(), self.payload))).digest()


def checked_id(id: str) -> MessageId:
    """Return the id that somebody gives a message. Raises InvalidIdentifier, UsageError for one of Perdure's own."""
    message_id = MessageId(id)
    if message_id.startswith(RESERVED_ID_PREFIX):
        raise UsageError(f"id {id!r}: ids that begin with {RESERVED_ID_PREFIX!r} are Perdure's own; choose another")
    return message_id


def checked_address(to: object) -> Address:
    """Return an address that somebody has given. Raises UsageError for what is none, such as the text of a key."""
    if not isinstance(to, Address):
        raise UsageError(
            f"expected an address, found {shown(to)}; write Address.key(…), Address.process(…), Address.tag(…) or Address.start(…)"
        )
    return to


class Address(msgspec.Struct, frozen=True):
    """Where a message goes. Made by `process`, `key`, `tag` and `start`."""

    way: str
    name: str = ""
    process_type: str = ""
    process_id: str | None = None

    @classmethod
    def process(cls, process_id: str) -> Self:
        """To the process of this id."""
        return cls("process", ProcessId(process_id))

    @classmethod
    def key(cls, key: str) -> Self:
        """To the process that holds the key, now or later."""
        return cls("key", RegistryKey(key))

    @classmethod
    def tag(cls, tag: str) -> Self:
        """To every process under the tag."""
        return cls("tag", Tag(tag))

    @classmethod
    def start(cls, process_type: Any, *, key: str | None = None, id: str | None = None) -> Self:
        """To the process that holds the key, or a new one; without a key, to the process of this id, or a new one.

        Args:
            process_type: the class or function that was registered with `@app.process`, or its name.
            key: bound to the new process in the same transaction.
            id: the new process's id; made when not given.
        """
        name = process_type if isinstance(process_type, str) else getattr(process_type, "__name__", None)
        if not name:
            raise UsageError(f"Address.start: expected a process type or its name, found {shown(process_type)}")
        return cls("start", "" if key is None else RegistryKey(key), name, None if id is None else ProcessId(id))

    def __str__(self) -> str:
        if self.way == "start":
            return f"start {self.process_type}" + (f" under key {self.name}" if self.name else "")
        return f"{self.way} {self.name}"
