"""Which code a process runs: the app's own, or the version that is recorded with it, loaded when it is needed.

Source: packages.md, "Loading", "Pins" and "Stranded".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.tables import PINNED, ProcessRow
from perdure.core.table import Scan
from perdure.engine.apart.children import Children
from perdure.engine.apart.environments import default_folder
from perdure.engine.apart.remote import AnyType
from perdure.engine.app import App, ProcessType
from perdure.engine.notes import Said
from perdure.engine.packaged import code_of, types_of
from perdure.engine.resident import Resident
from perdure.errors import (
    DefinitionError,
    PackageEntryMissing,
    PackageEnvironmentFailed,
    PackageImportFailed,
    PackageMissing,
    PackageRefused,
    PackageRequirementUnmet,
    PackageSchemaDrift,
    PerdureError,
    SigningUnavailable,
    StoreCorrupt,
    UnknownProcessType,
)
from perdure.flows.writes import UNLIMITED, Limits
from perdure.names import TAG_DIGITS
from perdure.packages.archive import Package, unpack
from perdure.packages.catalog import Catalog
from perdure.packages.contract import Needs
from perdure.packages.loading import Loaded, PackageCode
from perdure.packages.manifest import Manifest
from perdure.packages.requirements import check_requirements
from perdure.packages.routes import default_of
from perdure.packages.signing import TrustPolicy
from perdure.packages.tables import PACKAGE, ROUTE
from perdure.store import Store

logger = logging.getLogger("perdure.engine")
UNLOADABLE: Final = (
    DefinitionError,
    PackageEntryMissing,
    PackageEnvironmentFailed,
    PackageImportFailed,
    PackageMissing,
    PackageRefused,
    PackageRequirementUnmet,
    PackageSchemaDrift,
    SigningUnavailable,
    StoreCorrupt,
)
"""Why a version cannot be loaded here: its processes are stranded until something has changed."""


class Versions:
    """The code of process types, local and packaged.

    Args:
        store: where the packages are.
        app: the local types.
        trust: who has to have signed a package; None for anybody or nobody.
        environments: where the environments of packages with interpreters of their own are kept; see docs/isolation.md.
        threads: plain functions that run at the same time in each of these.
        ended: called with a version whose interpreter has ended; its types are gone then.

    Attributes:
        trust, environments: as they were given.
        said: what the code that is here says, by process type and package; decisions go by it.
        limits: of flow control, by process type, as of the version that was loaded last.
        failed: why a version cannot be loaded here, by its hash. It is not tried again before something has changed.
    """

    def __init__(
        self,
        store: Store,
        app: App,
        *,
        trust: TrustPolicy | None = None,
        environments: Path | None = None,
        threads: int = limits.MAX_THREADS,
        ended: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._name = app.name
        self._local: Mapping[str, AnyType] = app.types
        self._types: dict[str, Mapping[str, AnyType]] = {}
        self._manifests: dict[str, Manifest] = {}
        self._unmet: dict[str, PerdureError] = {}
        self._marks: dict[str, int | None] = {}
        self._making: dict[Loaded, asyncio.Future[dict[str, ProcessType]]] = {}
        self._under_way = 0
        self._asked = 0  # how often something was to be tried again
        self._catalog: Final = Catalog(evicted=self._evicted)
        self._taking: dict[str, asyncio.Future[Package]] = {}
        self._apart: set[str] = set()
        self._tell_ended = ended
        self._children: Final = Children(store, environments or default_folder(), threads=threads, ended=self._ended, evicted=self._evicted)
        self.trust: Final = trust
        self.environments: Final = environments
        self.said: Final[dict[tuple[str, str | None], Said]] = {(name, None): _said(made) for name, made in app.types.items()}
        self.limits: Final[dict[str, Limits]] = {name: _limits(made) for name, made in app.types.items()}
        self.failed: Final[dict[str, PerdureError]] = {}

    async def close(self) -> None:
        """Let go all that is loaded."""
        await self._catalog.close()
        await self._children.close()

    @property
    def apart(self) -> dict[str, int]:
        """The versions that run in interpreters of their own now, with the numbers of their processes."""
        return self._children.running

    def paused(self, package: str) -> Micros | None:
        """Return how long the interpreter of a version is not started again, for those before have ended; None when none has, or one runs."""
        return self._children.paused(package)

    def drop(self) -> None:
        """Let go all that is loaded, as a kill does."""
        self._catalog.drop()
        self._children.drop()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The versions that are loaded, those used last behind the others."""
        return self._catalog.loaded

    def pins(self, package: str) -> int:
        """Return how many processes in memory use a version, or wait for it."""
        return self._children.pins(package) if package in self._apart else self._catalog.pins(package)

    @property
    def busy(self) -> bool:
        """Whether a version is being loaded, or looked at."""
        return self._under_way > 0

    def settled(self, package: str | None) -> bool:
        """Return whether nobody has to wait for a version: it is loaded, or cannot be, or is the app's own code."""
        return package is None or package in self._types or package in self.failed

    def take(self, resident: Resident, process: ProcessRow) -> bool:
        """Give a process in memory its code, and keep that loaded until `give_back`. False: it is not here."""
        types: Mapping[str, AnyType] = self._local if process.package_hash is None else self._types.get(process.package_hash, {})
        made = types.get(process.process_type)
        if made is None:
            return False
        if process.package_hash is not None and not self._take(process.package_hash):
            return False
        self.give_back(resident)
        resident.type, resident.package = made, process.package_hash
        return True

    def give_back(self, resident: Resident) -> None:
        """A process leaves memory, or runs on other code from now on."""
        if resident.package is not None:
            (self._children if resident.package in self._apart else self._catalog).give_back(resident.package)
            resident.package = None

    def _take(self, package: str) -> bool:
        return self._children.take(package) if package in self._apart else self._catalog.take(package) is not None

    @asynccontextmanager
    async def using(self, process_type: str, package: str | None) -> AsyncIterator[AnyType | None]:
        """Use the code of a type until the block is left; None when this app has no such type of its own.

        Raises:
            PackageMissing, StoreCorrupt: its archive is not there, or damaged.
            PackageRefused: it is none that is taken here; PackageUntrusted, for want of a signature that this engine trusts.
            PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing, PackageSchemaDrift: it cannot be loaded here.
            StoreError: the store cannot be read now.
        """
        if package is None:
            yield self._local.get(process_type)
            return
        async with AsyncExitStack() as pin:
            types = await self._load(package, pin)
            if process_type not in types:
                raise PackageEntryMissing(package[:TAG_DIGITS], process_type)
            yield types[process_type]

    async def survey(self) -> None:
        """Look what the versions need that open processes are on, and note which of them this node cannot load. No code is read."""
        self._under_way += 1
        try:
            self._unmet = await self._found_unmet()
        finally:
            self._under_way -= 1

    async def _found_unmet(self) -> dict[str, PerdureError]:
        found: dict[str, PerdureError] = {}
        after: tuple[Any, ...] | None = None
        while rows := await self._store.access.reader.scan(Scan(PINNED, (), 1, after=after)):
            package = str(rows[0][1].package_hash)
            after = (package,)  # all others that are on it are passed over
            try:
                await self._check(package)
            except UNLOADABLE as error:
                found[package] = bare(error)
                logger.warning("open processes are on a package that this node cannot load: %s", error)
        return found

    async def _check(self, package: str) -> None:
        if (failed := self.failed.get(package)) is not None:
            raise bare(failed)
        row = await self._store.access.reader.get(PACKAGE.key(package))
        if row is None:
            raise PackageMissing(package)
        if row.needs is not None:
            needs = msgspec.json.decode(row.needs, type=Needs)
            await asyncio.to_thread(check_requirements, package[:TAG_DIGITS], python=needs.python, requires=needs.requires)

    @property
    def unmet(self) -> dict[str, PerdureError]:
        """The versions that open processes are on and that this node cannot load, by hash, with the reason."""
        return {**self._unmet, **self.failed}

    def unknown(self, process_type: str) -> UnknownProcessType:
        """Return what is raised for a process that the app's own code is to run, and that has no such type."""
        return UnknownProcessType(f"app {self._name!r} has no process type {process_type!r}; it has {sorted(self._local)}")

    async def learn(self, process_type: str) -> None:
        """Load the version that the default route of a type leads to, for the limits of its flow. Raises what `using` raises."""
        package = await self.routed(process_type)
        if package is not None:
            async with self.using(process_type, package):
                pass

    async def routed(self, process_type: str) -> str | None:
        """Return the package that the default route of a type leads to."""
        return default_of(await self._store.access.reader.get(ROUTE.key(process_type)))

    def try_again(self, package: str) -> None:
        """Let a version that could not be loaded be tried again."""
        self._asked += 1
        self.failed.pop(package, None)

    async def changed(self) -> list[str]:
        """Return the versions that could not be loaded and whose archive is another by now; they are tried again."""
        return [package for package in list(self.failed) if await self._has_changed(package)]

    # --- inside ------------------------------------------------------------------------------------------------

    async def _load(self, package: str, pin: AsyncExitStack) -> Mapping[str, AnyType]:
        self._under_way += 1
        try:
            return await self._loaded(package, pin)
        finally:
            self._under_way -= 1

    async def _loaded(self, package: str, pin: AsyncExitStack) -> Mapping[str, AnyType]:
        while True:
            if package in self.failed:
                raise bare(self.failed[package])
            asked = self._asked
            try:
                types = await self._types_of(package, pin)
            except UNLOADABLE as error:
                if asked != self._asked:  # somebody tries again already, and this failure may be of before
                    continue
                self.failed[package] = bare(error)  # before the look, so that whoever stores it now is heard of
                if not await self._has_changed(package) and asked == self._asked:
                    raise
            else:
                self._marks.pop(package, None)
                return types

    async def _has_changed(self, package: str) -> bool:
        """Return whether the archive of a version is another than when it was looked at; then it is tried again."""
        if await self._mark(package) == self._marks.get(package):
            return False
        self.try_again(package)
        return True

    async def _types_of(self, package: str, pin: AsyncExitStack) -> Mapping[str, AnyType]:
        taken = None if package in self._apart or package in self._manifests else await self._taken(package)
        if taken is not None and taken.manifest.isolation == "process":
            self._apart.add(package)
        if package in self._apart:
            types = await pin.enter_async_context(self._children.use(package, lambda: self._taken(package)))
            if self._types.get(package) is not types:
                self._keep(package, types)
            return types
        loaded = await pin.enter_async_context(self._catalog.use(package, lambda: self._code(package, taken)))
        return await self._made(package, loaded)

    async def _mark(self, package: str) -> int | None:
        """Return what is another whenever a package was put; None when there is none."""
        row = await self._store.access.reader.get(PACKAGE.key(package))
        return None if row is None else row.changed

    async def _code(self, package: str, taken: Package | None) -> PackageCode:
        taken = taken or await self._taken(package)
        self._manifests[package] = taken.manifest
        return code_of(taken)

    async def _taken(self, package: str) -> Package:
        """Return a package, read and taken apart once however many ask at the same time."""
        taking = self._taking.get(package)
        if taking is None:
            taking = self._taking[package] = asyncio.ensure_future(self._take_apart(package))
            taking.add_done_callback(lambda done: self._taking.pop(package) and (done.cancelled() or done.exception()))
        await asyncio.wait([taking])  # it goes on when who waits goes away: others may wait, too
        return taking.result()

    async def _take_apart(self, package: str) -> Package:
        self._marks[package] = await self._mark(package)
        stored = await self._store.packages.get_package(package)
        return await asyncio.to_thread(unpack, stored.archive, identity=package, trust=self.trust)

    async def _made(self, package: str, loaded: Loaded) -> Mapping[str, AnyType]:
        """Return the types of a version, made once however many ask at the same time; whoever asks holds a pin."""
        if package not in self._types:
            making = self._making.get(loaded)
            if making is None:
                making = self._making[loaded] = asyncio.ensure_future(asyncio.to_thread(types_of, loaded, self._manifests[package]))
                making.add_done_callback(lambda done: self._making.pop(loaded) and (done.cancelled() or done.exception()))
            await asyncio.wait([making])
            self._keep(package, making.result())
        return self._types[package]

    def _keep(self, package: str, types: Mapping[str, AnyType]) -> None:
        self._types[package] = types
        for name, made in types.items():
            self.said[name, package] = _said(made)
            self.limits[name] = _limits(made)

    def _ended(self, package: str) -> None:
        self._forget(package)
        if self._tell_ended is not None:
            self._tell_ended(package)

    def _evicted(self, package: str) -> None:
        self._apart.discard(package)
        self._forget(package)

    def _forget(self, package: str) -> None:
        self._manifests.pop(package, None)
        for name in self._types.pop(package, ()):
            del self.said[name, package]


def bare(error: PerdureError) -> PerdureError:
    """Return an error to be kept, or raised once more: with no traceback, which would keep frames, and get longer each time."""
    again = type(error).__new__(type(error), *error.args)
    again.__dict__.update(vars(error))
    return again


def _said(made: AnyType) -> Said:
    return Said(frozenset(made.handlers), made.initial, made.flow)


def _limits(made: AnyType) -> Limits:
    return UNLIMITED if made.flow is None else made.flow.limits
