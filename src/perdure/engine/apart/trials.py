"""Code in a child, on which processes and messages are tried: the record goes there, and what became of it comes back.

Source: packages.md, "Check before routing" and "Moving a process"; docs/isolation.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from perdure.engine.apart.channel import ChildGone
from perdure.engine.apart.children import Child
from perdure.engine.apart.environments import Environment, Environments, default_folder
from perdure.engine.apart.frames import (
    FrameTooLarge,
    MessageRead,
    ProcessTried,
    Question,
    ReadMessage,
    SayLeads,
    SaysLeads,
    TryFailed,
    TryProcess,
)
from perdure.engine.apart.remote import Home
from perdure.engine.export import ProcessExport
from perdure.engine.packaged import code_of, lock_of
from perdure.engine.trying import CodeFailed, Tried
from perdure.engine.upcasting import Leads
from perdure.packages.archive import Package
from perdure.store import Store

A = TypeVar("A")


class RemoteCode:
    """`Code` in a child.

    Args:
        home: the child.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._tried_by: Home | None = None

    async def home(self) -> Home:
        """Return the child."""
        return self._home

    async def leads(self) -> dict[str, Leads]:
        """Return where the upcasters of each type lead. Raises CodeFailed."""
        home = await self.home()
        return (await _said(home, SayLeads(question=home.number()), SaysLeads)).leads

    async def try_process(self, exported: ProcessExport, *, rewrites: bool = False) -> Tried:
        """See `Code`."""
        home = self._tried_by = await self.home()
        asked = TryProcess(question=home.number(), exported=exported, rewrites=rewrites)
        return (await _said(home, asked, ProcessTried)).tried

    async def read(self, process_type: str, kind: str, payload: bytes, *, awaited: bool = False) -> str:
        """See `Code`."""
        home = await self.home()
        if awaited and home is not self._tried_by:
            raise CodeFailed("its interpreter has ended since its open turn was replayed; try again")
        asked = ReadMessage(question=home.number(), process_type=process_type, kind=kind, payload=payload, awaited=awaited)
        return (await _said(home, asked, MessageRead)).unreadable


async def _said(home: Home, question: Question, expected: type[A]) -> A:
    try:
        said = await home.answer(question)
    except FrameTooLarge as error:
        raise CodeFailed(f"it cannot be told to an interpreter of its own: {error}") from error
    except ChildGone as error:
        raise CodeFailed(f"its interpreter has ended: {error}") from error
    if isinstance(said, expected):
        return said
    if not isinstance(said, TryFailed):
        home.give_up(f"it has answered with a {type(said).__name__}")
        raise CodeFailed(f"its interpreter has answered with a {type(said).__name__}")
    raise CodeFailed(said.text)


@asynccontextmanager
async def code_apart(package: Package, store: Store, *, folder: Path | None) -> AsyncIterator[RemoteCode]:
    """Start a child for a package, and use its code until the block is left. A child that ends is started again at the next question.

    Args:
        package: with `isolation: process`.
        store: whose clock and randomness the child goes by.
        folder: of its environment; the user's folder of caches when not given.

    Raises:
        PackageIsolationUnavailable, PackageEnvironmentFailed: it cannot have an interpreter here.
        PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing, PackageSchemaDrift, DefinitionError: it cannot be used.
    """
    lock = lock_of(package)
    assert lock is not None, "whose interpreter is shared is none of these"
    environment = await Environments(folder or default_folder()).of(code_of(package).label, lock)
    code = _StartedAgain(package, environment, store)
    try:
        await code.home()
        yield code
    finally:
        await code.close()


class _StartedAgain(RemoteCode):
    def __init__(self, package: Package, environment: Environment, store: Store) -> None:
        self._package = package
        self._environment = environment
        self._store = store
        self._child = self._made()
        super().__init__(self._child)

    def _made(self) -> Child:
        return Child(code_of(self._package).label, self._store, ended=lambda *_: None)

    async def home(self) -> Home:
        """Return the child, started if there is none."""
        if not self._child.lives:
            await self._child.stop()
            self._child = self._made()
            await self._child.start(self._package, self._environment, threads=1)
        return self._child

    async def close(self) -> None:
        """Stop the child."""
        await self._child.stop()
