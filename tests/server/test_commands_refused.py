"""Commands over HTTP: what is refused, to whom, and what is not told."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import limits
from tests.server.commanding import COMMANDS, Yard
from tests.server.conftest import Said, Served

LONG = "x" * (limits.COMMAND_NAME_MAX + 1)
OUTCOMES: dict[str, dict[str, Any]] = {
    "renew": {},
    "release": {},
    "complete": {"outcome": {"status": "succeeded", "result": 1}},
}


@pytest.fixture
async def yard(local: Served) -> Yard:
    return await Yard.of(local)


def told(said: Said) -> tuple[int, str]:
    return said.status, said.code


# --- fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment": ""},
        {"deployment": LONG},
        {"deployment": "a\n"},
        {"deployment": ...},
        {"target": ""},
        {"target": LONG},
        {"command": ""},
        {"command": LONG},
        {"command": "\u00fc" * 129},
        {"command": "\u0085"},
        {"deadline_ms": 0},
        {"deadline_ms": limits.DURATION_MAX // 1_000 + 1},
        {"deadline_ms": 1.5},
        {"delay_ms": -1},
        {"delay_ms": limits.COMMAND_DELAY_MAX_US // 1_000 + 1},
        {"priority": limits.PRIORITY_MAX + 1},
        {"priority": -limits.PRIORITY_MAX - 1},
        {"retry": {"max_attempts": 0}},
        {"retry": {"max_attempts": limits.RETRY_ATTEMPTS_MAX + 1}},
        {"retry": {"factor": 0.9}},
        {"retry": {"jitter": 1.1}},
        {"retry": {"initial_ms": -1}},
        {"retry": {"give_up_on": [""]}},
        {"retry": {"give_up_on": ["x" * (limits.COMMAND_CODE_MAX + 1)]}},
        {"retry": {"give_up_on": ["x"] * (limits.COMMAND_CODES_MAX + 1)}},
        {"retry": {"more": 1}},
        {"upload": 1},
        {"more": 1},
    ],
)
async def test_a_command_that_breaks_a_rule_is_not_made(yard: Yard, changes: dict[str, Any]) -> None:
    said = await yard.send(**changes)

    assert (said.status, said.code in ("request-invalid", "invalid-identifier", "usage")) == (422, True)
    assert (await yard.served.ask("GET", COMMANDS, token=yard.operator)).json["commands"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": limits.PRIORITY_MAX},
        {"priority": -limits.PRIORITY_MAX},
        {"deadline_ms": limits.DURATION_MAX // 1_000},
        {"delay_ms": limits.COMMAND_DELAY_MAX_US // 1_000},
        {"command": "\u00fc" * 128},
        {"retry": {"factor": 1_000, "maximum_ms": 0, "give_up_on": ["x"] * limits.COMMAND_CODES_MAX}},
        {"params": ...},
    ],
)
async def test_a_command_at_the_end_of_a_rule_is_made(yard: Yard, changes: dict[str, Any]) -> None:
    assert (await yard.send(**changes)).status == 201


async def test_params_that_are_too_large_are_refused(yard: Yard) -> None:
    said = await yard.send(params="x" * limits.COMMAND_PARAMS_MAX)

    assert told(said) == (413, "payload-too-large")


@pytest.mark.parametrize(
    "changes",
    [
        {"max_leases": 0},
        {"max_leases": limits.COMMAND_LEASES_MAX + 1},
        {"lease_ms": limits.COMMAND_LEASE_MIN_US // 1_000 - 1},
        {"lease_ms": limits.COMMAND_LEASE_MAX_US // 1_000 + 1},
        {"names": []},
        {"names": [""]},
        {"names": [LONG]},
        {"names": ["x"] * (limits.COMMAND_NAMES_MAX + 1)},
        {"worker": "x" * (limits.WORKER_MAX + 1)},
        {"worker": "a\tb"},
        {"wait_ms": limits.COMMAND_WAIT_US // 1_000 + 1},
        {"more": 1},
    ],
)
async def test_an_asking_for_work_that_breaks_a_rule_gets_none(yard: Yard, changes: dict[str, Any]) -> None:
    command_id = await yard.sent()

    said = await yard.lease(**changes)

    assert (said.status, said.code in ("request-invalid", "invalid-identifier", "usage")) == (422, True)
    assert await yard.kinds(command_id) == ["created"]


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("renew", {"token": 0}, 422),
        ("renew", {"token": 2**63}, 422),
        ("renew", {"token": "1"}, 422),
        ("renew", {"lease_ms": 1}, 422),
        ("renew", {"progress": {"fraction": 1.1}}, 422),
        ("renew", {"progress": {"fraction": 0, "note": "x" * (limits.COMMAND_NOTE_MAX + 1)}}, 422),
        ("release", {"delay_ms": limits.COMMAND_DELAY_MAX_US // 1_000 + 1}, 422),
        ("release", {"error": "x" * (limits.REASON_MAX + 1)}, 422),
        ("release", {"error": "two\nlines"}, 422),
        ("complete", {"outcome": {"status": "done"}}, 422),
        ("complete", {"outcome": {"status": "failed"}}, 422),
        ("complete", {"outcome": {"status": "failed", "code": ""}}, 422),
        ("complete", {"outcome": {"status": "failed", "code": "x" * (limits.COMMAND_CODE_MAX + 1)}}, 422),
        ("complete", {"outcome": {"status": "failed", "code": "x", "message": "a\0b"}}, 422),
        ("complete", {"outcome": {"status": "failed", "code": "x", "message": "x" * (limits.COMMAND_MESSAGE_MAX + 1)}}, 413),
        ("complete", {"outcome": {"status": "failed", "code": "x", "details": "x" * limits.COMMAND_MESSAGE_MAX}}, 413),
        ("complete", {"outcome": {"status": "succeeded", "result": "x" * limits.COMMAND_RESULT_MAX}}, 413),
        ("complete", {"outcome": {"status": "stopped", "code": "x"}}, 422),
    ],
)
async def test_what_a_worker_says_against_a_rule_changes_nothing(yard: Yard, verb: str, body: dict[str, Any], status: int) -> None:
    command_id = await yard.sent()
    lease = await yard.leased()

    said = await yard.do(verb, lease, **body)

    assert said.status == status
    assert await yard.kinds(command_id) == ["created", "leased"]
    assert (await yard.succeed(lease)).json["counted"]


# --- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "tenant"), [("command:work=hall/w2", "acme"), ("command:work=hall", "acme"), ("command:work=hall/w1", "other")]
)
@pytest.mark.parametrize("verb", OUTCOMES)
async def test_the_command_of_another_target_or_tenant_looks_like_one_that_is_not_there(
    yard: Yard, verb: str, grant: str, tenant: str
) -> None:
    command_id = await yard.sent()
    lease = await yard.leased()
    foreign = await yard.served.new_token(grant, tenant=tenant, name="foreign")

    said = await yard.do(verb, lease, by=foreign, **OUTCOMES[verb])
    nothing = await yard.do(verb, {**lease, "command_id": "cmd_nothing"}, by=yard.worker, **OUTCOMES[verb])

    assert (said.status, said.body) == (404, nothing.body)
    assert await yard.kinds(command_id) == ["created", "leased"]
    assert (await yard.succeed(lease)).json["counted"]


async def test_a_sender_does_not_work_and_a_worker_does_not_send_or_look(yard: Yard) -> None:
    command_id = await yard.sent()
    lease = await yard.leased()
    path = f"{COMMANDS}/{command_id}"
    refused = [
        await yard.lease(token=yard.sender),
        *[await yard.do(verb, lease, by=yard.sender, **body) for verb, body in OUTCOMES.items()],
        await yard.post(COMMANDS, {"deployment": "hall", "command": "pick"}, token=yard.worker),
        await yard.post(f"{path}/cancel", {}, token=yard.worker),
        await yard.post(f"{path}/redrive", token=yard.sender),
        await yard.served.ask("GET", path, token=yard.worker),
        await yard.served.ask("GET", f"{path}/history", token=yard.sender),
        await yard.served.ask("GET", COMMANDS, token=yard.sender),
    ]

    assert [told(one) for one in refused] == [(403, "not-allowed")] * len(refused)


@pytest.mark.parametrize(
    ("grant", "deployment", "target", "status"),
    [
        ("command:work=hall/w1", "hall", "w1", 200),
        ("command:work=hall/w1", "hall", "w2", 403),
        ("command:work=hall/w1", "hall", ..., 403),
        ("command:work=hall/w1", "other", "w1", 403),
        ("command:work=hall", "hall", ..., 200),
        ("command:work=hall", "hall", None, 200),
        ("command:work=hall", "hall", "w1", 403),
        ("command:work=hall", "hall", "", 422),
        ("command:work=hall", "other", ..., 403),
    ],
)
async def test_work_is_given_for_one_target_or_for_what_has_none(yard: Yard, grant: str, deployment: str, target: Any, status: int) -> None:
    token = await yard.served.new_token(grant, name="granted")
    for of in ("w1", "w2", ...):
        await yard.sent(target=of)

    said = await yard.lease(deployment=deployment, target=target, token=token)

    assert said.status == status
    if status == 200:
        [lease] = said.json["leases"]
        assert lease["target"] == (None if target is ... else target)
        assert (await yard.do("complete", lease, by=token, **OUTCOMES["complete"])).json["counted"]
