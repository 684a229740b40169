"""What becomes of a command that is sent, for each thing that can become of a request."""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks

from perdure import limits
from perdure.clock import SECOND
from perdure.commands.contract import CommandRetry, DeploymentModel, Succeeded
from perdure.commands.states import CommandState
from perdure.errors import StaleLease
from perdure.sending.targets import Allowed
from tests.contracts.commands import CANCELLED, DISPATCHED, FAILED, PENDING, SUCCEEDED, check
from tests.push.desk import AT_ONCE, HOUR, QUICK, SECRET, Desk, black_hole, commands_at, in_turn, pushed, pushing, reset
from tests.sending.site import Answer, Site, answer

JSON = "Content-Type: application/json"
ACCEPTED = answer("202 Accepted")
DONE = answer("200 OK", JSON, body=b'{"status":"succeeded","result":{"shelf":"A"}}')
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_command_is_sent_signed_and_its_result_comes_later(desk: Desk) -> None:
    async with Site(ACCEPTED) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url("/hook"), secrets=[SECRET])
        made = await desk.store.commands.create_command(
            "site", "pick", deadline=desk.clock.now() + HOUR, params=b'{"count":3}', target="arm", traceparent=TRACE
        )
        found = await desk.comes_to(made.command_id, "created", "leased", "sent")

        assert made.deployment_model == found.deployment_model == DeploymentModel.PUSH
        assert (found.state, found.worker, found.lease_expires_at) == (DISPATCHED, "push", desk.clock.now() + HOUR)
        headers, body, command = pushed(site.requests[0])
        assert headers["webhook-id"] == f"{made.command_id}:1"
        assert (headers["content-type"], headers["traceparent"]) == ("application/json", TRACE)
        assert (command.command_id, command.tenant, command.deployment) == (made.command_id, "default", "site")
        assert (command.command, command.target, command.attempt, bytes(command.params)) == ("pick", "arm", 1, b'{"count":3}')
        assert (command.lease_ms, command.deadline_ms, command.traceparent) == (3_600_000, 3_600_000, TRACE)
        _verify(headers, body, SECRET)
        assert await desk.store.commands.complete(made.command_id, command.token, Succeeded(result=b"1"))
        assert (await desk.status(made.command_id)).state == SUCCEEDED
        await check(desk.store)


def _verify(headers: dict[str, str], body: bytes, secret: str) -> None:
    """Verify as any receiver does, but at the time of the test: the library goes by the machine's clock."""
    webhook = standardwebhooks.Webhook(secret)
    at = int(headers["webhook-timestamp"])
    expected = webhook.sign(headers["webhook-id"], datetime.fromtimestamp(at, UTC), body.decode())
    assert expected in headers["webhook-signature"].split(" ")


async def test_an_answer_may_say_how_the_command_ended(desk: Desk) -> None:
    async with Site(DONE) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url())
        command_id = await desk.send()
        found = await desk.comes_to(command_id, "created", "leased", "sent", "succeeded")

        assert (found.state, found.completed_at) == (SUCCEEDED, desk.clock.now())
        headers, _, command = pushed(site.requests[0])
        assert ("traceparent" in headers, command.traceparent) == (False, ""), "S5: nobody gave it one"
        assert await desk.store.commands.get_result(command_id) == b'{"shelf":"A"}'
        await check(desk.store)


FAILS = b'{"status":"failed","code":"no-stock","message":"none left","retryable":true}'


async def test_a_failure_that_an_answer_tells_is_tried_again_by_policy(desk: Desk) -> None:
    async with Site(in_turn(answer("200 OK", JSON, body=FAILS), DONE)) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url())
        command_id = await desk.send(retry=CommandRetry(initial=7.0, jitter=0))
        found = await desk.comes_to(command_id, "created", "leased", "sent", "attempt-failed")
        assert (found.state, found.failures, found.available_at) == (PENDING, 1, desk.clock.now() + 7 * SECOND)
        desk.clock.advance(7 * SECOND - 1)
        await desk.rests()
        assert len(site.requests) == 1
        desk.clock.advance(1)
        await desk.comes_to(command_id, "created", "leased", "sent", "attempt-failed", "leased", "sent", "succeeded")

        assert [command.attempt for command in commands_at(site)] == [1, 2]
        assert pushed(site.requests[1])[0]["webhook-id"] == f"{command_id}:2"


@pytest.mark.parametrize(
    ("reply", "state", "code"),
    [
        (answer("200 OK", JSON, body=b'{"status":"ok"}'), DISPATCHED, None),
        (answer("200 OK", JSON, body=b"[1"), DISPATCHED, None),
        (answer("200 OK", JSON, body=b'"succeeded"'), DISPATCHED, None),
        (answer("200 OK", "Content-Type: text/plain", body=b'{"status":"succeeded"}'), DISPATCHED, None),
        (answer("202 Accepted", JSON, body=b'{"status":"succeeded"}'), DISPATCHED, None),
        (answer("200 OK", JSON, body=b'{"status":"succeeded","resulted":1}'), FAILED, "result-invalid"),
        (answer("200 OK", JSON, body=b'{"status":"failed"}'), FAILED, "result-invalid"),
        (
            answer("200 OK", JSON, body=b'{"status":"succeeded","result_blob":{"sha256":"%s","size":1}}' % (b"a" * 64)),
            FAILED,
            "result-invalid",
        ),
        (answer("200 OK", JSON, body=b'{"status":"succeeded","result":"%s"}' % (b"x" * limits.PUSH_ANSWER_MAX)), FAILED, "result-invalid"),
        (answer("200 OK", JSON, body=b'{"status":"failed","code":"hopeless"}'), FAILED, "hopeless"),
    ],
)
async def test_what_an_answer_says_is_taken_strictly_once_it_is_meant_as_an_end(
    lone: Desk, reply: bytes, state: CommandState, code: str | None
) -> None:
    async with Site(reply) as site, pushing(lone.store):
        await lone.store.push.put("site", site.url())
        command_id = await lone.send()
        end = () if state == DISPATCHED else ("failed",)
        found = await lone.comes_to(command_id, "created", "leased", "sent", *end)

        assert found.state == state
        assert (b"" if found.error is None else bytes(found.error)).startswith(b"" if code is None else b'{"code":"%s"' % code.encode())
        assert not found.dead


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "404 Not Found", "302 Found", "410 Gone"])
async def test_what_is_refused_for_good_fails_and_nothing_that_comes_later_counts(desk: Desk, status: str) -> None:
    """V12, section 1.5 (4): it stayed PENDING, and nobody could have it."""
    async with Site(answer(status, body=b"sesame")) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url("/hook?key=sesame"))
        command_id = await desk.send()
        found = await desk.comes_to(command_id, "created", "leased", "send-refused", "failed")

        assert (found.state, found.dead, found.failures) == (FAILED, False, 1)
        error = bytes(found.error or b"")
        assert b'"delivery-failed"' in error
        assert status[:3].encode() in error
        assert b"sesame" not in error, "neither what was answered nor what may be a secret is told"
        [command] = commands_at(site)
        assert not await desk.store.commands.complete(command_id, command.token, Succeeded(result=b"1"))
        await check(desk.store)


async def test_what_is_refused_for_now_is_sent_again_and_never_before_the_time_that_was_asked_for(desk: Desk) -> None:
    """Section 5.5: what could not be sent waited for the end of its lease."""
    async with Site(in_turn(answer("429 Too Many Requests", "Retry-After: 120"), DONE)) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url())
        command_id = await desk.send(retry=CommandRetry(initial=3.0, jitter=0))
        found = await desk.comes_to(command_id, "created", "leased", "send-refused", "attempt-failed")
        assert (found.state, found.failures, found.available_at) == (PENDING, 1, desk.clock.now() + 120 * SECOND)
        desk.clock.advance(120 * SECOND - 1)
        await desk.rests()
        assert len(site.requests) == 1
        desk.clock.advance(1)

        found = await desk.comes_to(command_id, "created", "leased", "send-refused", "attempt-failed", "leased", "sent", "succeeded")
        assert found.state == SUCCEEDED


async def test_where_nobody_listens_it_is_tried_again_until_it_is_a_dead_letter(desk: Desk) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with pushing(desk.store):
        await desk.store.push.put("site", f"http://127.0.0.1:{port}/")
        command_id = await desk.send(retry=CommandRetry(max_attempts=2, initial=1.0, jitter=0))
        await desk.comes_to(command_id, "created", "leased", "send-refused", "attempt-failed")
        desk.clock.advance(SECOND)
        again = ("leased", "send-refused", "attempt-failed")
        found = await desk.comes_to(command_id, "created", *again, *again, "failed")

        assert (found.state, found.dead, found.failures) == (FAILED, True, 2)


@pytest.mark.parametrize(
    ("reply", "patience"),
    [
        (black_hole, QUICK),
        (reset, 10 * SECOND),
        (answer("500 Internal Server Error"), 10 * SECOND),
        (answer("503 Service Unavailable"), 10 * SECOND),
    ],
    ids=["black-hole", "reset", "500", "503"],
)
async def test_what_may_have_arrived_is_not_sent_again_before_its_lease_is_over_and_a_late_result_counts(
    desk: Desk, reply: bytes | Answer, patience: int
) -> None:
    """V11, section 1.5 (4). Section 5.5: a result that came after two hours had nowhere to go."""
    async with Site(reply) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url(), timeout=patience)
        first, second = await desk.send(), await desk.send()
        for command_id in (first, second):
            found = await desk.comes_to(command_id, "created", "leased", "send-unknown")
            assert (found.state, found.failures) == (DISPATCHED, 0)
        desk.clock.advance(HOUR - 1)
        await desk.rests()
        assert len(site.requests) == 2
        tokens = {command.command_id: command.token for command in commands_at(site)}
        assert await desk.store.commands.complete(first, tokens[first], Succeeded(result=b"1"))
        desk.clock.advance(1)
        await desk.until(lambda: len(site.requests) == 3)

        assert (await desk.status(first)).state == SUCCEEDED
        [*_, last] = commands_at(site)
        assert (last.command_id, last.attempt) == (second, 2)
        with pytest.raises(StaleLease):
            await desk.store.commands.complete(second, tokens[second], Succeeded(result=b"1"))
        assert (await desk.kinds(second))[3] == "lease-expired"


@pytest.mark.parametrize(
    "reply",
    [ACCEPTED, DONE, answer("400 Bad Request"), answer("500 Internal Server Error"), reset],
    ids=["202", "200", "400", "500", "reset"],
)
async def test_section_1_5_3_a_result_that_comes_before_the_answer_to_its_sending_counts(desk: Desk, reply: bytes | Answer) -> None:
    """It was sent before it was marked: the result of a fast worker was refused, or what was marked afterwards overwrote it."""
    found: list[tuple[CommandState, bool]] = []

    async def quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        [command] = commands_at(site)
        state = (await desk.status(command.command_id)).state
        found.append((state, await desk.store.commands.complete(command.command_id, command.token, Succeeded(result=b"1"))))
        await in_turn(reply)(reader, writer)

    async with Site(quick) as site, pushing(desk.store) as engine:
        await desk.store.push.put("site", site.url())
        command_id = await desk.send()
        await desk.comes_to(command_id, "created", "leased", "succeeded")
        await desk.until(lambda: not engine._pusher._under_way.total())

        assert found == [(DISPATCHED, True)]
        assert await desk.kinds(command_id) == ["created", "leased", "succeeded"]
        assert (await desk.status(command_id)).state == SUCCEEDED
        assert await desk.store.commands.get_result(command_id) == b"1"
        await check(desk.store)


async def test_a_command_that_is_to_stop_is_cancelled_when_nobody_has_told_of_its_end(lone: Desk) -> None:
    async with Site(ACCEPTED) as site, pushing(lone.store):
        await lone.store.push.put("site", site.url(), result_within=60 * SECOND)
        command_id = await lone.send()
        await lone.comes_to(command_id, "created", "leased", "sent")
        await lone.store.commands.cancel(command_id)
        lone.clock.advance(60 * SECOND)
        found = await lone.comes_to(command_id, "created", "leased", "sent", "cancel-requested", "cancelled")

        assert found.state == CANCELLED
        assert len(site.requests) == 1


@pytest.mark.parametrize("allowed", [None, Allowed(networks=("10.0.0.0/8",)), Allowed(hosts=("127.0.0.1:1",))])
async def test_a_private_address_is_refused_unless_it_is_allowed(lone: Desk, allowed: Allowed | None) -> None:
    async with Site(DONE) as site, pushing(lone.store, allowed):
        await lone.store.push.put("site", site.url())
        command_id = await lone.send()
        found = await lone.comes_to(command_id, "created", "leased", "send-refused", "failed")

        assert found.state == FAILED
        assert b"no address of the public internet" in bytes(found.error or b"")
        assert site.connections == 0


async def test_neither_params_nor_secrets_nor_answers_are_in_any_log_line(lone: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies: Any = in_turn(answer("429 No", body=b"sesame"), reset, answer("400 No", body=b"sesame"))
    async with Site(replies) as site, pushing(lone.store):
        await lone.store.push.put("site", site.url("/hook?key=sesame"), secrets=[SECRET], timeout=SECOND)
        ids = [await lone.send(params=b'"sesame"', retry=AT_ONCE) for _ in range(3)]
        await lone.until(lambda: len(site.requests) >= 4)
        shown = repr([await lone.store.push.list_endpoints(), [await lone.store.commands.history(one) for one in ids]])

    assert any("command cmd_" in record.message for record in caplog.records)
    for text in (caplog.text, shown):
        assert "sesame" not in text
        assert SECRET not in text
