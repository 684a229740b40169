"""The client against a real server: every method, and what it raises. K1 and K2 are groups of the research on commands, section 3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import Client, CommandRetry, VirtualClock
from perdure.commands.contract import Failed, Stopped, Succeeded
from perdure.errors import (
    CommandCancelled,
    CommandExpired,
    CommandFailed,
    CommandNotFound,
    CommandPending,
    IdempotencyKeyReused,
    IllegalTransition,
    InvalidIdentifier,
    MessageConflict,
    MessageNotFound,
    NoRoute,
    NotFoundError,
    PayloadInvalid,
    PayloadUnencodable,
    PerdureError,
    ProcessNotFound,
    ReplyPending,
    TurnFailed,
    UsageError,
)
from perdure.limits import IDEMPOTENCY_KEY_MAX
from perdure.protocol.messages import ToKey, ToProcess
from tests.client.shop import Paid, Place, Total
from tests.worker.hub import Hub

SECOND = timedelta(seconds=1)
_START = VirtualClock().now()


# --- messages -------------------------------------------------------------------------------------------


async def test_a_message_is_delivered_once_for_its_id(client: Client) -> None:
    first = await client.deliver(Place("7", 5), id="m1", headers={"traceparent": "00-1-2-01"})
    again = await client.deliver(Place("7", 5), id="m1", headers={"traceparent": "00-1-2-01"})

    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.process_id == again.process_id
    assert await client.call(Place("7", 1), id="m2", result=Total) == Total(6)


async def test_a_call_gives_the_sealed_reply_plain_or_as_a_type(client: Client) -> None:
    plain = await client.call(Place("7", 5), id="m1")
    typed = await client.call(Place("7", 5), id="m1", result=Total)

    assert (plain, typed) == ({"total": 5}, Total(5))
    with pytest.raises(PayloadInvalid):
        await client.call(Place("7", 5), id="m1", result=int)


async def test_plain_data_is_a_message_with_its_kind_and_its_address(client: Client) -> None:
    assert await client.call({"order": "8"}, id="m1", kind="Place", result=Total) == Total(1)
    assert await client.call({"order": "9"}, id="m2", kind="Place", to=ToKey("8"), result=Total) == Total(2)
    with pytest.raises(UsageError, match="kind"):
        await client.deliver({"order": "8"}, id="m3")


async def test_what_a_handler_raises_is_a_failed_turn_with_its_text(client: Client) -> None:
    with pytest.raises(TurnFailed, match="LookupError: no such amount"):
        await client.call(Place("7", -1), id="m1")


async def test_k1_a_call_that_is_not_answered_in_time_tells_the_last_state_and_can_be_made_again(hub: Hub, client: Client) -> None:
    await client.call(Place("7"), id="m1")
    asking = asyncio.ensure_future(client.call(Paid(3_600), id="m2", to=ToKey("7"), timeout=10 * SECOND))
    with pytest.raises(ReplyPending, match=r"'m2' is .* call again"):
        await _in_time(hub, asking)

    hub.clock.advance(timedelta(hours=1))

    assert await client.call(Paid(3_600), id="m2", to=ToKey("7"), result=Total) == Total(1)


async def test_a_message_says_where_it_is(client: Client) -> None:
    await client.call(Place("7"), id="m1", source="web")
    found = await client.message("m1", source="web")

    assert (found.status, found.reply is not None) == ("done", True)
    with pytest.raises(MessageNotFound):
        await client.message("m1")


@pytest.mark.parametrize(
    ("deliver", "error"),
    [
        (lambda client: client.deliver(Place("7", 2), id="m1"), MessageConflict),
        (lambda client: client.deliver(Paid(1), id="m2", to=ToProcess("nobody")), ProcessNotFound),
        (lambda client: client.deliver({}, id="m2", kind="Unheard"), NoRoute),
        (lambda client: client.deliver({"order": 7}, id="m2", kind="Place"), PayloadInvalid),
        (lambda client: client.deliver(Place("7"), id=""), InvalidIdentifier),
        (lambda client: client.deliver(object(), id="m2"), PayloadUnencodable),
        (lambda client: client.deliver(Place("7"), id="m2", keep_for=-SECOND), UsageError),
        (lambda client: client.call(Place("7"), id="m2", timeout=None), UsageError),
    ],
)
async def test_k1_a_message_that_is_not_accepted_is_refused_by_the_servers_own_error(
    client: Client, deliver: Callable[[Client], Awaitable[object]], error: type[PerdureError]
) -> None:
    await client.call(Place("7", 1), id="m1")

    with pytest.raises(error):
        await deliver(client)


async def test_dead_letters_are_listed_and_redriven(hub: Hub, client: Client) -> None:
    await client.deliver(Place("9"), id="late", to=ToKey("nobody"), expires_after=SECOND)
    await hub.pass_time(lambda: hub.clock.now() >= _START + 5_000_000)
    first = await client.dead_letters()
    new_id = await client.redrive("late")

    assert [(one.message_id, bytes(one.payload)) for one in first.dead_letters] == [("late", b'{"amount":1,"order":"9"}')]
    assert (first.next, new_id) == (None, "late~2")
    with pytest.raises(NotFoundError):
        await client.redrive("none")


@pytest.mark.parametrize("id", ["a/b", "a b?c=d#e", "ü€", "%2F", "..", ".", "a//b"])
async def test_an_id_of_any_text_is_found_again(client: Client, id: str) -> None:
    await client.call(Place("7"), id=id)

    assert (await client.message(id)).status == "done"


# --- commands -------------------------------------------------------------------------------------------


async def test_k1_a_command_is_sent_with_all_that_is_said_of_it(hub: Hub, client: Client) -> None:
    sent = await client.send_command(
        *("acme", "pick", {"order": "7"}),
        target="w7",
        deadline=timedelta(hours=1),
        delay=SECOND,
        priority=3,
        retry=CommandRetry(max_attempts=2, give_up_on=("x",)),
    )

    status = await hub.status(sent.command_id)
    assert (sent.state, sent.target, sent.priority, sent.max_attempts) == ("PENDING", "w7", 3, 2)
    assert status.deadline == hub.clock.now() + 3_600_000_000
    assert status.available_at == hub.clock.now() + 1_000_000
    assert await hub.store.commands.get_params(sent.command_id) == b'{"order":"7"}'


async def test_k1_a_command_of_the_same_key_is_the_same_and_of_another_request_refused(client: Client) -> None:
    first = await client.send_command("acme", "pick", 1, key="k")
    again = await client.send_command("acme", "pick", 1, key="k")

    assert first.command_id == again.command_id
    assert len((await client.commands()).commands) == 1
    with pytest.raises(IdempotencyKeyReused):
        await client.send_command("acme", "pick", 2, key="k")


@pytest.mark.parametrize("key", ["order 7", 'a "quoted" \\ one', "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "k" * IDEMPOTENCY_KEY_MAX])
async def test_a_key_is_any_printable_ascii(client: Client, key: str) -> None:
    first = await client.send_command("acme", "pick", 1, key=key)

    assert (await client.send_command("acme", "pick", 1, key=key)).command_id == first.command_id


@pytest.mark.parametrize("key", ["", "ü", "a\nb", "x\r\nhost: elsewhere", "k" * (IDEMPOTENCY_KEY_MAX + 1), 7])
async def test_what_cannot_be_a_key_is_refused_before_anything_is_sent(client: Client, key: str) -> None:
    with pytest.raises(UsageError, match="key: expected 1 to 256"):
        await client.send_command("acme", "pick", 1, key=key)


@pytest.mark.parametrize(
    ("outcome", "error", "code"),
    [
        (Failed(code="no-stock", message="none left", details=b'{"left":0}'), CommandFailed, "no-stock"),
        (Stopped(message="as asked"), CommandCancelled, "command-cancelled"),
    ],
)
async def test_k1_a_command_that_was_not_done_is_raised(
    hub: Hub, client: Client, outcome: Any, error: type[CommandFailed], code: str
) -> None:
    asking = asyncio.ensure_future(client.command("acme", "pick"))
    await _work_once(hub, outcome, stop=error is CommandCancelled)

    with pytest.raises(error) as failed:
        await asking
    assert failed.value.error_code == code


async def test_k1_a_result_is_plain_or_read_as_a_type(hub: Hub, client: Client) -> None:
    sent = await client.send_command("acme", "pick", None, key="one")
    await _work_once(hub, Succeeded(result=b'{"total":7}'))

    assert (await client.wait_command(sent.command_id)).state == "SUCCEEDED"
    assert await client.command("acme", "pick", None, key="one") == {"total": 7}
    assert await client.command("acme", "pick", None, key="one", result=Total) == Total(7)
    with pytest.raises(PayloadInvalid):
        await client.command("acme", "pick", None, key="one", result=int)
    assert b"".join([chunk async for chunk in client.download_result(sent.command_id)]) == b'{"total":7}'


async def test_k1_a_command_that_expires_is_raised(hub: Hub, client: Client) -> None:
    asking = asyncio.ensure_future(client.command("acme", "pick", deadline=10 * SECOND))

    with pytest.raises(CommandExpired):
        await _in_time(hub, asking)


async def test_k1_a_wait_that_is_too_long_tells_the_last_state(hub: Hub, client: Client) -> None:
    sent = await client.send_command("acme", "pick")
    waiting = asyncio.ensure_future(client.wait_command(sent.command_id, timeout=70 * SECOND))

    with pytest.raises(CommandPending, match="is PENDING in attempt 1"):
        await _in_time(hub, waiting)


async def test_commands_are_listed_cancelled_and_redriven_and_have_a_history(client: Client) -> None:
    sent = [await client.send_command("acme", "pick", n, target="w") for n in range(3)]
    first = await client.commands(deployment="acme", target="w", command="pick", state="PENDING", dead=False, limit=2)
    second = await client.commands(after=first.next)
    state = await client.cancel_command(sent[0].command_id, reason="no need")
    again = await client.redrive_command(sent[0].command_id)

    assert [one.command_id for one in (*first.commands, *second.commands)] == [one.command_id for one in reversed(sent)]
    assert second.next is None
    assert state == "CANCELLED"
    assert (await client.get_command(again)).state == "PENDING"
    assert (await client.get_command(sent[0].command_id)).redriven_as == again
    history = await client.command_history(sent[0].command_id, limit=2)
    rest = await client.command_history(sent[0].command_id, after=history.next)
    assert [one.kind for one in (*history.events, *rest.events)] == ["created", "cancelled", "redriven"]


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda client: client.get_command("cmd_none"), CommandNotFound),
        (lambda client: client.wait_command("cmd_none"), CommandNotFound),
        (lambda client: client.cancel_command("cmd_none"), CommandNotFound),
        (lambda client: client.redrive_command("cmd_none"), CommandNotFound),
        (lambda client: client.command_history("cmd_none"), CommandNotFound),
        (lambda client: client.redrive_command(""), PerdureError),
        (lambda client: client.send_command("", "pick"), PerdureError),
        (lambda client: client.send_command("acme", "two\nlines"), InvalidIdentifier),
        (lambda client: client.send_command("acme", "pick", deadline=timedelta(0)), PerdureError),
        (lambda client: client.send_command("acme", "pick", object()), PayloadUnencodable),
        (lambda client: client.send_command("acme", "pick", delay=7), UsageError),
        (lambda client: client.wait_command("cmd_none", timeout=None), UsageError),
    ],
)
async def test_k1_what_cannot_be_done_with_commands_is_the_servers_own_error(
    client: Client, ask: Callable[[Client], Awaitable[object]], error: type[PerdureError]
) -> None:
    with pytest.raises(error):
        await ask(client)


async def test_a_command_that_is_over_cannot_be_redriven_twice(client: Client) -> None:
    sent = await client.send_command("acme", "pick")
    with pytest.raises(IllegalTransition):
        await client.redrive_command(sent.command_id)


# --- inside ---------------------------------------------------------------------------------------------


async def _in_time(hub: Hub, asking: asyncio.Future[Any]) -> Any:
    """Return what comes of a call while time passes."""
    await hub.pass_time(asking.done)
    return await asking


async def _work_once(hub: Hub, outcome: Any, *, stop: bool = False) -> None:
    leases = await asyncio.wait_for(hub.store.commands.lease("acme", wait=30_000_000), 10)
    if stop:
        await hub.store.commands.cancel(leases[0].command_id)
    assert await hub.store.commands.complete(leases[0].command_id, leases[0].token, outcome)
