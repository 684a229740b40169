"""The flows of the research, for commands that are sent: small and large params and results, the same bytes at the far end.

Source: the research on commands, its eight flows, of which these are those that are pushed; docs/push.md, "Receiving".
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp
import msgspec

from perdure import App, Engine
from perdure.client.client import Client
from perdure.protocol.push import PushedCommand
from perdure.server.serving import serving
from perdure.tokens.contract import Grant
from tests.blobs.bytes import noise, pieces, rows, sha256
from tests.blobs.serving import HERE
from tests.blobs.test_flows import LARGE, SIZES
from tests.contracts.commands import DISPATCHED, SUCCEEDED, check
from tests.push.desk import LOOPBACK, Desk, commands_at
from tests.push.test_outcomes import ACCEPTED, JSON
from tests.sending.site import Site, answer


class Receiver:
    """Fetches large params and uploads large results, with a token of its own."""

    def __init__(self, session: aiohttp.ClientSession, command: PushedCommand) -> None:
        self._session = session
        self._command = command
        self._path = f"{HERE}/commands/{command.command_id}"

    async def params(self) -> bytes:
        ref = self._command.params_blob
        if ref is None:
            return base64.b64decode(msgspec.json.decode(self._command.params), validate=True)
        assert bytes(self._command.params) == b"null"
        async with self._session.get(f"{self._path}/params") as got:
            data = await got.read()
        assert (got.status, ref.sha256, ref.size) == (200, sha256(data), len(data))
        return data

    async def outcome(self, result: bytes) -> dict[str, Any]:
        if len(result) < LARGE:
            return {"status": "succeeded", "result": base64.b64encode(result).decode()}
        async with self._session.put(f"{self._path}/result?token={self._command.token}", data=pieces(result)) as put:
            assert put.status == 200, await put.text()
        return {"status": "succeeded", "result_blob": {"sha256": sha256(result), "size": len(result)}}

    async def complete(self, outcome: dict[str, Any]) -> None:
        async with self._session.post(f"{self._path}/complete", json={"token": self._command.token, "outcome": outcome}) as told:
            assert (await told.json())["counted"]


async def flow(desk: Desk, *, sent: int, returned: int, later: bool) -> None:
    params, result = noise(sent), noise(returned, seed=2)
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    sender, worker = [
        (await desk.store.tokens.create("t", [Grant.parse(grant)], tenant="default")).text
        for grant in ("command:send", "command:work=site")
    ]
    async with (
        Site(hold) as site,
        Engine(desk.store, App("desk"), push_allowed=LOOPBACK) as engine,
        serving(engine) as server,
        Client(server.url, token=sender) as client,
        aiohttp.ClientSession(base_url=server.url, headers={"authorization": f"Bearer {worker}"}) as session,
    ):
        await desk.store.push.put("site", site.url())
        calling = asyncio.ensure_future(client.command("site", "work", params, result=bytes))
        await desk.until(lambda: held)
        [command] = commands_at(site)
        given_out = ("created", *["uploaded"] * (sent == LARGE), "leased")
        assert (await desk.comes_to(command.command_id, *given_out)).state == DISPATCHED

        receiver = Receiver(session, command)
        assert await receiver.params() == params
        outcome = await receiver.outcome(result)
        held[0].write(ACCEPTED if later else answer("200 OK", JSON, body=msgspec.json.encode(outcome)))
        held[0].close()
        if later:
            assert (await desk.comes_to(command.command_id, *given_out, "sent")).state == DISPATCHED
            await receiver.complete(outcome)
        assert await calling == result
        assert (await desk.comes_to(command.command_id, *given_out, "sent", "succeeded")).state == SUCCEEDED
        await check(desk.store)

    assert (await rows(desk.store)).get("blob_reference", 0) == [sent, returned].count(LARGE)


@SIZES
async def test_bytes_are_identical_at_the_far_end(desk: Desk, sent: int, returned: int) -> None:
    await flow(desk, sent=sent, returned=returned, later=False)


@SIZES
async def test_bytes_are_identical_at_the_far_end_when_the_result_comes_later(lone: Desk, sent: int, returned: int) -> None:
    await flow(lone, sent=sent, returned=returned, later=True)
