"""The writers' rows: who writes, which batch was the last, and the counters that ride along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import apsw

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.core.backend import WriterFenced, WriterRow
from perdure.errors import NotFoundError

_LANE: Final = 0
_DAY: Final = 86_400 * SECOND


def fence(connection: apsw.Connection, node: str, now: Micros) -> WriterRow:
    """Raise the incarnation of a writer, whose row is made if there is none; inside of a transaction."""
    connection.execute(
        "INSERT INTO writer (node, lane, incarnation, batch, last_tick, seen_at) VALUES (?, ?, 1, 0, 0, ?) "
        "ON CONFLICT (node, lane) DO UPDATE SET incarnation = incarnation + 1, seen_at = excluded.seen_at",
        (node, _LANE, now),
    )
    incarnation, batch = connection.execute("SELECT incarnation, batch FROM writer WHERE node = ? AND lane = ?", (node, _LANE)).get
    return WriterRow(node, incarnation, batch)


def advance(connection: apsw.Connection, row: WriterRow, last_tick: int, now: Micros) -> None:
    """Note that `row` is the writer's state from this transaction on.

    Raises:
        WriterFenced: the writer's row is gone, or has another incarnation, or another last batch.
    """
    connection.execute(
        "UPDATE writer SET batch = ?1, last_tick = ?2, seen_at = ?3 WHERE node = ?4 AND lane = ?5 AND incarnation = ?6 AND batch = ?1 - 1",
        (row.batch, last_tick, now, row.node, _LANE, row.incarnation),
    )
    if connection.changes() != 1:
        raise WriterFenced


def add(connection: apsw.Connection, node: str, counts: Mapping[str, int]) -> None:
    """Add to the node's counters; inside of a transaction."""
    connection.executemany(
        "INSERT INTO counter (name, node, value) VALUES (?, ?, ?) ON CONFLICT (name, node) DO UPDATE SET value = value + excluded.value",
        [(name, node, delta) for name, delta in counts.items()],
    )


def last_tick(connection: apsw.Connection) -> int:
    """Return the greatest tick that any writer has given out."""
    tick: int = connection.execute("SELECT max(last_tick) FROM writer").get
    return tick


def fold(connection: apsw.Connection, node: str) -> None:
    """Add a writer's counters and tick to the base row and forget the writer; inside of a transaction."""
    connection.execute(
        "INSERT INTO counter (name, node, value) SELECT name, '', value FROM counter WHERE node = ? "
        "ON CONFLICT (name, node) DO UPDATE SET value = value + excluded.value",
        (node,),
    )
    connection.execute("DELETE FROM counter WHERE node = ?", (node,))
    connection.execute(
        "UPDATE writer SET last_tick = max(last_tick, (SELECT max(last_tick) FROM writer)) WHERE node = '' AND lane = ?", (_LANE,)
    )
    connection.execute("DELETE FROM writer WHERE node = ?", (node,))


def fold_unseen(connection: apsw.Connection, now: Micros) -> None:
    """Fold the writers that were not seen for `limits.WRITER_ROW_DAYS`; inside of a transaction."""
    before = now - limits.WRITER_ROW_DAYS * _DAY
    for (node,) in connection.execute("SELECT node FROM writer WHERE node <> '' AND seen_at < ?", (before,)).fetchall():
        fold(connection, str(node))


def settle(connection: apsw.Connection, node: str, batch: int) -> bool:
    """Return whether that batch of that writer was committed, and fence the writer; inside of a transaction.

    The raised incarnation is more than a guard: once this transaction is durable, what a failed sync left in the WAL
    behind the last commit is overwritten, and no crash can bring it back after the answer.

    Raises:
        NotFoundError: the writer's row is gone: it closed cleanly, or was not seen for `limits.WRITER_ROW_DAYS`.
    """
    found: int | None = connection.execute("SELECT batch FROM writer WHERE node = ? AND lane = ? AND node <> ''", (node, _LANE)).get
    if found is None:
        raise NotFoundError(
            f"writer {node}: no row of this writer in the store, so batch {batch} cannot be settled; it was kept for "
            f"{limits.WRITER_ROW_DAYS} days, or belongs to another store"
        )
    connection.execute("UPDATE writer SET incarnation = incarnation + 1 WHERE node = ? AND lane = ?", (node, _LANE))
    return found >= batch
