"""What a turn does to the rest of the store: committed with its records, before the steps that it asks for begin."""

from __future__ import annotations

import msgspec

from perdure.engine.addressing import Address


class SendEffect(msgspec.Struct, frozen=True, gc=False):
    """A message of the turn's; its id is derived, so that it is accepted once whatever crashes."""

    message_id: str
    address: Address
    kind: str
    payload: bytes


class UnbindEffect(msgspec.Struct, frozen=True, gc=False):
    """Give up a key."""

    key: str


class TagEffect(msgspec.Struct, frozen=True, gc=False):
    """Join a set of processes."""

    tag: str


class UntagEffect(msgspec.Struct, frozen=True, gc=False):
    """Leave it."""

    tag: str


class AttributeEffect(msgspec.Struct, frozen=True, gc=False):
    """Set a search attribute to a value of a kind, or take it away."""

    name: str
    value: tuple[str, bytes] | None


Effect = AttributeEffect | SendEffect | UnbindEffect | TagEffect | UntagEffect
