"""The writers' rows: who writes, which batch was the last, and the counters that ride along."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

from typing import Any, NamedTuple

from perdure import limits
from perdure.backends.migrations import too_new
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.migrations import beyond
from perdure.backends.postgres.statements import NOW, renewed
from perdure.clock import SECOND, Micros
from perdure.core.backend import WriterRow
from perdure.errors import NotFoundError

_DAY = 86_400 * SECOND
# Two that open at once may get the same slot: then their ticks may be the same, which is found when they are written.
SLOT = (
    "coalesce((select min(s) from generate_series(1, {slots} - 1) s where not exists (select 1 from {schema}.writer where slot = s)), "
    f"1 + ({NOW} % ({{slots}} - 1)))"
)


def open_until() -> str:
    """Return what a writer sets to say that its store is open."""
    return f"open_until = {NOW} + {limits.OPEN_US}"


class Fenced(NamedTuple):
    """A new incarnation of a writer, and what it begins with; `leased` if its lease was not taken from it."""

    row: WriterRow
    slot: int
    last_tick: int
    now: Micros
    leased: bool


class Writers:
    """The statements about writers of one store.

    Args:
        schema: of the store.
        place: of the store, for people.
        knows: the last migration of this installation.
    """

    def __init__(self, schema: str, *, place: str, knows: int) -> None:
        self._schema = schema
        self._place = place
        self._knows = knows

    async def fence(self, session: Session, node: str, now: Micros | None, *, incarnation: int, first: bool) -> Fenced | None:
        """Raise the incarnation of a writer, which waits for what it has under way; `first`: its row is made, with a slot that nobody has.

        An attempt whose answer was lost may arrive after a later one: it finds an incarnation that is not below its own, and does nothing.

        Args:
            session: the connection.
            node: whose.
            now: the store's time; None is the server's.
            incarnation: higher than in any attempt before; it is raised further if another has raised it so far.
            first: see above.

        Returns:
            What it begins with; None when there is no row of it any more.

        Raises:
            SchemaTooNew: what this installation needs was taken away; nothing was changed.
        """
        while True:
            await session.begin()
            try:
                # Before anything else, so that the store cannot be narrowed between this look and the row that tells of us.
                for number, name in await session.rows(beyond(self._schema), (self._knows,)):
                    raise too_new(self._place, number, name, self._knows)
                found = await (self._made if first else self._raised)(session, node, now, incarnation)
                await session.commit()
            finally:
                await session.rollback()
            if found:
                raised, batch, slot, last_tick, there, leased = found[0]
                return Fenced(WriterRow(node, raised, batch), slot, last_tick, there, leased)
            present = await session.rows(f"select incarnation from {self._schema}.writer where node = $1 and lane = 0", (node,))
            if not present:
                return None
            incarnation = present[0][0] + 1

    async def _raised(self, session: Session, node: str, now: Micros | None, incarnation: int) -> list[Any]:
        sql = (
            f"update {self._schema}.writer set incarnation = $4, seen_at = coalesce($2, {NOW}), slot = least(slot, $3 - 1), {renewed()}, knows = $5, {open_until()} "
            f"where node = $1 and lane = 0 and incarnation < $4 {self._returned()}"
        )
        return await session.rows(sql, (node, now, limits.TICK_SLOTS, incarnation, self._knows))

    async def _made(self, session: Session, node: str, now: Micros | None, incarnation: int) -> list[Any]:
        schema = self._schema
        sql = (
            f"insert into {schema}.writer (node, lane, incarnation, batch, last_tick, seen_at, slot, knows, open_until) "
            f"select $1, 0, $4, 0, 0, coalesce($2, {NOW}), {SLOT.format(schema=schema, slots='$3')}, $5, {NOW} + {limits.OPEN_US} "
            "on conflict (node, lane) do update set incarnation = excluded.incarnation, seen_at = excluded.seen_at, open_until = excluded.open_until "
            f"where writer.incarnation < excluded.incarnation {self._returned()}"
        )
        # One after the other: two that open at once would find the same slot free, and give out the same ticks.
        await session.rows(f"select 1 from {schema}.writer where node = '' and lane = 0 for update")
        return await session.rows(sql, (node, now, limits.TICK_SLOTS, incarnation, self._knows))

    def _returned(self) -> str:
        # What was waited for is in the row itself; a look at all of them is from before the wait.
        return f"returning incarnation, batch, slot, greatest(last_tick, (select max(last_tick) from {self._schema}.writer)), {NOW}, expires_at is not null"

    async def fold_unseen(self, session: Session, now: Micros | None) -> None:
        """Fold the writers that were not seen for `limits.WRITER_ROW_DAYS`, unless their stores are open."""
        sql = (
            f"select node from {self._schema}.writer where node <> '' and seen_at < coalesce($1, {NOW}) - $2 "
            f"and coalesce(open_until < {NOW}, true)"
        )
        for (node,) in await session.rows(sql, (now, limits.WRITER_ROW_DAYS * _DAY)):
            await self.fold(session, node)

    async def fold(self, session: Session, node: str) -> None:
        """Add a writer's counters, tick and commits to the base row and forget the writer.

        The commits, so that who looks for those of other nodes sees one of a writer that came and went between two looks.
        """
        schema = self._schema
        sql = (
            f"with gone as (delete from {schema}.writer where node = $1 and node <> '' returning last_tick, batch + incarnation as moves), "
            f"counted as (delete from {schema}.counter where node = $1 and exists (select 1 from gone) returning name, value), "
            f"base as (insert into {schema}.counter (name, node, value) select name, '', value from counted order by name "
            "on conflict (name, node) do update set value = counter.value + excluded.value returning 1) "
            f"update {schema}.writer set last_tick = greatest(writer.last_tick, gone.last_tick), batch = writer.batch + gone.moves "
            "from gone where node = '' and lane = 0"
        )
        await session.rows(sql, (node,))

    async def settle(self, session: Session, node: str, batch: int) -> bool:
        """Return whether that batch of that writer was committed, and fence the writer.

        Raises:
            NotFoundError: the writer's row is gone: it closed cleanly, or was not seen for `limits.WRITER_ROW_DAYS`.
        """
        sql = f"update {self._schema}.writer set incarnation = incarnation + 1 where node = $1 and lane = 0 and node <> '' returning batch"
        found: list[Any] = await session.rows(sql, (node,))
        if not found:
            raise NotFoundError(
                f"writer {node}: no row of this writer in the store, so batch {batch} cannot be settled; it was kept for "
                f"{limits.WRITER_ROW_DAYS} days, or belongs to another store"
            )
        return bool(found[0][0] >= batch)
