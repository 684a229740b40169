"""Commands over HTTP, from the sending to the result."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.clock import SECOND
from perdure.commands.states import CommandState
from perdure.identity import TenantId
from perdure.operations.contract import OperationId, Policy, Started
from perdure.server.idempotency import digest_of
from tests.server.commanding import COMMANDS, Yard
from tests.server.conftest import Served, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def yard(served: Served) -> Yard:
    return await Yard.of(served)


async def test_a_command_is_sent_leased_renewed_and_completed(yard: Yard) -> None:
    command_id = await yard.sent(priority=-3)
    lease = await yard.leased(lease_ms=60_000)
    yard.served.clock.advance(10 * SECOND)
    renewed = await yard.do("renew", lease, lease_ms=60_000, progress={"fraction": 0.5, "note": "1 of 2"})
    under_way = await yard.show(command_id)
    completed = await yard.succeed(lease, {"shelf": 3})
    done = await yard.show(command_id)

    assert (lease["command_id"], lease["attempt"], lease["command"], lease["target"]) == (command_id, 1, "pick", "w1")
    assert (lease["params"], lease["lease_ms"], lease["deadline_ms"]) == ({"order": "7"}, 60_000, None)
    assert renewed.json == {"lease_ms": 60_000, "deadline_ms": None, "cancel_requested": False, "reason": ""}
    assert (under_way["state"], under_way["progress"], under_way["worker"]) == ("DISPATCHED", {"fraction": 0.5, "note": "1 of 2"}, "host/1")
    assert completed.json == {"command_id": command_id, "counted": True, "state": "SUCCEEDED"}
    assert (done["state"], done["result"], done["error"], done["priority"]) == ("SUCCEEDED", {"shelf": 3}, None, -3)
    assert await yard.kinds(command_id) == ["created", "leased", "succeeded"]


async def test_who_waits_for_what_he_sends_gets_the_result(yard: Yard) -> None:
    """Section 5.6: the client asked every 5 seconds."""
    async with yard.served.waiting_for(yard.send(wait_ms=30_000)) as sending:
        lease = await yard.leased(wait_ms=30_000)
        await yard.succeed(lease, [1])
        said = await sending

    assert (said.status, said.json["state"], said.json["result"]) == (201, "SUCCEEDED", [1])


async def test_who_waits_gets_the_state_when_his_time_is_over(yard: Yard) -> None:
    async with yard.served.waiting_for(yard.send(wait_ms=1_000)) as sending:
        await yard.served.pass_time(1_000_000)
        said = await sending

    assert (said.status, said.json["state"]) == (201, "PENDING")


async def test_a_released_command_is_given_out_again_after_its_delay(yard: Yard) -> None:
    command_id = await yard.sent()
    said = await yard.do("release", await yard.leased(), delay_ms=5_000, error="no forklift")
    early = await yard.lease()
    yard.served.clock.advance(5 * SECOND)

    assert said.json == {"command_id": command_id, "state": "PENDING"}
    assert early.json == {"leases": []}
    assert (await yard.leased())["attempt"] == 2
    assert (await yard.show(command_id))["failures"] == 0


async def test_a_failure_that_is_no_use_to_repeat_ends_a_command_with_its_reason(yard: Yard) -> None:
    command_id = await yard.sent()
    failed = {"status": "failed", "code": "no-such-order", "message": "7 is unknown", "details": {"order": "7"}}
    said = await yard.do("complete", await yard.leased(), outcome=failed)

    assert (said.json["counted"], said.json["state"]) == (True, "FAILED")
    assert (await yard.show(command_id))["error"] == {"code": "no-such-order", "message": "7 is unknown", "details": {"order": "7"}}


async def test_a_dead_letter_is_redriven_once(yard: Yard) -> None:
    command_id = await yard.sent(retry={"max_attempts": 1})
    await yard.do("complete", await yard.leased(), outcome={"status": "failed", "code": "broken", "retryable": True})
    path, dead = f"{COMMANDS}/{command_id}/redrive", (await yard.show(command_id))["dead"]
    first, second = [await yard.post(path, token=yard.operator) for _ in range(2)]

    assert dead
    assert (first.status, first.json) == (200, second.json)
    assert (await yard.show(command_id))["redriven_as"] == first.json["command_id"]
    assert (await yard.leased())["command_id"] == first.json["command_id"]


async def test_a_worker_is_told_that_its_command_is_not_wanted_any_more(yard: Yard) -> None:
    command_id = await yard.sent()
    lease = await yard.leased()
    said = await yard.post(f"{COMMANDS}/{command_id}/cancel", {"reason": "a mistake"}, token=yard.sender)
    renewed = await yard.do("renew", lease)
    stopped = await yard.do("complete", lease, outcome={"status": "stopped", "message": "stopped"})

    assert said.json == {"command_id": command_id, "state": "DISPATCHED"}
    assert (renewed.json["cancel_requested"], renewed.json["reason"]) == (True, "a mistake")
    assert (stopped.json["counted"], stopped.json["state"]) == (True, "CANCELLED")


async def test_who_is_late_is_told_and_does_not_count(yard: Yard) -> None:
    command_id = await yard.sent(retry={"initial_ms": 0})
    late = await yard.leased(lease_ms=1_000)
    yard.served.clock.advance(SECOND)
    second = await yard.leased(wait_ms=30_000)
    refused = [await yard.do(verb, late) for verb in ("renew", "release")]
    refused.append(await yard.succeed(late, "late"))

    assert second["token"] > late["token"]
    assert [(one.status, one.code) for one in refused] == [(409, "stale-lease")] * 3
    assert (await yard.succeed(second, "in time")).json["counted"]
    assert (await yard.show(command_id))["result"] == "in time"


@pytest.mark.parametrize("end", ["EXPIRED", "CANCELLED", "SUCCEEDED"])
async def test_section_5_3_who_completes_what_is_over_is_told_that_it_does_not_count(yard: Yard, end: str) -> None:
    """Whoever was late believed that it had counted."""
    command_id = await yard.sent(deadline_ms=1_000 if end == "EXPIRED" else ...)
    late = await yard.leased(lease_ms=1_000)
    if end == "CANCELLED":
        await yard.post(f"{COMMANDS}/{command_id}/cancel", {}, token=yard.sender)
    yard.served.clock.advance(SECOND)
    if end == "SUCCEEDED":
        await yard.succeed(await yard.leased(wait_ms=30_000), "in time")
    await until(lambda: _is(yard, command_id, end))

    completed = await yard.succeed(late, "late")
    others = [await yard.do(verb, late) for verb in ("renew", "release")]

    assert (completed.status, completed.json) == (200, {"command_id": command_id, "counted": False, "state": end})
    assert [(one.status, one.code) for one in others] == [(409, "stale-lease")] * 2
    assert (await yard.show(command_id))["result"] == ("in time" if end == "SUCCEEDED" else None)


async def test_a_deadline_of_a_millisecond_is_one(yard: Yard) -> None:
    command_id = await yard.sent(deadline_ms=1)
    yard.served.clock.advance(1_000)
    await until(lambda: _is(yard, command_id, "EXPIRED"))

    assert (await yard.lease()).json == {"leases": []}


async def _is(yard: Yard, command_id: str, state: str) -> bool:
    return bool((await yard.show(command_id))["state"] == state)


async def test_what_is_left_of_a_deadline_is_told_to_the_worker(yard: Yard) -> None:
    await yard.sent(deadline_ms=50_000)
    yard.served.clock.advance(10 * SECOND)

    lease = await yard.leased(lease_ms=60_000)

    assert (lease["deadline_ms"], lease["lease_ms"]) == (40_000, 60_000)


async def test_s8_who_says_nothing_gets_one_command_for_a_minute(yard: Yard) -> None:
    first, second = [await yard.sent() for _ in range(2)]
    lease, other = [await yard.leased(worker=...) for _ in range(2)]
    assert [(one["command_id"], one["lease_ms"]) for one in (lease, other)] == [(first, 60_000), (second, 60_000)]
    yard.served.clock.advance(30 * SECOND)
    renewed = await yard.do("renew", other)
    yard.served.clock.advance(30 * SECOND - 1)
    early = await yard.lease()
    yard.served.clock.advance(1)

    again = await yard.leased()

    assert renewed.json["lease_ms"] == 60_000
    assert early.json == {"leases": []}
    assert (again["command_id"], again["attempt"]) == (first, 2)


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        (TRACE, TRACE),
        ("01" + TRACE[2:] + "-more", "01" + TRACE[2:] + "-more"),
        ("01" + TRACE[2:] + "-" + "x" * limits.TRACEPARENT_MAX, ""),
        ("01" + TRACE[2:] + "-\x85", ""),
        ("nonsense", ""),
    ],
)
async def test_the_trace_of_the_sender_comes_to_the_worker(local: Served, given: str, carried: str) -> None:
    """Section 5.9: there was a place for it, and nothing set it."""
    yard = await Yard.of(local)
    await yard.sent(headers={"traceparent": given})

    assert (await yard.leased())["traceparent"] == carried


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (b"null", "failed", None),
        (b"5", "failed", 5),
        (b'["a"]', "failed", ["a"]),
        (b'{"code":5}', "failed", {"code": 5}),
        (b'{"code":"x","more":1}', "failed", {"code": "x", "more": 1}),
        (b'{"code":"x","details":1}', "x", 1),
    ],
)
async def test_an_error_that_was_set_as_it_is_may_be_any_json(local: Served, error: bytes, code: str, details: Any) -> None:
    yard = await Yard.of(local)
    command_id = await yard.sent()
    await local.store.commands.update_command_state(command_id, CommandState.FAILED, error=msgspec.Raw(error), tenant_id="acme")

    shown = (await yard.show(command_id))["error"]

    assert (shown["code"], shown["details"]) == (code, details)


async def test_names_and_the_lowest_priority_say_what_is_given_out(yard: Yard) -> None:
    later, first = await yard.sent(command="count"), await yard.sent(command="pick", priority=-1)

    assert (await yard.leased(names=["count"]))["command_id"] == later
    assert (await yard.leased(names=["pick", "count"]))["command_id"] == first


async def test_several_are_given_out_at_once_and_no_more_than_asked_for(yard: Yard) -> None:
    sent = [await yard.sent() for _ in range(3)]

    said = await yard.lease(max_leases=2)

    assert [one["command_id"] for one in said.json["leases"]] == sent[:2]


# --- the same request again ---------------------------------------------------------------------------------


async def test_the_same_sending_is_one_command(yard: Yard) -> None:
    first, again = [await yard.send(key='"k"') for _ in range(2)]

    assert (first.status, first.body) == (again.status, again.body)
    assert len((await yard.lease(max_leases=10)).json["leases"]) == 1


async def test_clients_whose_names_and_keys_run_together_send_commands_of_their_own(yard: Yard) -> None:
    tokens = [await yard.served.new_token("command:send", name=name) for name in ("a", "a b")]
    body = {"deployment": "hall", "target": "w1", "command": "pick"}

    first = await yard.post(COMMANDS, body, token=tokens[0], key='"b c"')
    second = await yard.post(COMMANDS, body, token=tokens[1], key='"c"')

    assert first.json["command_id"] != second.json["command_id"]


async def test_the_same_asking_for_work_gets_the_same_leases(yard: Yard) -> None:
    for _ in range(2):
        await yard.sent()

    first, again = [await yard.lease(key='"k"') for _ in range(2)]

    assert first.body == again.body
    assert (await yard.leased())["command_id"] != first.json["leases"][0]["command_id"]


async def died(yard: Yard, path: str, body: bytes, *, name: str) -> None:
    """Leave a request as a server leaves it that dies between its effect and its answer."""
    route = path.replace("/acme/", "/{tenant}/")
    parts = route.split("/")
    route = "/".join("{id}" if part.startswith("cmd_") else part for part in parts)
    verdict = await yard.served.store.operations.begin(
        OperationId(tenant_id=TenantId("acme"), scope=f"http {name}", value="k"),
        method=f"POST {route}",
        request_digest=digest_of("POST", path, b"", body),
        policy=Policy.IDEMPOTENT,
        lease_for=1,
        retain=limits.IDEMPOTENCY_RETAIN_US,
    )
    assert isinstance(verdict, Started)
    yard.served.clock.advance(1)


@pytest.mark.parametrize(
    ("verb", "more"), [("release", {}), ("complete", {"outcome": {"status": "succeeded", "result": 1}}), ("renew", {})]
)
async def test_what_a_worker_said_before_the_server_died_is_not_refused_when_it_is_said_again(
    yard: Yard, verb: str, more: dict[str, Any]
) -> None:
    command_id = await yard.sent()
    lease = await yard.leased()
    path, body = f"{COMMANDS}/{command_id}/{verb}", msgspec.json.encode({"token": lease["token"], **more})
    done = await yard.do(verb, lease, **more)
    await died(yard, path, body, name="worker")
    headers = {"Idempotency-Key": '"k"', "Content-Type": "application/json"}

    said = await yard.served.ask("POST", path, token=yard.worker, data=body, headers=headers)

    assert (said.status, said.json) == (200, done.json)


async def test_a_release_that_comes_too_late_is_refused_with_a_key_too(yard: Yard) -> None:
    await yard.sent()
    lease = await yard.leased()
    await yard.succeed(lease)

    assert (await yard.do("release", lease, key='"k"')).code == "stale-lease"


async def test_a_command_that_was_made_before_the_server_died_is_not_made_twice(yard: Yard) -> None:
    body = msgspec.json.encode({"deployment": "hall", "target": "w1", "command": "pick"})
    headers = {"Idempotency-Key": '"k"', "Content-Type": "application/json"}
    first = await yard.served.ask("POST", COMMANDS, token=yard.sender, data=body, headers=headers)
    operation = OperationId(tenant_id=TenantId("acme"), scope="http sender", value="k")
    await yard.served.store.operations.sweep(yard.served.clock.now() + limits.DURATION_MAX)
    yard.served.clock.advance(limits.IDEMPOTENCY_KNOWN_US)
    await yard.served.store.operations.forget(yard.served.clock.now())
    assert await yard.served.store.operations.find_operation(operation) is None

    again = await yard.served.ask("POST", COMMANDS, token=yard.sender, data=body, headers=headers)

    assert again.json["command_id"] == first.json["command_id"]
