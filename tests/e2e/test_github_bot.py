"""The main job: every webhook has an end that can be explained, whatever the order, the duplicates and the crashes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from examples.github_bot import cli, crash, demo
from examples.github_bot.effects import Effect, Ledger, in_world
from examples.github_bot.events import Delivery, by_tenant, routed
from examples.github_bot.job import KEEP_CHECKS_FOR, hand_in, settled
from examples.github_bot.outcome import Outcome, outcome_of
from examples.github_bot.processes import app
from examples.github_bot.recording import WEBHOOKS, Webhook, disturbed, read, repeated
from perdure import Engine, VirtualClock, open_store
from perdure.engine import inspection
from tests.stores import DURABLE

MEMORY = "sqlite:///:memory:"
SHA = "5bd5f196a46b8222fb7484f05faba41a73cf34bd"


class Calm(NamedTuple):
    deliveries: list[Delivery]
    outcome: Outcome
    texts: list[str]
    effects: list[Effect]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "effects.db") as opened, in_world(opened):
        yield opened


async def done(engine: Engine, deliveries: Sequence[Delivery]) -> Outcome:
    webhooks = by_tenant(deliveries)
    errors = await hand_in(engine, deliveries, concurrency=16, accepted=lambda _delivery: None)
    await settled(engine.store, webhooks)
    return await outcome_of(engine.store, webhooks, errors)


async def outcome(deliveries: Sequence[Delivery]) -> Outcome:
    async with open_store(MEMORY) as store, Engine(store, app) as engine:
        return await done(engine, deliveries)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The whole recording once, in order, undisturbed."""
    deliveries = [routed(*hook) for hook in read(WEBHOOKS)]

    async def run() -> tuple[Outcome, list[str]]:
        async with open_store(MEMORY) as store, Engine(store, app) as engine:
            found = await done(engine, deliveries)
            return found, [(await engine.explain(event.delivery, tenant=tenant)).text for tenant, event in deliveries]

    with Ledger(tmp_path_factory.mktemp("calm") / "effects.db") as opened, in_world(opened):
        found, texts = asyncio.run(run())
        return Calm(deliveries, found, texts, opened.effects())


def test_every_webhook_of_the_recording_has_an_end_that_explain_shows(calm: Calm) -> None:
    fates = calm.outcome.fates

    assert (len(calm.deliveries), len({event.name for _, event in calm.deliveries})) == (329, 58)
    assert len(fates) == len({event.delivery for _, event in calm.deliveries}) == 324, "five are in the file twice"
    assert Counter(fate.outcome for fate in fates) == {"handled": 294, "parked": 26, "dead": 4}
    assert {fate.event for fate in fates if fate.outcome == "dead"} == {"security_advisory"}
    ends = (
        "has handled it",
        "was copied to 1 processes",
        "nobody is at 'tag commit:",
        "nobody was at 'key unclaimed:security_advisory' in time",
    )
    assert all(any(end in text for end in ends) for text in calm.texts)


def test_each_handling_has_recorded_steps_with_one_effect_each_and_a_sealed_reply(calm: Calm) -> None:
    handled = [deed for deed in calm.outcome.deeds if not deed.origin.startswith("tally ")]

    assert all(len(deed.steps) == 2 and deed.reply not in (None, "null") for deed in handled)
    assert {effect.key for effect in calm.effects} == set(calm.outcome.recorded)
    assert {effect.attempts for effect in calm.effects} == {1}
    assert {recorded.times for recorded in calm.outcome.recorded.values()} == {1}


async def test_neither_the_order_nor_duplicates_change_the_outcome(calm: Calm, ledger: Ledger) -> None:
    arriving = disturbed(read(WEBHOOKS), duplicates=1.0, shuffle=7)

    assert (await outcome([routed(*hook) for hook in arriving])).lines() == calm.outcome.lines()


def check_run(sha: str = SHA) -> Delivery:
    payload = {"action": "completed", "check_run": {"head_sha": sha, "name": "build", "conclusion": "success"}, "repository": repository()}
    return routed("check_run", payload)


def pull_request(number: int) -> Delivery:
    content = {"number": number, "title": "Fix", "state": "open", "head": {"sha": SHA}}
    return routed("pull_request", {"action": "opened", "pull_request": content, "repository": repository()})


def repository() -> dict[str, Any]:
    return {"full_name": "acme/app", "owner": {"login": "acme"}}


async def test_a_check_that_precedes_its_pull_request_is_kept_for_it(ledger: Ledger) -> None:
    async with open_store(MEMORY) as store, Engine(store, app) as engine:
        before = await done(engine, [check_run()])
        after = await done(engine, [pull_request(1), check_run()])

    assert [fate.outcome for fate in before.fates] == ["parked"]
    [state] = [state for state in after.states if state.process_type == "PullRequest"]
    assert [check["state"] for check in state.fields["checks"].values()] == ["success"]
    assert state.fields["counts"] == {"check_run.completed": 1, "pull_request.opened": 1}


async def test_a_check_reaches_every_pull_request_of_its_commit(ledger: Ledger) -> None:
    async with open_store(MEMORY) as store, Engine(store, app) as engine:
        await done(engine, [pull_request(1), pull_request(2)])
        found = await done(engine, [check_run()])

    assert sorted(deed.subject for deed in found.deeds if deed.origin == check_run().event.delivery) == [
        "pull-request:acme/app#1",
        "pull-request:acme/app#2",
    ]


async def test_a_check_that_nobody_came_for_is_a_dead_letter_with_its_reason(ledger: Ledger) -> None:
    clock = VirtualClock()
    check = check_run()
    async with open_store(MEMORY, clock=clock) as store, Engine(store, app) as engine:
        await done(engine, [check])
        clock.advance((KEEP_CHECKS_FOR + timedelta(seconds=1)) // timedelta(microseconds=1))
        await settled(store, [check.tenant])
        explanation = await engine.explain(check.event.delivery, tenant=check.tenant)
        [letter] = await inspection.dead_letters(store, tenant=check.tenant)

    assert explanation.text == f"it is a dead letter: expired: nobody was at 'tag commit:{SHA}' in time"
    assert letter.payload["payload"]["check_run"]["name"] == "build", "a dead letter keeps everything"


async def test_whatever_a_file_holds_is_accounted_for(ledger: Ledger) -> None:
    odd: list[dict[str, Any]] = [
        {},
        {"repository": "acme/app"},
        {"repository": {"full_name": "a\nb", "owner": {"login": "no tenant"}}},
        {"repository": {"full_name": "x" * 300}, "sender": {"login": "somebody"}},
        {"repository": repository(), "issue": {"number": True}},
        {"repository": repository(), "issue": {"number": 10**30}},
        {"repository": repository(), "issue": {"number": 1, "labels": [1, {"name": 2}], "title": None, "state": 7}, "comment": "no"},
        {"repository": repository(), "pull_request": {"number": 1, "head": "?", "additions": "many", "updated_at": "9999-99"}},
        {"organization": {"login": "ünï"}, "action": 5},
    ]
    deliveries = [routed(name, payload) for name in ("issues", "check_run", "made_up") for payload in odd]
    deliveries.append(routed("control\x1bname", {}))
    deliveries.append(routed("too_large", {"repository": repository(), "text": "x" * 2_000_000}))

    found = await outcome(deliveries)

    outcomes = Counter(fate.outcome for fate in found.fates)
    assert sum(outcomes.values()) == len(deliveries)
    assert outcomes["refused"] == 2
    assert not outcomes["failed"]
    assert all(fate.text for fate in found.fates)


async def test_repeated_webhooks_are_independent_of_one_another(ledger: Ledger) -> None:
    webhooks = [hook for hook in read(WEBHOOKS) if hook.name in {"check_run", "pull_request", "security_advisory", "team"}]

    found = await outcome([routed(*hook) for hook in repeated(webhooks, 3)])

    once = Counter(fate.outcome for fate in (await outcome([routed(*hook) for hook in webhooks])).fates)
    assert Counter(fate.outcome for fate in found.fates) == {name: 3 * count for name, count in once.items()}


def test_a_killed_job_goes_on_and_comes_to_the_same_end(calm: Calm, tmp_path: Path) -> None:
    deliveries = [routed(*hook) for hook in disturbed(read(WEBHOOKS), duplicates=0.3, shuffle=5)]
    place = crash.Place(tmp_path)

    killed = crash.killed(place, ["--duplicates", "0.3", "--shuffle", "5"], after=123)
    left = crash.remains(place, deliveries)
    report = crash.finished(place, deliveries)

    assert killed.at_work
    assert killed.accepted <= left.messages
    assert len(left.messages) <= report.total.webhooks == 324
    assert crash.ran_again(place, left) == 0
    assert report.unrecorded_effects == 0
    assert report.outcome.lines() == calm.outcome.lines()


@pytest.mark.parametrize("kind", DURABLE)
def test_the_demonstration_comes_to_the_same_end_on_every_database(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = demo_url(kind, request)
    hooks = read(WEBHOOKS)[:60]
    recording = gz(tmp_path / "few.gz", json.dumps([{"name": hook.name, "examples": [hook.payload]} for hook in hooks]).encode())

    status = demo.main(["--seed", "7", "--input", recording, *url])

    out = capsys.readouterr().out
    assert status == 0, out
    assert "EQUAL: 0 accepted messages lost" in out
    assert "NOT EQUAL" not in out


def demo_url(kind: str, request: pytest.FixtureRequest) -> list[str]:
    return [] if kind == "file" else ["--store", f"{request.getfixturevalue('postgres_url')}?schema={{name}}"]


async def test_the_comparison_finds_one_webhook_too_many(ledger: Ledger) -> None:
    first, second = pull_request(1), routed("star", {"action": "created", "repository": repository()})

    fewer, more = await outcome([first]), await outcome([first, second])

    assert fewer.digest() != more.digest()
    assert len(set(more.lines()) - set(fewer.lines())) == 3, "the webhook, its handling, and the repository's fields"


def gz(path: Path, content: bytes) -> str:
    path.write_bytes(gzip.compress(content))
    return str(path)


def test_bad_input_is_refused_in_one_line_and_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.json").write_text("[]")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(WEBHOOKS.read_bytes()[:5000])
    wrong: dict[str, list[str]] = {
        "cannot be read": ["--input", str(tmp_path / "missing.gz")],
        "expected a gzip file": ["--input", str(tmp_path / "plain.json")],
        "Compressed file ended": ["--input", str(cut)],
        "expected JSON": ["--input", gz(tmp_path / "text.gz", b"hello")],
        "Expected `array`": ["--input", gz(tmp_path / "object.gz", b'{"name": "issues"}')],
        "missing required field `examples`": ["--input", gz(tmp_path / "shape.gz", b'[{"name": "issues"}]')],
        "Expected `object`": ["--input", gz(tmp_path / "payload.gz", b'[{"name": "issues", "examples": [1]}]')],
        "expected sqlite:///": ["--store", "mysql://localhost/bot"],
        "three slashes": ["--store", "sqlite://bot.db"],
        "unable to open database file": ["--ledger", str(tmp_path / "no" / "such" / "folder.db")],
        "found '1.5'": ["--duplicates", "1.5"],
        "found '-0.1'": ["--duplicates=-0.1"],
        "found 'nan'": ["--duplicates", "nan"],
        "found 'many'": ["--duplicates", "many"],
        "found '0'": ["--repeat", "0"],
        "invalid int value: 'x'": ["--shuffle", "x"],
        "unrecognized arguments: --no-such": ["--no-such"],
    }
    made = [tmp_path / "store.db", tmp_path / "effects.db"]
    for text, options in wrong.items():
        status = exit_status(["--store", f"sqlite:///{made[0]}", "--ledger", str(made[1]), *options])

        printed = capsys.readouterr()
        assert (status, printed.out, printed.err.count("\n")) == (2, "", 1), printed.err
        assert printed.err.startswith("github_bot: ")
        assert text in printed.err
        assert not any(path.exists() for path in made)


def exit_status(arguments: list[str]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as left:
        return int(str(left.code))


def test_a_store_that_is_none_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store.db").write_text("not a database, but long enough to be taken for one" * 100)

    assert cli.main(["--store", f"sqlite:///{tmp_path / 'store.db'}", "--ledger", str(tmp_path / "effects.db")]) == 2

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "store.db" in error


def test_the_report_is_a_table_for_people_and_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = gz(tmp_path / "few.gz", json.dumps([{"name": hook.name, "examples": [hook.payload] * 2} for hook in few()]).encode())
    options = ["--store", f"sqlite:///{tmp_path / 'store.db'}", "--ledger", str(tmp_path / "effects.db"), "--input", recording]

    statuses = [cli.main(options), cli.main([*options, "--json"])]

    table, _, rest = capsys.readouterr().out.partition("\n{")
    report = json.loads("{" + rest)
    assert statuses == [0, 0]
    assert "8 webhooks delivered, 4 of them recognised as duplicates" in table
    assert "dead: it is a dead letter: expired" in table
    assert (report["delivered"], report["total"]["duplicates"], report["total"]["steps"]) == (8, 8, 4)
    assert {(fate["event"], fate["outcome"]) for fate in report["webhooks"]} == {
        ("pull_request", "handled"),
        ("star", "handled"),
        ("check_run", "parked"),
        ("security_advisory", "dead"),
    }


def few() -> list[Webhook]:
    return [
        Webhook("pull_request", pull_request(1).event.payload),
        Webhook("star", {"action": "created", "repository": repository()}),
        Webhook("check_run", check_run("0" * 39 + "1").event.payload),
        Webhook("security_advisory", {"action": "published"}),
    ]
