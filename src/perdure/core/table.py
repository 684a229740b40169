"""Tables, indexes, keys and scans: what a decision may look at, as values.

The core knows no domain. A room declares its tables with these, and a backend makes SQL of them.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Generic, Literal, TypeVar

import msgspec

Scalar = str | bytes | int | None
RowT = TypeVar("RowT", bound=msgspec.Struct)
AnyRow = msgspec.Struct

Kind = Literal["shared", "owned", "log"]


class Table(Generic[RowT]):
    """A table: key columns (tenant first), then the fields of `row`, then a hidden `rev`.

    `rev` grows by 1 with each batch that changes the row. Where rows stay in memory while others write, one that is removed
    and made anew begins with a `rev` that it never had.

    Args:
        name: of the table in the database.
        key_columns: the primary key, in order.
        row: a frozen Struct whose fields are the other columns, in order, each a `Scalar`.
        fixed: fields that never change after the insert; an update leaves them out, so that an index on one costs it nothing.
        indexed: fields that seldom change and that indexes look at; an update leaves them out when they stay as they were.
        kind: `shared`, any node writes it; `owned`, only the owner of its shard updates it, so it may be kept in
            memory; `log`, inserted without being read first, and never changed.
        guard: its rows guard ranges of other tables. They are locked before rows of all others: what is in a range is known
            only after its guard is locked.
        mostly_read: who has only read a row, in a transaction of an application's own, lets others read it, too.

    Attributes:
        place: of this table in the order in which rows are locked.

    Source: architecture.md, "The core idea".
    """

    __slots__ = ("columns", "fixed", "indexed", "key_columns", "kind", "mostly_read", "name", "place", "row")

    def __init__(
        self,
        name: str,
        key_columns: tuple[str, ...],
        row: type[RowT],
        *,
        kind: Kind = "shared",
        fixed: tuple[str, ...] = (),
        indexed: tuple[str, ...] = (),
        guard: bool = False,
        mostly_read: bool = False,
    ) -> None:
        self.name = name
        self.key_columns = key_columns
        self.row = row
        self.kind: Kind = kind
        self.mostly_read = mostly_read
        self.fixed = fixed
        self.indexed = indexed
        self.place = (not guard, name)
        self.columns = (*key_columns, *row.__struct_fields__)

    def key(self, *parts: Scalar) -> Key[RowT]:
        """Return the key of one row, present or not. `parts` are the key columns' values, in order."""
        return Key(self, parts)

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Key(msgspec.Struct, Generic[RowT], frozen=True, gc=False, cache_hash=True):
    """One row, present or not."""

    table: Table[RowT]
    parts: tuple[Scalar, ...]


class Index(Generic[RowT]):
    """An ordered path into a table; never unique: what must be unique is the key of a table of its own.

    Args:
        table: the table that it leads into.
        name: of the index in the database; the table's own name when the primary key serves.
        prefix: columns that a scan fixes.
        order: columns that a scan is ordered by. With the prefix they contain the whole key, so that the order is
            total and the same on every backend: by bytes, not by locale.
        where: which rows belong, for the rows of the batch itself.
        where_sql: the same, for the database.

    Source: architecture.md, "The core idea".
    """

    __slots__ = ("name", "order", "order_of", "prefix", "prefix_of", "table", "where", "where_sql")

    def __init__(
        self,
        table: Table[RowT],
        name: str,
        *,
        prefix: tuple[str, ...] = (),
        order: tuple[str, ...],
        where: Callable[[RowT], bool] | None = None,
        where_sql: str = "",
    ) -> None:
        assert (where is None) == (where_sql == ""), f"{name}: membership is said in Python and in SQL, or not at all"
        assert set(table.key_columns) <= {*prefix, *order}, f"{name}: prefix and order have to contain the key"
        self.table = table
        self.name = name
        self.prefix = prefix
        self.order = order
        self.where = where
        self.where_sql = where_sql
        self.prefix_of = _columns_of(table, prefix)
        self.order_of = _columns_of(table, order)

    def __repr__(self) -> str:
        return f"Index({self.name})"


def _columns_of(table: Table[Any], names: tuple[str, ...]) -> Callable[[tuple[Scalar, ...], AnyRow], tuple[Scalar, ...]]:
    if not names:
        return lambda _parts, _row: ()
    pick = itemgetter(*(table.columns.index(name) for name in names))
    astuple = msgspec.structs.astuple
    if len(names) == 1:
        return lambda parts, row: (pick(parts + astuple(row)),)
    return lambda parts, row: pick(parts + astuple(row))


class Scan(msgspec.Struct, Generic[RowT], frozen=True):
    """The first `limit` rows of an index under a prefix, in the index's order.

    Args:
        index: the path.
        prefix: values of the index's prefix columns.
        limit: how many rows at most.
        after: only rows whose order columns are greater; as many of them, from the first on, as wanted.
        upto: only rows whose order columns are less or equal; likewise.
        claim: rows that another node works on are skipped, and the ones returned are ours until the commit.
        guard: the row that everybody writes who adds to this range or takes from it. Without one the answer is a
            hint: what is missed is found at the next look.
        backwards: the last rows instead, from the end; `after` and `upto` then say less where they said greater. Only for
            reads outside of a batch.

    Source: architecture.md, "A range has a guard".
    """

    index: Index[RowT]
    prefix: tuple[Scalar, ...]
    limit: int
    after: tuple[Scalar, ...] | None = None
    upto: tuple[Scalar, ...] | None = None
    claim: bool = False
    guard: Key[Any] | None = None
    backwards: bool = False


Read = Key[Any] | Scan[Any]
