"""Which versions an engine has loaded: imported at first need, kept while they are used, and let go when there are too many.

Source: packages.md, "Loading" and "Pins"; packages-detail.md, A5.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import Context

from perdure import limits
from perdure.errors import UsageError
from perdure.packages.loading import Loaded, PackageCode, load, unload
from perdure.packages.unloading import Remains

logger = logging.getLogger("perdure.packages")
Source = Callable[[], Awaitable[PackageCode]]


class _Slot:
    """One version: who uses it, and how far its import is."""

    __slots__ = ("loaded", "loading", "pins")

    def __init__(self) -> None:
        self.pins = 0
        self.loaded: Loaded | None = None
        self.loading: asyncio.Task[Loaded] | None = None


class Catalog:
    """The versions that an engine has loaded. It belongs to the event loop that it is used on.

    Args:
        most: versions that stay loaded while nobody uses them. Those in use are not counted out: nobody waits for a place.
        evicted: called with the content hash of each version that is let go.

    Source: packages.md, "Loading" and "Pins".
    """

    def __init__(self, *, most: int = limits.PACKAGES_LOADED, evicted: Callable[[str], None] | None = None) -> None:
        self._most = most
        self._tell = evicted
        self._slots: dict[str, _Slot] = {}  # by content hash, those used last behind the others
        self._evicted: deque[Remains] = deque(maxlen=limits.PACKAGES_WATCHED)
        self._threads = ThreadPoolExecutor(limits.PACKAGES_IMPORTED, thread_name_prefix="perdure-packages")
        self._closed = False

    @asynccontextmanager
    async def use(self, content_hash: str, source: Source) -> AsyncIterator[Loaded]:
        """Use a version: it stays loaded until the block is left.

        It is imported at first need, on a thread, once however many ask at the same time. When that fails everybody who waits
        gets the error, and who asks later tries again.

        Args:
            content_hash: of the version.
            source: returns its code, verified; asked only when it has to be imported.

        Raises:
            PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing: it cannot be loaded here.
            UsageError: the catalog is closed, or the source has returned another version.
            Exception: what the source raises.

        Source: packages.md, "Loading".
        """
        if self._closed:
            raise _is_closed(content_hash)
        slot = self._slots.setdefault(content_hash, _Slot())
        slot.pins += 1
        try:
            yield await self._loaded(content_hash, slot, source)
        finally:
            self.give_back(content_hash)

    def take(self, content_hash: str) -> Loaded | None:
        """Use a version that is loaded, until `give_back`; None when it is not."""
        slot = self._slots.get(content_hash)
        if slot is None or slot.loaded is None:
            return None
        slot.pins += 1
        return slot.loaded

    def give_back(self, content_hash: str) -> None:
        """Use a version no more; once for each time that it was taken."""
        self._slots[content_hash].pins -= 1
        self._slots[content_hash] = self._slots.pop(content_hash)
        self._make_room()

    def pins(self, content_hash: str) -> int:
        """Return how many use a version now, or wait for it."""
        slot = self._slots.get(content_hash)
        return 0 if slot is None else slot.pins

    @property
    def loaded(self) -> tuple[str, ...]:
        """The versions that are loaded, those used last behind the others."""
        return tuple(content_hash for content_hash, slot in self._slots.items() if slot.loaded is not None)

    @property
    def evicted_alive(self) -> int:
        """How many of the latest evicted versions are still in memory: something of theirs is in use, or is not collected yet."""
        alive = [remains for remains in self._evicted if remains.alive]
        self._evicted.clear()
        self._evicted.extend(alive)
        return len(alive)

    def evict(self, content_hash: str) -> bool:
        """Let a version go now, if nobody uses it. Return whether it is not loaded any more."""
        slot = self._slots.get(content_hash)
        if slot is None:
            return True
        if slot.pins or slot.loading is not None:
            return False
        self._evict(content_hash, slot)
        return True

    async def close(self) -> None:
        """Let go all that nobody uses, and the rest as soon as nobody does. What is being imported is not waited for."""
        await asyncio.gather(*self.drop(), return_exceptions=True)
        self._make_room()

    def drop(self) -> list[asyncio.Task[Loaded]]:
        """Do so at once, and return what is being imported, which ends by itself."""
        self._closed = True
        loading = [slot.loading for slot in self._slots.values() if slot.loading is not None]
        for task in loading:
            task.cancel()
        self._make_room()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return loading

    # --- loading --------------------------------------------------------------------------------------------

    async def _loaded(self, content_hash: str, slot: _Slot, source: Source) -> Loaded:
        if slot.loaded is not None:
            return slot.loaded
        if slot.loading is None:
            slot.loading = asyncio.get_running_loop().create_task(self._load(content_hash, source))
            slot.loading.add_done_callback(lambda task: self._ended(content_hash, slot, task))
        loading = slot.loading
        await asyncio.wait([loading])  # it goes on when who waits goes away: others may wait, too
        if loading.cancelled():
            raise _is_closed(content_hash)
        return loading.result()

    async def _load(self, content_hash: str, source: Source) -> Loaded:
        code = await source()
        if code.content_hash != content_hash:
            raise UsageError(f"package {content_hash}: its source returned {code.content_hash}; return the code that was asked for")
        # In an empty context: variables that the code sets are of its import alone, and the thread's own context would keep them.
        thread = self._threads.submit(Context().run, load, code)
        try:
            loaded = await asyncio.wrap_future(thread)
        except asyncio.CancelledError:
            thread.add_done_callback(_unload)  # nobody can stop it, and nobody is there to use what comes of it
            raise
        found = ", ".join(f"{name} {version}" for name, version in loaded.found.items())
        logger.info("package %s: loaded, with %s", code.label, found)
        return loaded

    def _ended(self, content_hash: str, slot: _Slot, task: asyncio.Task[Loaded]) -> None:
        slot.loading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("package %s cannot be loaded here: %s", content_hash, error)
        elif not task.cancelled():
            slot.loaded = task.result()
        self._make_room()

    # --- letting go -----------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Let go what nobody uses: what was not loaded, and of the others those unused longest, as far as there are too many."""
        idle = [(one, slot) for one, slot in self._slots.items() if not slot.pins and slot.loading is None]
        unloaded = [(one, slot) for one, slot in idle if slot.loaded is None]
        too_many = len(self.loaded) - (0 if self._closed else self._most)
        unused = [(one, slot) for one, slot in idle if slot.loaded is not None][: max(0, too_many)]
        for content_hash, slot in (*unloaded, *unused):
            self._evict(content_hash, slot)

    def _evict(self, content_hash: str, slot: _Slot) -> None:
        del self._slots[content_hash]
        if self._tell is not None:
            self._tell(content_hash)
        if slot.loaded is not None and (remains := unload(slot.loaded)) is not None:
            self._evicted.append(remains)


def _is_closed(content_hash: str) -> UsageError:
    return UsageError(f"package {content_hash}: the catalog is closed; use it before its engine stops")


def _unload(thread: Future[Loaded]) -> None:
    if not thread.cancelled() and thread.exception() is None:
        unload(thread.result())
