"""Moving all of a store into an empty one: what a database gives and takes for it, and the loop between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from perdure.core.table import Scalar, Table
from perdure.errors import CopyFailed, CopyRefused

Values = tuple[Scalar, ...]
"""A row as it is stored: all columns of its table, then its version."""


def stored_columns(table: Table[Any]) -> tuple[str, ...]:
    """Return the columns that a row has in every database, in order; a log has no version."""
    return table.columns if table.kind == "log" else (*table.columns, "rev")


def size_of(values: Values) -> int:
    """Return the bytes of a row's text and blobs, more or less: what a chunk is bounded by."""
    return sum(len(value) for value in values if isinstance(value, str | bytes))


class Contents(NamedTuple):
    """What a store has besides the rows of its tables.

    Args:
        place: path or address, without any password.
        format: of the tables.
        shards: the number of shares that all processes are spread over.
        last_tick: the greatest tick that was given out.
        counters: the exact counters, summed over all writers.
    """

    place: str
    format: int
    shards: int
    last_tick: int
    counters: Mapping[str, int]


class Digest(NamedTuple):
    """The rows of a table in key order: how many, and a hash over all their columns, the same on every database."""

    rows: int
    sha256: str


class Export(Protocol):
    """All of a store as of one moment."""

    async def contents(self) -> Contents:
        """Return what there is besides rows."""
        ...

    async def rows(self, table: Table[Any], after: Values | None) -> list[Values]:
        """Return the first rows whose keys are greater than `after`, in key order; none when there are none.

        At most `limits.COPY_ROWS`, and no more after `limits.COPY_BYTES`.
        """
        ...


class Import(Export, Protocol):
    """What fills an empty store, and reads what has arrived. Until `finish` only a copy can open the store."""

    async def begin(self, source: Contents, tables: Sequence[Table[Any]]) -> bool:
        """Mark the store as the unfinished copy of `source`, or find that it is that one already.

        Returns:
            False if it is a store that holds something: nothing was changed.

        Raises:
            CopyRefused: it is the unfinished copy of another one, or in use; nothing was changed.
        """
        ...

    async def last(self, table: Table[Any]) -> Values | None:
        """Return the greatest key that has arrived."""
        ...

    async def add(self, table: Table[Any], rows: Sequence[Values]) -> None:
        """Write rows behind those that are there, all or none.

        Raises:
            CopyRefused: this database cannot hold one of them; the text says which.
        """
        ...

    async def finish(self, source: Contents) -> None:
        """Take over counters and ticks, and make it a store like any other, at once."""
        ...


class Moved(NamedTuple):
    """How far a copy is: `rows` of a table are `copied` so far, or all its rows are `verified`."""

    what: Literal["copied", "verified"]
    table: str
    rows: int


Progress = Callable[[Moved], None]


async def transfer(source: Export, target: Import, *, tables: Sequence[Table[Any]], progress: Progress) -> dict[str, Digest]:
    """Copy everything into an empty store, or go on with it; compare all of it, then make it a store.

    Rows arrive in the order of their keys, chunk by chunk: where a copy ended is where its greatest key is.

    Args:
        source: what is copied.
        target: where to.
        tables: all that there are.
        progress: called after each chunk, and for each table that was compared.

    Returns:
        What both have, by table.

    Raises:
        CopyRefused: see `Import`.
        CopyFailed: the target has not what the source has.
    """
    contents = await source.contents()
    if not await target.begin(contents, tables):
        return await _found_there(source, target, contents, tables)
    for table in tables:
        after, copied = await target.last(table), 0
        while rows := await source.rows(table, after):
            await target.add(table, rows)
            after, copied = rows[-1][: len(table.key_columns)], copied + len(rows)
            progress(Moved("copied", table.name, copied))
    digests: dict[str, Digest] = {}
    for table in tables:
        expected, found = await digest(source, table), await digest(target, table)
        if expected != found:
            raise CopyFailed(
                f"table {table.name}: the source has {expected.rows:,} rows with hash {expected.sha256[:12]}, in the target are {found.rows:,} "
                f"with {found.sha256[:12]}; the source has changed since the copy was begun: remove the target, and begin again"
            )
        digests[table.name] = expected
        progress(Moved("verified", table.name, expected.rows))
    await target.finish(contents)
    return digests


async def _found_there(source: Export, target: Export, contents: Contents, tables: Sequence[Table[Any]]) -> dict[str, Digest]:
    """Take a store that is not empty for this copy if it has all that the source has: the copy ended before its caller heard of it."""
    there = await target.contents()
    same = there.counters == contents.counters and there.last_tick >= contents.last_tick
    digests: dict[str, Digest] = {}
    for table in tables:
        digests[table.name] = await digest(target, table)
        if not same or digests[table.name] != await digest(source, table):
            raise CopyRefused(
                f"{there.place}: expected a new store, or none, as the target; found one in use: choose another file, or schema"
            )
    return digests


async def digest(export: Export, table: Table[Any]) -> Digest:
    """Return count and hash of a table."""
    hashed, count, after = hashlib.sha256(), 0, None
    encode = msgspec.msgpack.encode
    while rows := await export.rows(table, after):
        hashed.update(b"".join(map(encode, rows)))
        after, count = rows[-1][: len(table.key_columns)], count + len(rows)
    return Digest(count, hashed.hexdigest())


def check_mark(found: tuple[str, int], source: Contents) -> None:
    """Raise CopyRefused unless a copy that was begun, of a place as of a tick, is one of `source` as it is now."""
    place, last_tick = found
    if place != source.place:
        raise CopyRefused(f"the target holds the unfinished copy of {place}; go on with that one, or remove the target")
    if last_tick != source.last_tick:
        raise CopyRefused(f"{place} was written to since the copy of it was begun; remove the target, and begin again")
