"""The bot as a server: GitHub's own requests over HTTP, a kill in the middle, and the same end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from examples.github_bot import crash
from examples.github_bot.effects import Ledger
from examples.github_bot.events import by_tenant, routed
from examples.github_bot.job import settled
from examples.github_bot.outcome import Outcome, known, outcome_of
from examples.github_bot.recording import WEBHOOKS, Webhook, disturbed, read
from examples.github_bot.server import LEDGER_ENV, SECRET_ENV, SOURCE
from perdure import open_store
from tests.gate.tree import ROOT
from tests.server.running import Running, client, running

SECRET = "It's-a-secret-to-everybody"
SENDERS = 16
KILLED_AFTER = 150


class Sent(NamedTuple):
    """What GitHub has heard: how many webhooks were accepted, and how many of them before."""

    accepted: int
    duplicates: int


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, SECRET)
    monkeypatch.setenv(LEDGER_ENV, str(tmp_path / "effects.db"))


async def post(session: aiohttp.ClientSession, webhook: Webhook, number: int) -> tuple[int, dict[str, object]]:
    """Send a webhook as GitHub does."""
    body = json.dumps(webhook.payload).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": f"72d3162e-cc78-11e3-81ab-{number:012}",
        "X-GitHub-Event": webhook.name,
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    tenant, _ = routed(*webhook)
    async with session.post(f"/v1/tenants/{tenant}/webhooks/{SOURCE}", data=body, headers=headers) as response:
        return response.status, await response.json()


async def send(server: Running, webhooks: list[Webhook], *, kill_after: int | None = None) -> Sent:
    """Send webhooks, some at a time. Once so many were accepted, kill the server: the others are not sent."""
    arriving = iter(enumerate(webhooks))
    accepted = duplicates = 0

    async def sender(session: aiohttp.ClientSession) -> None:
        nonlocal accepted, duplicates
        for number, webhook in arriving:
            try:
                status, said = await post(session, webhook, number)
            except aiohttp.ClientError:
                assert accepted == kill_after, "it was killed"
                return
            if accepted == kill_after:
                return
            assert status == 202, said
            accepted += 1
            duplicates += said["duplicate"] is True
            if accepted == kill_after:
                server.kill()

    async with client(server) as session:
        await asyncio.gather(*(sender(session) for _ in range(SENDERS)))
    return Sent(accepted, duplicates)


async def end_of(store_url: str, webhooks: list[Webhook]) -> Outcome:
    """Return what has become of everything, once the server has nothing left to do."""
    tenants = by_tenant(routed(*webhook) for webhook in webhooks)
    async with open_store(store_url) as store:
        await settled(store, tenants)
        return await outcome_of(store, tenants, {}, source=SOURCE)


def undisturbed(folder: Path, webhooks: list[Webhook]) -> Outcome:
    """Return what the job makes of the same webhooks, without a server."""
    folder.mkdir()
    return crash.finished(crash.Place(folder), [routed(*webhook) for webhook in webhooks]).outcome


async def test_a_server_that_was_killed_comes_to_the_same_end_as_an_undisturbed_job(tmp_path: Path) -> None:
    recorded = read(WEBHOOKS)
    arriving = disturbed(recorded, duplicates=0.3, shuffle=11)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    calm = await asyncio.to_thread(undisturbed, tmp_path / "calm", recorded)

    async with running(tmp_path, store, app="examples.github_bot.server:app") as server:
        first = await send(server, arriving, kill_after=KILLED_AFTER)
    async with running(tmp_path, store, app="examples.github_bot.server:app") as server:
        async with open_store(store) as opened:
            tenants = by_tenant(routed(*webhook) for webhook in arriving)
            kept = await known(opened, tenants) & {(tenant, id) for tenant, ids in tenants.items() for id in ids}
        again = await send(server, arriving)
        outcome = await end_of(store, arriving)
        server.stop()
        assert await server.end() == (0, "")

    with Ledger(tmp_path / "effects.db") as ledger:
        effects = Counter(effect.attempts for effect in ledger.effects())
    assert first.accepted == KILLED_AFTER
    assert first.accepted - first.duplicates <= len(kept) < sum(map(len, tenants.values())), "it was killed in the middle"
    assert again.accepted == len(arriving)
    assert again.duplicates >= first.accepted
    assert outcome.lines() == calm.lines()
    assert sum(effects.values()) == len(outcome.recorded), "each effect has its record"
    assert max(effects) <= 2, "only what a kill cut off between effect and record ran again"


async def test_a_request_that_github_did_not_sign_is_refused(tmp_path: Path) -> None:
    webhook = read(WEBHOOKS)[0]
    headers = {"X-GitHub-Event": webhook.name, "X-Hub-Signature-256": "sha256=" + "0" * 64}
    async with (
        running(tmp_path, f"sqlite:///{tmp_path / 'store.db'}", app="examples.github_bot.server:app") as server,
        client(server) as session,
        session.post(f"/v1/tenants/acme/webhooks/{SOURCE}", json=webhook.payload, headers=headers) as response,
    ):
        status, said = response.status, await response.json()

    assert (status, said["code"]) == (401, "webhook-signature-wrong")


def test_the_readme_serves_this_app() -> None:
    text = (ROOT / "examples/github_bot/README.md").read_text()

    for named in ("perdure serve --app examples.github_bot.server:app", SECRET_ENV, LEDGER_ENV, f"/webhooks/{SOURCE}"):
        assert named in text
