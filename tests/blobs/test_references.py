"""Commands refer to blobs, and who removes the last reference removes the blob. Source: commands.md, "Payloads"; the research, 5.7."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import App, Blob, Engine, Process, Retention, Store, VirtualClock, limits
from perdure.commands.contract import Failed, Lease, Succeeded
from perdure.commands.states import CommandState
from perdure.errors import BlobNotFound, CommandFailed, CommandNotFound, IllegalTransition, PayloadInvalid, StaleLease
from tests.blobs.bytes import HOUR, noise, put, rows, whole
from tests.blobs.serving import HERE, asking, served

NONE = Blob(sha256="0" * 64, size=1)
KEEP = Retention(commands=timedelta(days=1))
YEAR = 365 * 24 * HOUR


async def leased(store: Store) -> Lease:
    [lease] = await store.commands.lease("acme")
    return lease


async def test_params_that_are_a_blob_have_to_be_there(store: Store) -> None:
    with pytest.raises(BlobNotFound):
        await store.commands.create_command("acme", "work", params=NONE)
    made = await store.commands.create_command("acme", "work", CommandState.PENDING_UPLOAD)
    with pytest.raises(BlobNotFound):
        await store.commands.set_params(made.command_id, NONE)

    status = await store.commands.get_command_status(made.command_id)
    assert status is not None
    assert status.state == CommandState.PENDING_UPLOAD
    assert len((await store.commands.list_commands()).commands) == 1


async def test_a_result_that_is_a_blob_has_to_be_there(store: Store) -> None:
    await store.commands.create_command("acme", "work")
    lease = await leased(store)
    with pytest.raises(BlobNotFound):
        await store.commands.complete(lease.command_id, lease.token, Succeeded(result=NONE))
    blob = await put(store, noise(10))

    assert await store.commands.complete(lease.command_id, lease.token, Succeeded(result=blob))
    assert await store.commands.complete(lease.command_id, lease.token, Succeeded(result=blob))
    assert await store.commands.get_result(lease.command_id) == blob
    assert await rows(store) == {"blob": 1, "blob_part": 1, "blob_reference": 1}


async def test_a_blob_of_another_tenant_or_size_is_not_there(store: Store) -> None:
    blob = await put(store, noise(10), tenant="other")
    with pytest.raises(BlobNotFound):
        await store.commands.create_command("acme", "work", params=blob)
    with pytest.raises(BlobNotFound):
        await store.commands.create_command("acme", "work", tenant_id="other", params=Blob(sha256=blob.sha256, size=11))


async def test_params_come_once_and_the_same_ones_again_change_nothing(store: Store) -> None:
    first, second = await put(store, b"1"), await put(store, b"2")
    made = await store.commands.create_command("acme", "work", CommandState.PENDING_UPLOAD)
    for _ in range(2):
        await store.commands.set_params(made.command_id, first)
    with pytest.raises(IllegalTransition):
        await store.commands.set_params(made.command_id, second)

    assert (await leased(store)).params == first
    assert (await rows(store))["blob_reference"] == 1


async def test_what_is_referred_to_stays_until_the_last_reference_goes(store: Store, clock: VirtualClock) -> None:
    commands, blob = store.commands, await put(store, noise(10))
    first = (await commands.create_command("acme", "work", params=blob)).command_id
    lease = await leased(store)
    await commands.complete(first, lease.token, Succeeded(result=blob))
    clock.advance(20 * HOUR)
    second = (await commands.create_command("acme", "work", params=blob)).command_id
    await commands.cancel(second)
    async with Engine(store, App("none"), retention=KEEP) as engine:
        clock.advance(4 * HOUR)
        await engine.sweep()
        await store.blobs.sweep(clock.now())
        assert await commands.get_command_status(first) is None
        assert await rows(store) == {"blob": 1, "blob_part": 1, "blob_reference": 1}
        clock.advance(20 * HOUR)
        await engine.sweep()
        await store.blobs.sweep(clock.now())

    assert await commands.get_command_status(second) is None
    assert await rows(store) == {}


async def test_section_1_5_12_large_params_and_a_large_result_are_there_a_year_later(store: Store, clock: VirtualClock) -> None:
    """Links to both ended after an hour, with which the params of what had waited so long were gone. V15; section 5.7."""
    params, result = noise(limits.BLOB_PART + 1), noise(limits.BLOB_PART + 1, seed=2)
    made = (await store.commands.create_command("acme", "work", params=await put(store, params))).command_id
    clock.advance(YEAR)
    await store.blobs.sweep(clock.now())
    lease = await leased(store)
    assert isinstance(lease.params, Blob)
    assert await whole(store.blobs.open("default", lease.params.sha256)) == params

    assert await store.commands.complete(made, lease.token, Succeeded(result=await put(store, result)))
    clock.advance(YEAR)
    await store.blobs.sweep(clock.now())

    found = await store.commands.get_result(made)
    assert isinstance(found, Blob)
    assert await whole(store.blobs.open("default", found.sha256)) == result
    async with served(store) as server, asking(server) as session:
        for below, data in (("params", params), ("result", result)):
            async with session.get(f"{HERE}/commands/{made}/{below}") as answer:
                assert (answer.status, await answer.read()) == (200, data)


async def test_a_command_that_is_driven_again_refers_to_the_same_params(store: Store) -> None:
    blob = await put(store, noise(10))
    made = (await store.commands.create_command("acme", "work", params=blob)).command_id
    lease = await leased(store)
    await store.commands.complete(made, lease.token, Failed(code="broken"))
    await store.commands.redrive(made)

    assert (await leased(store)).params == blob
    assert (await rows(store))["blob_reference"] == 2


async def test_a_lease_is_looked_at_without_taking_it(store: Store) -> None:
    made = (await store.commands.create_command("acme", "work")).command_id
    with pytest.raises(StaleLease):
        await store.commands.check_lease(made, 1)
    lease = await leased(store)
    await store.commands.check_lease(made, lease.token)
    with pytest.raises(StaleLease):
        await store.commands.check_lease(made, lease.token - 1)
    with pytest.raises(CommandNotFound):
        await store.commands.check_lease("cmd_none", 1)


async def test_an_engine_removes_what_is_not_used(store: Store, clock: VirtualClock) -> None:
    await put(store, noise(10))
    async with Engine(store, App("none")):
        with store.access.signals.listen("blobs-due") as listener:
            clock.advance(HOUR)
            await listener.wait(None)  # the blob is gone, and its parts are due
        while await rows(store):  # noqa: ASYNC110  # nothing tells that the sweep has ended
            await asyncio.sleep(0)


# --- processes ------------------------------------------------------------------------------------------

app = App("prints")
EITHER: Any = dict[str, str] | Blob


@app.process
async def either(p: Process, text: str) -> str:
    found = await p.command("acme", "work", text, result=EITHER)
    return f"{type(found).__name__} {found.size if isinstance(found, Blob) else found}"


@app.process
async def anything(p: Process, text: str) -> str:
    return type(await p.command("acme", "work", text)).__name__


@app.process
async def inline(p: Process, text: str) -> str:
    try:
        await p.command("acme", "work", text, result=dict[str, str])
    except PayloadInvalid as error:
        return str(error)
    return "inline"


@app.process
async def sending(p: Process, sha256: str) -> str:
    try:
        return str(await p.command("acme", "work", Blob(sha256=sha256, size=10), result=str))
    except CommandFailed as error:
        return error.error_code


@pytest.mark.parametrize(
    ("which", "told"),
    [(either, "Blob 10"), (anything, "Blob"), (inline, "not a dict: the result is kept apart; ask for result=perdure.Blob")],
)
async def test_a_process_gets_a_result_that_is_kept_apart_as_a_blob(store: Store, which: Any, told: str) -> None:
    blob = await put(store, noise(10))
    async with Engine(store, app) as engine:
        call = asyncio.ensure_future(engine.call(which, "1", id="1"))
        [lease] = await store.commands.lease("acme", wait=30_000_000)
        await store.commands.complete(lease.command_id, lease.token, Succeeded(result=blob))
        assert await call == told


async def test_a_result_that_says_that_it_is_kept_apart_is_not(store: Store) -> None:
    forged = b'{"perdure.Blob":"x"}'
    async with Engine(store, app) as engine:
        call = asyncio.ensure_future(engine.call(either, "1", id="1"))
        [lease] = await store.commands.lease("acme", wait=30_000_000)
        await store.commands.complete(lease.command_id, lease.token, Succeeded(result=forged))
        assert await call == "dict {'perdure.Blob': 'x'}"


async def test_a_process_sends_a_blob_and_hears_when_it_is_not_there(store: Store) -> None:
    data = noise(10)
    async with Engine(store, app) as engine:
        assert await engine.call(sending, "0" * 64, id="none") == "blob-not-found"
        blob = await put(store, data)
        call = asyncio.ensure_future(engine.call(sending, blob.sha256, id="one"))
        [lease] = await store.commands.lease("acme", wait=30_000_000)
        assert isinstance(lease.params, Blob)
        assert await whole(store.blobs.open("default", lease.params.sha256)) == data
        await store.commands.complete(lease.command_id, lease.token, Succeeded(result=b'"done"'))
        assert await call == "done"
    assert (await rows(store))["blob_reference"] == 1
