"""What is sent to an endpoint, and what it may answer.

An answer with another status than 200, or whose JSON is no object with one of these two `status`, only says that the command has
arrived: how it ends is told by `POST …/complete`, with the token.

Source: commands.md, "Push".
"""

from __future__ import annotations

import msgspec

from perdure.protocol.commands import DidIt, DidNot, LeasedCommand

Said = DidIt | DidNot
"""How a command ended, as the answer to sending it."""


class PushedCommand(LeasedCommand, frozen=True, kw_only=True):
    """A command as it is sent. It is a leased one: whoever gets it has `lease_ms` to say how it ended."""

    tenant: str
    deployment: str


class _Status(msgspec.Struct, frozen=True):
    status: str


def says_how_it_ended(answer: bytes) -> bool:
    """Whether JSON that came with 200 is meant as the end of the command: other things are said there, too."""
    try:
        return msgspec.json.decode(answer, type=_Status).status in {"succeeded", "failed"}
    except (msgspec.DecodeError, RecursionError):
        return False
