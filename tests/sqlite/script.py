"""A script of transactions of every kind, each of which can be seen to be whole or absent afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import msgspec

from perdure.core.table import Scan
from perdure.core.view import View
from perdure.core.writer import Writer
from perdure.errors import OutcomeUnknown, PerdureError, RejectedError
from tests.core.shop import JOB, LETTER, LINE, OWNER, READY, Act, Job, Letter, Line, Owner
from tests.sqlite.shop import open_shop

TEXT = "x" * 1_500  # so that three of them need a page more


class Enter(Act, frozen=True):
    """Insert into three tables, of which one is a log, update a fourth, and count."""

    n: int

    def decide(self, view: View) -> int:
        if view.get(JOB.key(self.n)) is not None:
            raise RejectedError("entered before")
        assert view.get(LETTER.key("k", self.n)) is None
        view.insert(JOB.key(self.n), Job("q", "pending", 0, self.n, 0))
        view.insert(LETTER.key("k", self.n), Letter(None, view.tick()))
        view.insert(LINE.key(self.n), Line(TEXT))
        held = view.get(OWNER.key("k"))
        if held is None:
            view.insert(OWNER.key("k"), Owner(None, 1))
        else:
            view.update(OWNER.key("k"), Owner(None, held.parked + 1))
        view.count("jobs", 1)
        return self.n


class Leave(Act, frozen=True):
    """Find a row by a scan, delete it and another, update a third."""

    n: int

    def decide(self, view: View) -> int:
        found = view.scan(Scan(READY, ("q",), 1, after=(0, self.n - 1)))
        if not found or found[0][0] != JOB.key(self.n):
            raise RejectedError("not here")
        view.delete(JOB.key(self.n))
        assert view.get(LETTER.key("k", self.n)) is not None
        view.delete(LETTER.key("k", self.n))
        held = view.get(OWNER.key("k"))
        assert held is not None
        view.update(OWNER.key("k"), msgspec.structs.replace(held, parked=held.parked - 1))
        view.count("jobs", -1)
        return self.n


class Told(msgspec.Struct):
    """What the callers of the script were told."""

    done: set[Act] = msgspec.field(default_factory=set)
    refused: set[Act] = msgspec.field(default_factory=set)
    unknown: dict[Act, OutcomeUnknown] = msgspec.field(default_factory=dict)


ROUNDS: list[list[Act]] = [[Enter(1), Enter(2), Enter(3)], [Leave(2), Enter(4), Leave(9)], [Leave(1)]]
REJECTED = {Leave(9)}


def files_of(folder: Path) -> dict[str, bytes]:
    """The files as the system's cache has them, which is what a crash of the process alone leaves."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and not file.name.endswith("-shm")}


def put(files: dict[str, bytes], folder: Path) -> Path:
    """Write files into a new folder; returns the path of the shop in it."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "shop.db"


async def empty_shop(folder: Path) -> dict[str, bytes]:
    """The files of a shop without rows."""
    path = put({}, folder)
    database = await open_shop(path)
    await database.backend.close()
    return files_of(folder)


async def perform(path: Path, vfs: str, told: Told) -> None:
    """Open the shop, run the script, close; what goes wrong is noted."""
    try:
        database = await open_shop(path, vfs=vfs)
    except PerdureError:
        return
    writer = Writer(database.backend, on_signals=lambda _topics: None)

    async def run(act: Act) -> None:
        try:
            await writer.run(act)
        except OutcomeUnknown as unknown:
            told.unknown[act] = unknown
        except PerdureError:
            told.refused.add(act)
        else:
            told.done.add(act)

    try:
        await writer.start()
        for acts in ROUNDS:
            await asyncio.gather(*map(run, acts))
    except PerdureError:
        told.refused.update(act for acts in ROUNDS for act in acts if act not in told.done and act not in told.unknown)
    finally:
        try:
            await writer.close()
        except PerdureError:
            assert not database._file.usable


def check(connection: apsw.Connection, told: Told) -> set[Any]:
    """Every transaction is whole or absent, and all that was acknowledged is there. Returns what is there."""
    assert connection.pragma("integrity_check") == "ok"
    jobs = {n for (n,) in connection.execute("SELECT id FROM job")}
    lines = {n for (n,) in connection.execute("SELECT n FROM line")}
    letters = {n for (n,) in connection.execute("SELECT id FROM letter")}
    parked = connection.execute("SELECT parked FROM owner").get or 0
    count = connection.execute("SELECT sum(value) FROM counter WHERE name = 'jobs'").get or 0
    assert jobs == letters, "whole or absent"
    assert jobs <= lines, "whole or absent"
    assert len(jobs) == parked == count, "whole or absent"
    there: set[Any] = {Enter(n) for n in lines} | {Leave(n) for n in lines - jobs}
    assert told.done <= there, "what was acknowledged is there"
    assert not told.refused & there, "what was refused is not there"
    return there
