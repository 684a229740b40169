"""Contract 5: a put that is cut at any point leaves all of it or nothing. Research on packages, 1.5 and appendix A, "Atomicity"."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure import Store, VirtualClock, limits, open_store
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.core.database import Database
from perdure.errors import LeaseLost, OutcomeUnknown, PerdureError, StoreFull, StoreUnavailable
from perdure.store import _open
from tests.contracts.packages import DAY, HOUR_US, V1, V2, check, noise, put, record, rows, swept
from tests.crash.test_every_call import CALLS, Failing
from tests.sqlite.disk import Call, Disk, coin, io_error, no_room
from tests.stores import DURABLE, Stores, store_url, stores

OLD = record(V1, archive=b"old")
NEW = record(V2, archive=noise(2 * limits.PACKAGE_PART + 7), after=DAY)
TYPES = ["order", "invoice", "refund"]
STEP = {"file": 1, "postgres": 3}
"""Of a server, each third call fails: a run takes some five times as long."""


class Seen(NamedTuple):
    """What there is to see of two versions."""

    archives: list[tuple[str, bytes]]
    routes: dict[str, str]
    logged: int


async def seen(store: Store) -> Seen:
    listed = [(one.content_hash, one.archive) for one in await store.packages.list_packages()]
    routes = {route.workflow_type: route.content_hash for route in await store.packages.list_package_routes()}
    return Seen(listed, routes, (await rows(store)).get("package_log", 0))


BEFORE = Seen([(V1, OLD.archive)], {"order": V1, "invoice": V1}, 2)
AFTER = Seen([(V1, OLD.archive), (V2, NEW.archive)], dict.fromkeys(TYPES, V2), 5)


async def before(store: Store) -> None:
    await store.packages.put_package_with_routes(OLD, TYPES[:2])


async def deploy(store: Store) -> None:
    await store.packages.put_package_with_routes(NEW, TYPES)


# --- each call of the writer ------------------------------------------------------------------------------------------------


async def _run(made: Stores, call: str, nth: int) -> tuple[bool, Seen]:
    """Let one call of the writer fail while a version is put; return whether there was one, and what is left."""
    clock, failed = VirtualClock(), False
    with made.new() as url:
        async with open_store(url, clock=clock) as store:
            await before(store)
        try:
            async with open_store(url, clock=clock) as store:
                store.access.writer._backend = Failing(call, nth, store.access.writer._backend)
                await deploy(store)
        except LeaseLost:
            raise
        except PerdureError:
            failed = True
        async with open_store(url, clock=clock) as store:
            left = await seen(store)
            await check(store)
            clock.advance(HOUR_US)
            assert (await swept(store))["package_part"] == 1 + 3 * (left == AFTER), "what was cut is gone"
            await deploy(store)
            assert (await seen(store))[:2] == AFTER[:2], "it can be put again"
            await check(store)
            assert (await swept(store))["package_part"] == 4
    return failed, left


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_whichever_call_fails_there_is_all_of_a_put_or_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, call: str
) -> None:
    made, found = stores(request, kind, tmp_path), []
    for nth in itertools.count(1, STEP[kind]):
        failed, left = await _run(made, call, nth)
        if not failed:
            break
        found.append(left)
    assert [left for left in found if left not in (BEFORE, AFTER)] == []
    assert len(found) >= 4 // STEP[kind]
    if call == "applied" and kind == "file":
        assert found == [BEFORE, BEFORE, BEFORE, AFTER], "three parts, then the one transaction"


# --- the disk -----------------------------------------------------------------------------------------------------------------------


def _on(path: Path, vfs: str = "") -> Callable[[], Any]:
    async def connect() -> Database:
        return await SqliteDatabase.open(str(path), clock=VirtualClock(), randomness=os.urandom, vfs=vfs)

    return connect


def written(files: dict[str, bytes], folder: Path) -> Path:
    """Write what a disk has into a folder, and return the path of the database."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "made.db"


async def _made(folder: Path) -> Path:
    async with open_store(f"sqlite:///{folder / 'made.db'}", clock=VirtualClock()) as store:
        await before(store)
    return folder / "made.db"


async def test_after_a_loss_of_power_at_any_call_there_is_all_of_a_put_or_nothing(tmp_path: Path) -> None:
    path, disk, kept = await _made(tmp_path), Disk(), list[dict[str, bytes]]()

    def keep(number: int, _call: Call) -> None:
        for chance in (lambda: False, coin(number)):
            files = disk.after_power_loss(chance)
            if files not in kept[-2:]:
                kept.append(files)

    store = await _open(_on(path, disk.called), os.urandom)
    disk.trouble = keep
    small = record(V2, archive=noise(9_000), after=DAY)
    await store.packages.put_package_with_routes(small, TYPES)
    acknowledged = len(kept)
    await store.close()

    whole = AFTER._replace(archives=[*BEFORE.archives, (V2, small.archive)])
    outcomes = []
    for number, files in enumerate(kept):
        async with open_store(f"sqlite:///{written(files, tmp_path / str(number))}", clock=VirtualClock()) as again:
            outcomes.append(await seen(again))
            await check(again)
    assert [number for number, found in enumerate(outcomes) if found not in (BEFORE, whole)] == []
    assert len(kept) > 20
    assert outcomes[0] == BEFORE
    assert outcomes[acknowledged:] == [whole] * (len(kept) - acknowledged), "what was acknowledged is there"


@pytest.mark.parametrize("call", [Call("write", "wal"), Call("sync", "wal")], ids=["write", "sync"])
async def test_a_disk_that_fails_leaves_all_of_a_put_or_nothing(tmp_path: Path, call: Call) -> None:
    path, disk = await _made(tmp_path), Disk()
    left = []
    for nth in range(5):
        copy = Path(shutil.copy(path, tmp_path / f"{nth}.db"))
        store = await _open(_on(copy, disk.called), os.urandom)
        calls = itertools.count()

        def trouble(_at: int, found: Call, calls: Any = calls, nth: int = nth) -> None:
            if found == call and next(calls) == nth:
                raise io_error(found)

        disk.trouble = trouble
        with contextlib.suppress(OutcomeUnknown, StoreUnavailable):
            await deploy(store)
        disk.heal()
        await store.close()
        async with open_store(f"sqlite:///{copy}", clock=VirtualClock()) as again:
            left.append(await seen(again))
            await check(again)
    assert [found for found in left if found not in (BEFORE, AFTER)] == []
    assert BEFORE in left


async def test_a_file_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    path, disk = await _made(tmp_path), Disk()
    store = await _open(_on(path, disk.called), os.urandom)
    disk.fail_at(0, no_room, forever=True)
    with pytest.raises(StoreFull):
        await put(store, NEW)
    disk.heal()
    assert await seen(store) == BEFORE
    await store.close()


# --- processes ---------------------------------------------------------------------------------------------------------------------


KEEPS_ON = """
import asyncio, sys
from perdure import open_store
from perdure.core.writer import Writer
from perdure.packages.writes import Put
from perdure.uploads import AddPart
from tests.contracts.test_package_store_crashes import deploy

stop_at, real = sys.argv[2], Writer.commit

async def commit(self, *writes, **options):
    if type(writes[0]).__name__ == stop_at and getattr(writes[0], "number", 2) == 2:
        print("there", flush=True)
        await asyncio.Event().wait()
    done = await real(self, *writes, **options)
    if stop_at == "after" and isinstance(writes[0], Put):
        print("there", flush=True)
        await asyncio.Event().wait()
    return done

async def main():
    Writer.commit = commit
    async with open_store(sys.argv[1]) as store:
        await deploy(store)

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["AddPart", "Put", "after"])
@pytest.mark.parametrize("kind", DURABLE)
async def test_a_process_that_is_killed_leaves_all_of_a_put_or_nothing(
    request: pytest.FixtureRequest, kind: str, where: str, tmp_path: Path
) -> None:
    url = store_url(request, kind, tmp_path)
    async with open_store(url) as store:
        await before(store)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KEEPS_ON, url, where, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    process.kill()
    await process.wait()

    async with open_store(url) as store:
        now = store.access.clock.now()
        assert await seen(store) == (AFTER if where == "after" else BEFORE)
        await check(store)
        assert await store.packages.sweep(now) == 0
        assert await store.packages.sweep(now + HOUR_US) == (where != "after")
        assert (await rows(store))["package_part"] == (4 if where == "after" else 1)
