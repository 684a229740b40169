"""Who may work on which processes: shards, each leased to one node at a time.

Source: architecture.md, "More than one machine".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Protocol

from perdure.core.table import Read
from perdure.core.view import View


class Lease:
    """The right to work on one shard, or on all; once it is not `held` any more it never will be again."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = True


class Keeper(Protocol):
    """Who works on what a node owns. Nothing here is called before `Ownership.start` has returned."""

    def gained(self, shards: Collection[int]) -> None:
        """Take up the processes of these shards."""
        ...

    def forget(self, shards: Collection[int]) -> None:
        """Forget the processes of these shards at once: another node works on them."""
        ...

    async def release(self, leases: Mapping[int, Lease]) -> None:
        """Stop working on these shards, which are not owned any more, and return when all that was begun is committed.

        Until then `leases` are held: who takes over meanwhile ends them.
        """
        ...


class Ownership(Protocol):
    """The shards that this node owns."""

    @property
    def whole(self) -> bool:
        """Whether one node owns all shards for as long as it runs, so that nothing is lost or gained meanwhile."""
        ...

    @property
    def shards(self) -> Collection[int]:
        """What is owned now."""
        ...

    def lease(self, shard: int) -> Lease | None:
        """Return the lease of a shard, or None when it is not ours."""
        ...

    def owns(self, shard: int) -> bool:
        """Return whether a shard is ours, as far as this node knows: a commit that depends on it is refused if it is not."""
        ...

    def safe(self) -> bool:
        """Return whether at this very moment nobody else can have taken over what is ours: asked before each effect."""
        ...

    async def start(self, keeper: Keeper, renew: Callable[[], Awaitable[object]]) -> None:
        """Own shards from now on, as many as are free, up to a fair share. `renew` commits a batch though there is nothing to write.

        Raises:
            EngineRunning: somebody holds the store alone.
        """
        ...

    async def stop(self) -> None:
        """Give back what is owned; harmless when nothing is."""
        ...


class Renew:
    """A write without any change, which is committed all the same: with it the writer renews its lease."""

    def reads(self) -> Iterable[Read]:
        """Nothing."""
        return ()

    def decide(self, view: View) -> None:
        """Ask for the commit."""
        view.touch()


class WholeStore:
    """All shards of a store that one engine at a time runs: whoever holds the name `engine` alone.

    Args:
        exclusive: holds a name, or raises EngineRunning.
        give_back: lets another one hold it.
        shards: how many there are.
    """

    whole = True

    def __init__(self, exclusive: Callable[[str], Awaitable[None]], give_back: Callable[[str], Awaitable[None]], shards: int) -> None:
        self._exclusive = exclusive
        self._give_back = give_back
        self._lease = Lease()
        self._all = range(shards)
        self._started = False

    @property
    def shards(self) -> Collection[int]:
        """All of them, once started."""
        return self._all if self._started else ()

    def lease(self, shard: int) -> Lease | None:
        """Return the one lease."""
        del shard
        return self._lease

    def owns(self, shard: int) -> bool:
        """Return that it is ours."""
        del shard
        return True

    def safe(self) -> bool:
        """Return that nobody can take over."""
        return True

    async def start(self, keeper: Keeper, renew: Callable[[], Awaitable[object]]) -> None:
        """Hold the store's engine alone. Raises EngineRunning."""
        del keeper, renew
        await self._exclusive("engine")
        self._started = True

    async def stop(self) -> None:
        """Give it back."""
        if self._started:
            self._started = False
            await self._give_back("engine")
