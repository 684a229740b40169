"""What the world of `turns.py` answers to those who ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.clock import Micros
from perdure.codec import JSON
from perdure.engine.addressing import Request
from perdure.engine.effects import AskEffect, AwakeableEffect
from perdure.engine.outcomes import encode_error
from perdure.messages.mail import Mail
from perdure.replies import REPLY_KIND, Reply

if TYPE_CHECKING:
    from tests.engine.turns import World

LATENCIES: Final = (1_000, 2_000, 5_000, 9_000, 2_000_000)
ERRORS: Final = 0.2  # of all answers


def asking(effects: list[Any]) -> list[Any]:
    """Those effects that somebody answers."""
    return [effect for effect in effects if isinstance(effect, AskEffect | AwakeableEffect)]


def answering(world: World, effect: Any, stored: Micros) -> Micros:
    """When the reply to what a turn asked for comes: the same in every life."""
    latency = LATENCIES[int(world.chance("answer", effect.operation_id) * len(LATENCIES))]
    return world._instants.setdefault(("answer", effect.operation_id, 0), stored + latency)


def answer(world: World, effect: Any) -> Mail:
    """The reply to what a turn asked for: some are errors."""
    name, ref = effect.operation_id, world.id.message
    if world.chance("outcome", name) < ERRORS:
        reply = Reply(ref, name, "error", encode_error(LookupError(f"no {name}")))
    else:
        reply = Reply(ref, name, "ok", JSON.encode(f"{name}: {world.chance('value', name):.4f}"))
    return Mail(0, "", f"reply to {name}", REPLY_KIND, msgspec.msgpack.encode(reply))


def request(handler: Callable[..., Any], args: tuple[Any, ...]) -> Request:
    """What a call of a handler sends, without an app."""
    return Request(handler.__name__, f"{handler.__name__}()", JSON.encode(args), None)
