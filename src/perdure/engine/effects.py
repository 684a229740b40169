"""What a turn does to the rest of the store: committed with its records, before the steps that it asks for begin."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.commands.tables import BodyRow
from perdure.engine.addressing import Address


class SendEffect(msgspec.Struct, frozen=True, gc=False):
    """A message of the turn's; its id is derived, so that it is accepted once whatever crashes."""

    message_id: str
    address: Address
    kind: str
    payload: bytes
    due: Micros | None = None  # delivered then; None: at once
    child: bool = False  # the process that it starts is the sender's child


class AskEffect(msgspec.Struct, frozen=True, gc=False):
    """A message whose sealed reply the operation waits for. A `digest` says that its id is the caller's own, used before perhaps."""

    message_id: str
    address: Address
    kind: str
    payload: bytes
    operation_id: str
    digest: bytes = b""
    child: bool = False


class AwakeableEffect(msgspec.Struct, frozen=True, gc=False):
    """Something that whoever has the token may complete."""

    token: str
    operation_id: str


class CommandEffect(msgspec.Struct, frozen=True, gc=False):
    """Work for a worker elsewhere, whose end the operation waits for."""

    command_id: str
    deployment_id: str
    target: str
    name: str
    params: BodyRow
    retry: bytes
    priority: int
    delay: Micros
    deadline: Micros | None
    operation_id: str


class StopCommandEffect(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for a command any more."""

    command_id: str


class LogEffect(msgspec.Struct, frozen=True, gc=False):
    """An entry of one of the process's logs."""

    name: str
    seq: int
    data: bytes


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


Effect = (
    AttributeEffect
    | SendEffect
    | AskEffect
    | AwakeableEffect
    | CommandEffect
    | StopCommandEffect
    | LogEffect
    | UnbindEffect
    | TagEffect
    | UntagEffect
)
