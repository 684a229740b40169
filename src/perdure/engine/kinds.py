"""Messages as people write them: their types, kinds and bytes."""

from __future__ import annotations

import dataclasses

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.errors import DefinitionError, PayloadTooLarge
from perdure.identity import RESERVED_ID_PREFIX
from perdure.names import shown


def kind_of(message: type) -> str:
    """Return the kind of a message type: its tag when it is a tagged Struct, else its name. Raises DefinitionError."""
    config = getattr(message, "__struct_config__", None)
    tag = None if config is None else config.tag
    kind = message.__name__ if tag is None else str(tag)
    if kind.startswith(RESERVED_ID_PREFIX):
        raise DefinitionError(f"{message.__name__}: kinds that begin with {RESERVED_ID_PREFIX!r} are Perdure's own; choose another tag")
    return kind


def checked_message_type(message: object) -> type:
    """Return `message` if it is a class whose values have a kind of their own. Raises DefinitionError."""
    if isinstance(message, type) and (issubclass(message, msgspec.Struct) or dataclasses.is_dataclass(message)):
        return message
    raise DefinitionError(f"a message type is a msgspec.Struct or a dataclass, found {shown(message)}")


def encoded_message(message: object) -> bytes:
    """Return a message's bytes. Raises PayloadUnencodable or PayloadTooLarge; nothing is written."""
    payload = JSON.encode(message)
    if len(payload) > limits.MESSAGE_MAX:
        raise PayloadTooLarge(f"message {type(message).__name__}", size=len(payload), limit=limits.MESSAGE_MAX)
    return payload
