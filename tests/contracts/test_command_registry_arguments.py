"""Contract 2: every bad argument is refused before anything is written. Research on commands, sections 3 (V20) and 3.1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.blob import Blob
from perdure.clock import VirtualClock
from perdure.commands.contract import CommandFilter, CommandRetry, Failed, Progress, Stopped, Succeeded
from perdure.errors import (
    DeadlinePassed,
    IllegalTransition,
    InvalidIdentifier,
    PayloadTooLarge,
    PayloadUnencodable,
    PerdureError,
    UsageError,
)
from perdure.store import Store
from tests.contracts.commands import DISPATCHED, PENDING_UPLOAD, SUCCEEDED, check, create, kinds, take

LONG = "x" * 257
NAMES = ["", LONG, "é" * 129, "a\x00", "a\nb", "\x7f", "\ud800", None, 7, b"a"]
LINES = [LONG, "a\nb", "\ud800", None, 7]
NUMBERS = [-1, 1.5, "1", None, 2**63]
BIG = b'"' + b"x" * (limits.COMMAND_PARAMS_MAX - 1) + b'"'

CREATE: list[tuple[dict[str, Any], type[PerdureError]]] = [
    *(({"deployment_id": name}, InvalidIdentifier) for name in NAMES),
    *(({"command_name": name}, InvalidIdentifier) for name in NAMES),
    *(({"target": name}, InvalidIdentifier) for name in NAMES if name is not None),
    *(({"tenant_id": name}, InvalidIdentifier) for name in ["", "a b", "a/b", "x" * 129]),
    *(({"idempotency_key": key}, InvalidIdentifier) for key in ["", "k" * 513, "a\nb", 7]),
    *(({"actor": line}, InvalidIdentifier) for line in LINES),
    *(({"traceparent": line}, InvalidIdentifier) for line in LINES),
    *(({"initial_state": state}, UsageError) for state in [DISPATCHED, SUCCEEDED, "pending", "", None, 1, ["PENDING"]]),
    ({"initial_state": PENDING_UPLOAD, "params": b"1"}, UsageError),
    *(({"deadline": instant}, UsageError) for instant in [-1, 1.5, "1", True, 2**63]),
    *(({"deadline": instant}, DeadlinePassed) for instant in [0, 1]),
    *(({"request_size_bytes": size}, UsageError) for size in [-1, 1.5, "1", 2**63]),
    ({"request_size_bytes": 2, "params": b"1"}, UsageError),
    *(({"priority": number}, UsageError) for number in [1.5, "1", None, True, 2**31, -(2**31)]),
    *(({"delay": number}, UsageError) for number in [*NUMBERS, limits.COMMAND_DELAY_MAX_US + 1]),
    *(({"retry": retry}, UsageError) for retry in [None, 3, {"max_attempts": 3}]),
    ({"params": BIG}, PayloadTooLarge),
    *(({"params": text}, PayloadUnencodable) for text in [b"", b"{", b"1 2", b"\xff", b"[" * 100_000]),
    *(({"params": value}, UsageError) for value in ["1", 1, {}, bytearray(b"1")]),
    *(({"params": Blob(sha256=name, size=1)}, InvalidIdentifier) for name in ["", "a" * 63, "A" * 64, "g" * 64]),
    *(({"params": Blob(sha256="a" * 64, size=size)}, UsageError) for size in [-1, 2**63, 1.5, None]),  # type: ignore[arg-type]  # what is tested
    ({"params": Blob(sha256="a" * 64, size=1, content_type="a\nb")}, InvalidIdentifier),
]


@contextmanager
def case(*of: object) -> Iterator[None]:
    """Say of which case what fails fails: a store for each of some hundred takes a hundred times as long."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"of {of!r}"[:1_000])
        raise


async def test_what_cannot_be_a_command_is_refused_and_nothing_is_written(store: Store) -> None:
    for changes, refusal in CREATE:
        with case(changes), pytest.raises(refusal):
            await store.commands.create_command(**{"deployment_id": "site", "command_name": "pick", **changes})
        with case(changes):
            assert (await store.commands.list_commands()).commands == []

    await check(store)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_refused_command_leaves_no_key_behind(store: Store, clock: VirtualClock, key: str | None) -> None:
    with pytest.raises(DeadlinePassed):
        await create(store.commands, deadline=clock.now(), idempotency_key=key)

    await create(store.commands, deadline=clock.now() + 1, idempotency_key=key, params=b"1")
    await check(store)


LEASE: list[tuple[dict[str, Any], type[PerdureError]]] = [
    *(({"deployment_id": name}, InvalidIdentifier) for name in NAMES),
    *(({"target": name}, InvalidIdentifier) for name in NAMES if name is not None),
    *(({"names": names}, InvalidIdentifier) for names in [[""], [LONG], [7], ["a", None]]),
    *(({"names": names}, UsageError) for names in [[], "pick", b"pick", 7, [f"n{n}" for n in range(101)]]),
    *(({"max_leases": number}, UsageError) for number in [0, limits.COMMAND_LEASES_MAX + 1, True, *NUMBERS]),
    *(
        ({"lease_for": number}, UsageError)
        for number in [0, limits.COMMAND_LEASE_MIN_US - 1, limits.COMMAND_LEASE_MAX_US + 1, True, math.inf, *NUMBERS]
    ),
    *(({"wait": number}, UsageError) for number in [limits.COMMAND_WAIT_US + 1, True, *NUMBERS]),
    *(({"worker": line}, InvalidIdentifier) for line in LINES),
    *(({"tenant_id": name}, InvalidIdentifier) for name in ["", "a b"]),
]


async def test_a_request_for_leases_that_cannot_be_meant_takes_nothing(store: Store) -> None:
    """Section 3.1, section 5.5: leases of no seconds, of hugely many, or for none or hugely many commands."""
    command_id = await create(store.commands)

    for changes, refusal in LEASE:
        with case(changes), pytest.raises(refusal):
            await store.commands.lease(**{"deployment_id": "site", **changes})
        with case(changes):
            assert await kinds(store.commands, command_id) == ["created"]

    await check(store)


class Call(msgspec.Struct):
    """A call about a command that somebody has."""

    method: str
    arguments: tuple[Any, ...]
    refusal: type[PerdureError]


TOKEN = "the token"
CALLS = [
    *(
        Call(method, (TOKEN,), InvalidIdentifier)
        for method in ("cancel", "redrive", "history", "increment_attempt", "get_params", "get_result", "get_command_status")
    ),
    *(Call(method, ("id", token), UsageError) for method in ("renew", "release") for token in [-1, 0, "1", None, True, 2**63, 1.5]),
    *(Call("complete", ("id", token, Succeeded()), UsageError) for token in [-1, 0, "1", None, True, 2**63]),
    *(
        Call("renew", ("id", TOKEN, ("progress", Progress(fraction=number))), UsageError)  # type: ignore[arg-type]  # what is tested
        for number in [-0.1, 1.1, math.nan, math.inf, "1", None]
    ),
    *(Call("renew", ("id", TOKEN, ("progress", value)), UsageError) for value in [0.5, "half", {"fraction": 1}]),
    *(Call("renew", ("id", TOKEN, ("progress", Progress(fraction=1, note=note))), InvalidIdentifier) for note in ["x" * 513, "a\nb", 7]),  # type: ignore[arg-type]  # what is tested
    *(Call("renew", ("id", TOKEN, ("lease_for", number)), UsageError) for number in [0, limits.COMMAND_LEASE_MAX_US + 1, *NUMBERS]),
    *(Call("release", ("id", TOKEN, ("delay", number)), UsageError) for number in [limits.COMMAND_DELAY_MAX_US + 1, *NUMBERS]),
    *(Call("release", ("id", TOKEN, ("error", line)), InvalidIdentifier) for line in ["x" * 4097, "a\nb", None]),
    *(Call("complete", ("id", TOKEN, outcome), UsageError) for outcome in [None, b"1", "done", Failed, {"code": "x"}]),
    *(Call("complete", ("id", TOKEN, Failed(code=code)), InvalidIdentifier) for code in ["", "x" * 129, "a\nb", 7]),  # type: ignore[arg-type]  # what is tested
    *(Call("complete", ("id", TOKEN, Failed(code="x", message=text)), UsageError) for text in ["\0", "\ud800", 7, None]),  # type: ignore[arg-type]  # what is tested
    Call("complete", ("id", TOKEN, Failed(code="x", message="x" * (limits.COMMAND_MESSAGE_MAX + 1))), PayloadTooLarge),
    Call("complete", ("id", TOKEN, Failed(code="x", details=b'"' + b"x" * limits.COMMAND_MESSAGE_MAX + b'"')), PayloadTooLarge),
    *(Call("complete", ("id", TOKEN, Failed(code="x", details=data)), PayloadUnencodable) for data in [b"", b"{", b"\xff"]),
    *(Call("complete", ("id", TOKEN, Failed(code="x", details=data)), UsageError) for data in ["1", 7, {}]),  # type: ignore[arg-type]  # what is tested
    *(Call("complete", ("id", TOKEN, Failed(code="x", retryable=value)), UsageError) for value in ["yes", None, 1]),  # type: ignore[arg-type]  # what is tested
    Call("complete", ("id", TOKEN, Stopped(message="x" * (limits.COMMAND_MESSAGE_MAX + 1))), PayloadTooLarge),
    Call("complete", ("id", TOKEN, Succeeded(result=BIG)), PayloadTooLarge),
    *(Call("complete", ("id", TOKEN, Succeeded(result=data)), PayloadUnencodable) for data in [b"", b"nothing"]),
    Call("complete", ("id", TOKEN, Succeeded(result="1")), UsageError),  # type: ignore[arg-type]  # what is tested
    Call("complete", ("id", TOKEN, Succeeded(result=Blob(sha256="a", size=1))), InvalidIdentifier),
    *(Call("cancel", ("id", ("reason", line)), InvalidIdentifier) for line in ["x" * 4097, "a\nb", None]),
    *(Call("cancel", ("id", ("actor", line)), InvalidIdentifier) for line in LINES),
    *(Call("set_params", ("id", data), PayloadUnencodable) for data in [b"", b"{"]),
    Call("set_params", ("id", BIG), PayloadTooLarge),
    *(Call("update_command_state", ("id", state), UsageError) for state in ["done", "", None, 7, ["FAILED"]]),
    Call("update_command_state", ("id", DISPATCHED, ("completed_at", 5)), UsageError),
    *(
        Call("update_command_state", ("id", "FAILED", (name, number)), UsageError)
        for name in ("completed_at", "dispatched_at", "response_size_bytes")
        for number in [-1, 1.5, "1", 2**63]
    ),
    *(Call("update_command_state", ("id", "FAILED", ("error", msgspec.Raw(data))), PayloadUnencodable) for data in [b"", b"{", b"\xff"]),
    *(Call("update_command_state", ("id", "FAILED", ("error", data)), UsageError) for data in [7, {"code": "x"}, [1]]),
    Call("update_command_state", ("id", "FAILED", ("error", msgspec.Raw(BIG))), PayloadTooLarge),
    *(Call("wait_command", ("id", number), UsageError) for number in [limits.DURATION_MAX + 1, *NUMBERS]),
    *(Call("history", ("id", ("limit", number)), UsageError) for number in [0, limits.PAGE_MAX + 1, *NUMBERS]),
    *(Call("history", ("id", ("after", number)), UsageError) for number in [-1, "1", 1.5, 2**63]),
    *(Call("list_commands", (("limit", number),), UsageError) for number in [0, limits.PAGE_MAX + 1, *NUMBERS]),
    *(
        Call("list_commands", (("after", cursor),), UsageError)
        for cursor in ["x", "1", "x:y", "-1:cmd_x", "²:cmd_x", "9" * 19 + ":x", "1:", 7]
    ),
    Call("list_commands", (("matching", CommandFilter(deployment_id="")),), InvalidIdentifier),
    Call("list_commands", (("matching", {"state": "FAILED"}),), UsageError),
    *(Call("expire_due", (instant,), UsageError) for instant in [None, "1", 1.5, -1, 2**63]),
]


async def test_a_call_that_cannot_be_meant_is_refused_and_nothing_is_written(store: Store) -> None:
    commands = store.commands
    command_id = await create(commands)
    token = (await take(commands)).token
    before, events = await commands.get_command_status(command_id), await kinds(commands, command_id)

    for call in CALLS:
        given = {"id": command_id, TOKEN: token if call.arguments[0] == "id" else ""}
        positional = [given.get(one, one) if isinstance(one, str) else one for one in call.arguments if not isinstance(one, tuple)]
        with case(call), pytest.raises(call.refusal):
            await getattr(commands, call.method)(*positional, **dict(one for one in call.arguments if isinstance(one, tuple)))
        with case(call):
            assert await commands.get_command_status(command_id) == before
            assert await kinds(commands, command_id) == events

    await check(store)


RETRIES: list[dict[str, Any]] = [
    *({"max_attempts": number} for number in [0, -1, 1.5, "1", None, True, limits.RETRY_ATTEMPTS_MAX + 1]),
    *({name: number} for name in ("initial", "maximum") for number in [-1, math.nan, math.inf, "1", None, 367 * 86_400]),
    *({"factor": number} for number in [0.5, math.nan, math.inf, "1", None, 2**64]),
    *({"jitter": number} for number in [-0.1, 1.1, math.nan, "1", None]),
    *({"give_up_on": codes} for codes in ["oops", None, [7], ["x"] * 101, ["x" * 129], ["\ud800"], [""]]),
]


@pytest.mark.parametrize("changes", RETRIES, ids=range(len(RETRIES)))
def test_a_policy_that_cannot_be_meant_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="CommandRetry"):
        CommandRetry(**changes)


async def test_what_is_just_within_every_limit_is_taken(store: Store, clock: VirtualClock) -> None:
    """Section 5.8: any character may be in a name or a key."""
    commands, name = store.commands, "/: %é" + "n" * 250
    command_id = await create(
        commands,
        name,
        deployment_id=name,
        target=name,
        idempotency_key="k" * 512,
        params=b'"' + b"x" * (limits.COMMAND_PARAMS_MAX - 2) + b'"',
        priority=limits.PRIORITY_MAX,
        delay=limits.COMMAND_DELAY_MAX_US,
        deadline=clock.now() + limits.DURATION_MAX,
        traceparent="t" * 256,
        actor="a" * 256,
        retry=CommandRetry(
            max_attempts=limits.RETRY_ATTEMPTS_MAX, initial=0, factor=1, maximum=366 * 86_400, jitter=1, give_up_on=("x" * 128,) * 100
        ),
    )
    clock.advance(limits.COMMAND_DELAY_MAX_US)

    [taken] = await commands.lease(
        name,
        target=name,
        names=[name, *(f"n{n}" for n in range(99))],
        max_leases=100,
        lease_for=limits.COMMAND_LEASE_MAX_US,
        worker="w" * 256,
    )

    assert taken.command_id == command_id
    await commands.renew(command_id, taken.token, progress=Progress(fraction=1, note="n" * 512))
    assert await commands.complete(
        command_id, taken.token, Failed(code="c" * 128, message="m" * 16_384, details=b'"' + b"d" * 16_382 + b'"')
    )
    await check(store)


async def test_a_stranger_to_the_table_of_transitions_is_told_both_states(store: Store) -> None:
    command_id = await create(store.commands)

    with pytest.raises(IllegalTransition, match=r"PENDING.*SUCCEEDED"):
        await store.commands.update_command_state(command_id, SUCCEEDED)
