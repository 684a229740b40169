"""Decisions about pushing, in orders that a pusher alone seldom comes to."""

from __future__ import annotations

from perdure import limits
from perdure.commands.push_writes import Taken, TakePushed, Tell
from perdure.commands.queueing import NOTHING_APART, nobody
from perdure.commands.tables import COMMAND, PUSH_ENDPOINT
from perdure.commands.writes import Leased
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Refused
from tests.contracts.commands import DISPATCHED, EXPIRED, PENDING, check
from tests.push.desk import HOUR, Desk

URL = "https://hooks.example/in"
KEY = PUSH_ENDPOINT.key("default", "site", "")
SILENT = Ambiguous(reason="timed-out", detail="no answer")
NO = Refused(reason="status", detail="no", status=400)


async def take(desk: Desk, most: int = 8) -> Taken | None:
    return await desk.store.access.writer.run(TakePushed(key=KEY, most=most, ended=nobody))


async def take_one(desk: Desk) -> Leased:
    taken = await take(desk, 1)
    assert taken is not None
    [one] = taken.commands
    return one


async def tell(desk: Desk, one: Leased, outcome: Outcome, url: str = URL) -> bool:
    write = Tell(
        key=KEY,
        command=COMMAND.key("default", one.command_id),
        url=url,
        token=one.row.token,
        outcome=outcome,
        ending=None,
        ended=nobody,
        apart=NOTHING_APART,
    )
    return await desk.store.access.writer.run(write)


async def test_an_outcome_that_comes_after_its_lease_changes_nothing_of_the_next_attempt(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    command_id = await desk.send()
    first = await take_one(desk)
    desk.clock.advance(HOUR)
    await desk.store.commands.expire_due(desk.clock.now())
    second = await take_one(desk)
    assert second.row.token > first.row.token
    assert not await tell(desk, first, NO)
    assert (await desk.status(command_id)).state == DISPATCHED

    assert await tell(desk, second, Accepted(202))
    assert await desk.kinds(command_id) == ["created", "leased", "lease-expired", "leased", "sent"]


async def test_an_outcome_is_told_once_also_when_it_is_repeated(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    command_id = await desk.send()
    one = await take_one(desk)
    assert await tell(desk, one, NO)

    assert not await tell(desk, one, NO)
    assert await desk.kinds(command_id) == ["created", "leased", "send-refused", "failed"]
    assert not await tell(desk, Leased("cmd_absent", one.row), NO)


async def test_nothing_is_given_out_for_an_endpoint_that_was_disabled_meanwhile(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    command_id = await desk.send()
    await desk.store.push.enable("site", enabled=False)
    assert await take(desk) is None
    await desk.store.push.remove("site")

    assert await take(desk) is None
    assert (await desk.status(command_id)).state == PENDING


async def test_nothing_is_given_out_while_a_breaker_is_open_and_one_as_a_probe(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    for _ in range(limits.BREAKER_FAILURES):
        await desk.send()
        await tell(desk, await take_one(desk), SILENT)
    for _ in range(2):
        await desk.send()
    assert await take(desk) is None
    desk.clock.advance(limits.BREAKER_OPEN_US)
    probe = await take_one(desk)

    assert await take(desk) is None, "until its outcome is known"
    await tell(desk, probe, Accepted(202))
    assert await take_one(desk)
    await check(desk.store)


async def test_an_outcome_says_nothing_of_a_url_that_was_set_meanwhile(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    await desk.send()
    one = await take_one(desk)
    await desk.store.push.put("site", URL + "/new")
    assert await tell(desk, one, SILENT)

    assert (await desk.store.push.get("site")).failures == 0


async def test_what_is_past_its_deadline_is_not_given_out(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    late = await desk.send(deadline=desk.clock.now() + 1)
    soon = await desk.send()
    desk.clock.advance(1)
    taken = await take(desk)

    assert taken is not None
    assert [one.command_id for one in taken.commands] == [soon]
    assert (await desk.status(late)).state == EXPIRED
    await check(desk.store)


async def test_commands_are_given_out_by_priority_and_then_in_order(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    ids = [await desk.send(priority=priority, target=target) for priority, target in ((0, "b"), (0, "a"), (-1, None))]
    taken = await take(desk)

    assert taken is not None
    assert [one.command_id for one in taken.commands] == [ids[2], ids[0], ids[1]]
