"""The flows of the research: small and large params, small and large results, the same bytes at the far end.

Source: the research on commands, 5.7, and its eight flows, S2, V15, C9, C14, C16.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure import CommandRetry, Store, limits
from perdure.blobs.tables import BLOB, PART
from perdure.client.client import Client
from perdure.client.connection import _Refusal
from perdure.client.sync import SyncClient
from perdure.commands.contract import Succeeded
from perdure.commands.states import CommandState
from perdure.core.table import Key
from perdure.core.view import View
from perdure.errors import BlobMismatch, BlobNotFound, CommandFailed, CommandNotFound, IllegalTransition, PayloadTooLarge, ServerUnreachable
from perdure.protocol.commands import BlobRef
from perdure.uploads import PartRow
from perdure.worker.context import CommandContext
from perdure.worker.worker import Worker
from tests.blobs.bytes import noise, pieces, put, rows, sha256, whole
from tests.blobs.serving import served, working

SMALL, LARGE = 160_000, 3 * limits.MIB
SIZES = pytest.mark.parametrize(("sent", "returned"), [(one, other) for one in (SMALL, LARGE) for other in (SMALL, LARGE)])


class Text(msgspec.Struct):
    text: str


class Lose(msgspec.Struct):
    """Remove a row, which nothing else would."""

    key: Key[Any]

    def reads(self) -> tuple[Key[Any]]:
        return (self.key,)

    def decide(self, view: View) -> None:
        assert view.get(self.key) is not None
        view.delete(self.key)


class Forge(Lose):
    """Put another row in its place, which nothing would."""

    row: PartRow

    def decide(self, view: View) -> None:
        view.insert(self.key, self.row)


@SIZES
async def test_bytes_are_identical_at_the_far_end(store: Store, sent: int, returned: int) -> None:
    params, result, got = noise(sent), noise(returned, seed=2), []
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")

        @worker.command("work")
        async def work(context: CommandContext, params: bytes) -> bytes:
            status = await store.commands.get_command_status(context.command_id)
            got.append((params, None if status is None else status.state))
            return result

        async with working(worker):
            assert await client.command("acme", "work", params, result=bytes) == result
        [command] = (await store.commands.list_commands()).commands

    assert got == [(params, CommandState.DISPATCHED)]
    assert command.state == CommandState.SUCCEEDED
    history = [event.kind for event in await store.commands.history(command.command_id)]
    assert history == ["created", *["uploaded"] * (sent == LARGE), "leased", "succeeded"]
    assert (await rows(store)).get("blob_reference", 0) == [sent, returned].count(LARGE)


@SIZES
async def test_json_is_the_same_at_the_far_end(store: Store, sent: int, returned: int) -> None:
    params, result, got = Text("\N{SNOWMAN}" * (sent // 3)), Text("r" * returned), []
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")

        @worker.command("work")
        def work(context: CommandContext, params: Text) -> Text:
            got.append(params)
            return result

        async with working(worker):
            view = await client.wait_command((await client.send_command("acme", "work", params)).command_id)
            raw = await whole(client.download_result(view.command_id))
            assert await client.command("acme", "work", params, result=Text) == result

    assert got == [params, params]
    assert msgspec.json.decode(raw, type=Text) == result


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_handler_of_bytes_gets_the_json_that_was_sent(store: Store, size: int) -> None:
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")

        @worker.command("work")
        async def work(context: CommandContext, params: bytes) -> str:
            return sha256(params)

        async with working(worker):
            params = Text("t" * size)
            assert await client.command("acme", "work", params, result=str) == sha256(msgspec.json.encode(params))


async def test_a_large_result_is_downloaded_only_for_a_type(store: Store) -> None:
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")

        @worker.command("work")
        async def work(context: CommandContext) -> bytes:
            return noise(LARGE)

        async with working(worker):
            ref = await client.command("acme", "work")
    assert ref == BlobRef(sha256=sha256(noise(LARGE)), size=LARGE)


async def test_the_same_key_is_the_same_command_with_the_same_params(store: Store) -> None:
    async with served(store) as server, Client(server.url) as client:
        first = await client.send_command("acme", "work", noise(LARGE), key="k")
        again = await client.send_command("acme", "work", noise(LARGE), key="k")
        with pytest.raises(IllegalTransition):
            await client.send_command("acme", "work", noise(LARGE, seed=2), key="k")

    assert (first.state, again.command_id) == ("PENDING", first.command_id)


async def test_a_result_is_uploaded_once_however_often_completing_is_repeated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """C16."""
    sent: list[str] = []
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")
        begin = worker.connection._begin

        async def flaky(request: Any, token: str | None) -> Any:
            what = f"{request.method} {request.path.rpartition('/')[2]}"
            sent.append(what)
            answer = await begin(request, token)
            if sent.count(what) == 1 and what in {"PUT result", "POST complete"}:  # the server has done it, and nobody heard
                answer.close()
                raise _Refusal(ServerUnreachable("lost"), status=0, repeat=True)
            return answer

        monkeypatch.setattr(worker.connection, "_begin", flaky)

        @worker.command("work")
        async def work(context: CommandContext) -> bytes:
            return noise(LARGE)

        async with working(worker):
            assert await client.command("acme", "work", result=bytes) == noise(LARGE)

    assert (sent.count("PUT result"), sent.count("POST complete")) == (2, 2)
    assert (await rows(store))["blob"] == 1


async def test_params_that_cannot_be_downloaded_are_worth_another_attempt_and_no_handler_sees_them(store: Store) -> None:
    blob = await put(store, noise(LARGE))
    once = CommandRetry(max_attempts=1)
    made = await store.commands.create_command("acme", "work", params=blob, retry=once)
    async with served(store) as server, Client(server.url) as client:
        worker, ran = Worker(server.url, deployment="acme"), []

        @worker.command("work")
        async def work(context: CommandContext, params: bytes) -> None:
            ran.append(1)

        await store.access.writer.run(Lose(BLOB.key("default", blob.sha256)))
        async with working(worker):
            view = await client.wait_command(made.command_id)

    assert ran == []
    assert view.error is not None
    assert (view.state, view.error.code) == ("FAILED", "params-unavailable")


@pytest.mark.parametrize("name", ["text", "anything"])
@pytest.mark.parametrize(
    "data",
    [b"{" * LARGE, b"[" * LARGE, b'{"text":"' + b"t" * LARGE, b'{"text":"' + b"\xff" * LARGE + b'"}', b"\n" * LARGE],
    ids=["braces", "brackets", "cut", "no-text", "nothing"],
)
async def test_c18_params_that_are_said_to_be_json_and_are_none_fail_the_command(store: Store, data: bytes, name: str) -> None:
    blob = await store.blobs.put("default", pieces(data), content_type="application/json")
    made = await store.commands.create_command("acme", name, params=blob, retry=CommandRetry(max_attempts=1))
    async with served(store) as server, Client(server.url) as client:
        worker, ran = Worker(server.url, deployment="acme"), list[object]()

        @worker.command("text")
        async def text(context: CommandContext, params: Text) -> None:
            ran.append(params)

        @worker.command("anything")
        async def anything(context: CommandContext, params: object) -> None:
            ran.append(params)

        async with working(worker):
            view = await client.wait_command(made.command_id)

    assert (view.state, view.dead, ran) == ("FAILED", False, []), "another attempt is of no use"
    assert view.error is not None
    assert view.error.code == "params-invalid"


async def test_what_is_too_large_is_not_sent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme")

        @worker.command("work")
        async def work(context: CommandContext) -> bytes:
            return noise(LARGE + 1)

        monkeypatch.setattr(limits, "BLOB_MAX", LARGE)
        with pytest.raises(PayloadTooLarge):
            await client.send_command("acme", "work", noise(LARGE + 1))
        async with working(worker):
            with pytest.raises(CommandFailed, match="result-too-large"):
                await client.command("acme", "work", result=bytes)
    assert await rows(store) == {}


async def test_there_is_nothing_to_download_before_the_end(store: Store) -> None:
    async with served(store) as server, Client(server.url) as client:
        with pytest.raises(CommandNotFound):
            await whole(client.download_result("cmd_none"))
        sent = await client.send_command("acme", "work")
        with pytest.raises(BlobNotFound):
            await whole(client.download_result(sent.command_id))


async def test_a_client_without_a_loop_downloads_too(store: Store) -> None:
    await store.commands.create_command("acme", "work")
    [lease] = await store.commands.lease("acme")
    await store.commands.complete(lease.command_id, lease.token, Succeeded(result=await put(store, noise(LARGE))))

    def download(url: str) -> bytes:
        with SyncClient(url) as client:
            return b"".join(client.download_result(lease.command_id))

    async with served(store) as server:
        assert await asyncio.to_thread(download, server.url) == noise(LARGE)


async def test_other_bytes_than_the_server_has_are_refused(store: Store) -> None:
    """They are as many, and others."""
    await store.commands.create_command("acme", "work")
    [lease] = await store.commands.lease("acme")
    blob = await put(store, noise(LARGE))
    await store.commands.complete(lease.command_id, lease.token, Succeeded(result=blob))
    row = await store.access.reader.get(BLOB.key("default", blob.sha256))
    assert row is not None
    key = PART.key("default", row.upload_id, 0)
    await store.access.writer.run(Lose(key))
    await store.access.writer.run(Forge(key, PartRow(bytes(limits.BLOB_PART))))

    async with served(store) as server, Client(server.url) as client:
        with pytest.raises(BlobMismatch):
            await whole(client.download_result(lease.command_id))
        path = client._path("commands", lease.command_id, "result")
        with pytest.raises(BlobMismatch):
            await client._connection.fetch(path, sha256=blob.sha256, size=blob.size)
