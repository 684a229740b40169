"""The writers' rows: who writes, which batch was the last, and the counters that ride along."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

from typing import Any, NamedTuple

from perdure import limits
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.statements import NOW
from perdure.clock import SECOND, Micros
from perdure.core.backend import WriterRow
from perdure.errors import NotFoundError

_DAY = 86_400 * SECOND


class Fenced(NamedTuple):
    """A new incarnation of a writer, and what it begins with."""

    row: WriterRow
    slot: int
    last_tick: int
    now: Micros


class Writers:
    """The statements about writers of one store."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    async def fence(self, session: Session, node: str, now: Micros | None, *, first: bool) -> Fenced | None:
        """Raise the incarnation of a writer, which waits for what it has under way; `first`: its row is made, with a slot that nobody has.

        Returns None when there is no row of it any more.
        """
        schema = self._schema
        if first:
            # Two that open at once may get the same slot: then their ticks may be the same, which is found when they are written.
            sql = (
                f"insert into {schema}.writer (node, lane, incarnation, batch, last_tick, seen_at, slot) "
                f"select $1, 0, 1, 0, 0, coalesce($2, {NOW}), coalesce((select min(s) from generate_series(1, $3 - 1) s "
                f"where not exists (select 1 from {schema}.writer where slot = s)), 1 + ({NOW} % ($3 - 1))) "
                "on conflict (node, lane) do update set incarnation = writer.incarnation + 1, seen_at = excluded.seen_at "
            )
        else:
            sql = (
                f"update {schema}.writer set incarnation = incarnation + 1, seen_at = coalesce($2, {NOW}), slot = least(slot, $3 - 1) "
                "where node = $1 and lane = 0 "
            )
        sql += f"returning incarnation, batch, slot, (select max(last_tick) from {schema}.writer), {NOW}"
        found = await session.rows(sql, (node, now, limits.TICK_SLOTS))
        if not found:
            return None
        incarnation, batch, slot, last_tick, there = found[0]
        return Fenced(WriterRow(node, incarnation, batch), slot, last_tick or 0, there)

    async def fold_unseen(self, session: Session, now: Micros | None) -> None:
        """Fold the writers that were not seen for `limits.WRITER_ROW_DAYS`."""
        sql = f"select node from {self._schema}.writer where node <> '' and seen_at < coalesce($1, {NOW}) - $2"
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
            f"base as (insert into {schema}.counter (name, node, value) select name, '', value from counted "
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
