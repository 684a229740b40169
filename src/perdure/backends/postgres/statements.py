"""SQL for batches: all reads of one are one statement, and so are all its writes.

Names come from the rooms' own declarations, values are always bound: each column of many rows is one array.
"""
# ruff: noqa: S608  # see above

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits
from perdure.backends.rows import blobs_of, row_maker, weight_of
from perdure.core.backend import Change
from perdure.core.table import AnyRow, Key, Scan, Table
from perdure.identity import Randomness

Values = tuple[Any, ...]
Types = Mapping[str, Mapping[str, str]]
"""The type of each column, by table and column, as the database says."""

FENCED: Final = "PD001"
CHANGED: Final = "PD002"
TAKEN: Final = "PE"
"""What the codes begin with that say of which table a row is there already; see `Statements.taken`."""
LANE: Final = "~"
"""What the names of writers begin with that belong to no open store, but to whoever joins a transaction of its own."""
NOW: Final = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
astuple = msgspec.structs.astuple
_part_of = itemgetter(0)


def first_version(randomness: Randomness) -> int:
    """Return the version of rows that a batch inserts.

    It is one that no row with the same key has ever had: whoever remembers one that was deleted since would take the new one for it.
    """
    return 1 + int.from_bytes(randomness(7), "big")


def renewed() -> str:
    """Return what a writer that has a lease sets with each of its batches."""
    return f"expires_at = case when expires_at is not null then {NOW} + {limits.LEASE_US} end"


class TableSql:
    """What the statements of one table are made of. A log table has no `rev`: its rows never change, so their version is always 1."""

    def __init__(self, table: Table[Any], schema: str, types: Mapping[str, str]) -> None:
        self.table = table
        self.name = f"{schema}.{table.name}"
        self.versioned = table.kind != "log"
        self.types = types
        self.fields = table.row.__struct_fields__
        self.size = len(table.key_columns)
        self.rev = "t.rev" if self.versioned else "1::bigint"
        self._row = row_maker(table.row)
        self._blobs = blobs_of(table.row)

    def entry(self, values: Values) -> tuple[int, AnyRow]:
        """Return version and row of the values of all fields, then the version."""
        return values[-1], self._row(values[:-1])

    def keyed(self, values: Values) -> tuple[Key[Any], tuple[int, AnyRow]]:
        """Return key, version and row of the values of all columns, then the version."""
        return Key(self.table, values[: self.size]), self.entry(values[self.size :])

    def weight(self, row: AnyRow) -> int:
        """Return the bytes of a row's blobs."""
        return weight_of(row, self._blobs) if self._blobs else 0

    def on(self, columns: Iterable[str], source: str = "u") -> str:
        """Return the condition that `columns` are those of another relation."""
        return " and ".join(f"t.{column} = {source}.{column}" for column in columns)


class Statements:
    """Makes the statements of one store."""

    def __init__(self, schema: str, types: Types) -> None:
        self.schema = schema
        self._types = types
        self._tables: dict[Table[Any], TableSql] = {}
        self._reads: dict[Any, str] = {}
        self._writes: dict[Any, str] = {}
        self._codes: dict[str, str] = {}

    def table(self, table: Table[Any]) -> TableSql:
        """Return what the statements of a table are made of."""
        found = self._tables.get(table)
        if found is None:
            found = self._tables[table] = TableSql(table, self.schema, self._types[table.name])
        return found

    def taken(self, code: str) -> str | None:
        """Return the table of which a row was to be inserted that is there already."""
        return next((table for table, each in self._codes.items() if each == code), None)

    def get(self, table: Table[Any]) -> str:
        """Return the statement that reads one row by its key: all fields, then the version."""
        sql = self.table(table)
        where = " and ".join(f"t.{column} = ${n}" for n, column in enumerate(table.key_columns, 1))
        return f"select {_list(sql.fields, 't')}, {sql.rev} from {sql.name} t where {where}"

    def scan(self, scan: Scan[Any]) -> tuple[str, Values]:
        """Return the statement that reads one range, all columns, then the version; and its values."""
        sql, values = self.table(scan.index.table), _Numbers()
        return f"{_ranged(sql, scan, values)} limit {values.mark(scan.limit)}", tuple(values.given)

    def read(
        self, keys: Mapping[Table[Any], Sequence[Key[Any]]], scans: Mapping[Any, Sequence[Scan[Any]]], *, lock: bool
    ) -> tuple[str, list[Any]]:
        """Return the statement that reads rows by key and heads of ranges, all of one moment, and its values.

        Its one row has an array of records per table, (number of the key, fields, version), then one per kind of range, (number
        of the range, columns, version), then the greatest tick, then the time.
        """
        shape = (tuple(keys), tuple(scans), lock)
        values: list[Any] = []
        for table, wanted in keys.items():
            values += _columns(table.key_columns, [key.parts for key in wanted])
        for same in scans.values():
            values += _columns(same[0].index.prefix, [scan.prefix for scan in same])
            values += _columns(same[0].after or (), [scan.after or () for scan in same])
            values += _columns(same[0].upto or (), [scan.upto or () for scan in same])
            values.append([scan.limit + 1 for scan in same])  # one more tells whether the range ends here
        found = self._reads.get(shape)
        if found is None:
            found = self._kept(self._reads, shape, self._read_sql(keys, scans, lock=lock))
        return found, values

    def _kept(self, texts: dict[Any, str], shape: Any, sql: str) -> str:
        if len(texts) >= limits.POSTGRES_TEXTS:
            texts.clear()
        texts[shape] = sql
        return sql

    def _read_sql(self, keys: Iterable[Table[Any]], scans: Mapping[Any, Sequence[Scan[Any]]], *, lock: bool) -> str:
        numbers, parts = _Numbers(), []
        for table in keys:
            sql = self.table(table)
            given = numbers.unnest(table.key_columns, sql.types, ordinal=True)
            end = "" if not lock else " for share of t" if table.mostly_read else " for update of t"
            parts.append(
                f"array(select row(u._n, {_list(sql.fields, 't')}, {sql.rev}) from {given} join {sql.name} t on {sql.on(table.key_columns)}{end})"
            )
        parts += [self._ranges_sql(same[0], numbers) for same in scans.values()]
        parts += [f"(select max(last_tick) from {self.schema}.writer)", NOW]
        return f"select {', '.join(parts)}"

    def _ranges_sql(self, scan: Scan[Any], numbers: _Numbers) -> str:
        index = scan.index
        sql = self.table(index.table)
        names = [f"_p{n}" for n in range(len(index.prefix))]
        after, upto = index.order[: len(scan.after or ())], index.order[: len(scan.upto or ())]
        types = {name: sql.types[column] for name, column in zip(names, index.prefix, strict=True)}
        types |= {f"_a{n}": sql.types[column] for n, column in enumerate(after)}
        types |= {f"_z{n}": sql.types[column] for n, column in enumerate(upto)}
        given = numbers.unnest([*types, "_most"], {**types, "_most": "bigint"}, ordinal=True)
        where = _where(
            index.where_sql,
            [f"t.{column} = u.{name}" for name, column in zip(names, index.prefix, strict=True)],
            (after, [f"u._a{n}" for n in range(len(after))]),
            (upto, [f"u._z{n}" for n in range(len(upto))]),
            backwards=False,
        )
        columns = _list(index.table.columns, "t")
        inner = f"select {columns}, {sql.rev} as _rev from {sql.name} t{where} order by {_list(index.order, 't')} limit u._most"
        return f"array(select row(u._n, {_list(index.table.columns, 'x')}, x._rev) from {given} cross join lateral ({inner}) x)"

    def check(self, seen: Mapping[Table[Any], Sequence[tuple[Key[Any], int]]]) -> tuple[str, list[Any]]:
        """Return the statement that tells how many of the rows are at their versions (0: absent), all of one moment; and its values."""
        numbers, parts, values = _Numbers(), [], list[Any]()
        for table, rows in seen.items():
            sql = self.table(table)
            given = numbers.unnest([*table.key_columns, "_rev"], {**sql.types, "_rev": "bigint"})
            values += _columns((*table.key_columns, "_rev"), [(*key.parts, rev) for key, rev in rows])
            parts.append(
                f"(select count(*) from {given} left join {sql.name} t on {sql.on(table.key_columns)} "
                f"where coalesce(case when t.{table.key_columns[0]} is not null then {sql.rev} end, 0) = u._rev)"
            )
        return f"select {' + '.join(parts)}", values

    def write(
        self, changes: Iterable[Change], unchanged: Iterable[tuple[Key[Any], int]], row: Values, counts: Mapping[str, int], *, first: int
    ) -> tuple[str, list[Any]]:
        """Return the statement that writes a batch, or raises FENCED, CHANGED or a code of TAKEN and writes nothing; and its values.

        In one order, whoever writes: the writer's row, then the rows that must be as they were read, then inserts, each by
        table and key. So no two batches wait for one another: an insert would wait out of turn for who deletes what is there
        already, so it is refused before anything is locked.

        Args:
            changes: rows to update, delete and insert.
            unchanged: rows that were read, with their versions; 0 for one that was not there.
            row: batch, last tick, time, node, incarnation.
            counts: what to add to the node's counters.
            first: the version of rows that are inserted, see `first_version`.
        """
        work = _sorted_out(changes, unchanged)
        values: list[Any] = list(row)
        shape = []
        for table, kinds in work:
            for kind, rows in kinds:
                values += _columns(rows[0], rows)
                values.append(len(rows)) if kind != "insert" else None
            shape.append((table, tuple(kind for kind, _ in kinds)))
        if _inserts(shape):
            values.insert(len(row), first)
        if counts:
            values += [list(counts), list(counts.values())]
        key = (tuple(shape), bool(counts))
        found = self._writes.get(key)
        if found is None:
            found = self._kept(self._writes, key, self._write_sql(*key))
        return found, values

    def _write_sql(self, shape: Sequence[tuple[Table[Any], Sequence[str]]], counted: bool) -> str:
        numbers = _Numbers(5)
        first = numbers.next("bigint") if _inserts(shape) else ""
        writer = (
            f"w as (update {self.schema}.writer set batch = $1, last_tick = $2, seen_at = $3, {renewed()} "
            "where node = $4 and lane = 0 and incarnation = $5 and batch = $1 - 1 returning 1)"
        )
        parts = [writer]
        checks = [f"when (select count(*) from w) <> 1 then {self.schema}.refuse('{FENCED}')"]
        inserts, vacant = [], []
        for table, kinds in shape:
            sql = self.table(table)
            for kind in kinds:
                name = f"c{len(parts)}"
                if kind == "insert" and sql.versioned:
                    given = numbers.unnest(table.key_columns, sql.types, ahead=True)
                    code = self._codes.setdefault(table.name, f"{TAKEN}{len(self._codes):03}")
                    vacant.append(
                        f"when exists (select 1 from {given} join {sql.name} t on {sql.on(table.key_columns)}) then {self.schema}.refuse('{code}')"
                    )
                parts.append(f"{name} as ({_change_sql(sql, kind, numbers, first)})")
                if kind == "insert":
                    inserts.append(f"when (select count(*) from {name}) < 0 then 0")
                else:
                    checks.append(f"when (select count(*) from {name}) <> {numbers.next('bigint')} then {self.schema}.refuse('{CHANGED}')")
        if counted:
            names = numbers.unnest(["name", "value"], {"name": "text", "value": "bigint"})
            parts.append(
                f"n as (insert into {self.schema}.counter (name, node, value) select u.name, $4, u.value from {names} "
                "on conflict (name, node) do update set value = counter.value + excluded.value returning 1)"
            )
            inserts.append("when (select count(*) from n) < 0 then 0")
        return f"with {', '.join(parts)} select case {' '.join([checks[0], *vacant, *checks[1:], *inserts])} else 1 end"


class _Numbers:
    """Numbers the parameters of a statement; `given` are values that were bound on the way."""

    def __init__(self, used: int = 0) -> None:
        self._used = used
        self.given: list[Any] = []

    def next(self, kind: str) -> str:
        """Return the next parameter, of a type."""
        self._used += 1
        return f"${self._used}::{kind}"

    def mark(self, value: Any) -> str:
        """Return the next parameter, and bind it."""
        self.given.append(value)
        self._used += 1
        return f"${self._used}"

    def unnest(self, columns: Sequence[str], types: Mapping[str, str], *, ordinal: bool = False, ahead: bool = False) -> str:
        """Return a relation `u` of arrays, one for each column, with its rows' numbers from 1 as `_n`; `ahead`: the next relation begins with the same."""
        used = self._used
        arrays = ", ".join(self.next(f"{types[column]}[]") for column in columns)
        self._used = used if ahead else self._used
        names = ", ".join([*columns, *(["_n"] if ordinal else [])])
        return f"unnest({arrays}) {'with ordinality ' if ordinal else ''}u({names})"


class Work(NamedTuple):
    """The rows of one table to write, by kind: key, version and fields, as far as the kind has them."""

    absent: list[Values]
    unchanged: list[Values]
    update: list[Values]
    renew: list[Values]
    delete: list[Values]
    insert: list[Values]


def _sorted_out(
    changes: Iterable[Change], unchanged: Iterable[tuple[Key[Any], int]]
) -> list[tuple[Table[Any], list[tuple[str, list[Values]]]]]:
    tables: dict[Table[Any], Work] = {}
    for key, rev in unchanged:
        work = tables.get(key.table) or tables.setdefault(key.table, Work([], [], [], [], [], []))
        (work.unchanged if rev else work.absent).append((*key.parts, rev))
    for change in changes:
        key, row = change.key, change.row
        work = tables.get(key.table) or tables.setdefault(key.table, Work([], [], [], [], [], []))
        if row is None:
            work.delete.append((*key.parts, change.rev))
        elif not change.rev:
            work.insert.append(key.parts + astuple(row))
        else:
            (work.renew if change.renewed else work.update).append((*key.parts, change.rev, *astuple(row)))
    found = []
    for table in sorted(tables, key=lambda each: each.place):
        work = tables[table]
        if sum(map(bool, (work.unchanged, work.update, work.renew, work.delete))) > 1:
            # Locked first, all in one order: two batches of which each changes what the other has read, or deletes what the other
            # updates, would wait for one another.
            size = len(table.key_columns) + 1
            changed = [values[:size] for values in (*work.update, *work.renew, *work.delete)]
            kinds = [("lock", [*work.unchanged, *changed])]
        else:
            kinds = [("unchanged", work.unchanged)]
        kinds += [("absent", work.absent), ("update", work.update), ("renew", work.renew), ("delete", work.delete), ("insert", work.insert)]
        present = [(kind, sorted(rows, key=_key_of(table))) for kind, rows in kinds if rows]
        found.append((table, present))
    return found


def _key_of(table: Table[Any]) -> Any:
    return itemgetter(*range(len(table.key_columns)))


def _inserts(shape: Iterable[tuple[Table[Any], Sequence[str]]]) -> bool:
    return any("insert" in kinds and table.kind != "log" for table, kinds in shape)


def _change_sql(sql: TableSql, kind: str, numbers: _Numbers, first: str) -> str:
    table = sql.table
    if kind == "insert":
        version = f", {first}" if sql.versioned else ""
        names = ", ".join([*table.columns, *(["rev"] if sql.versioned else [])])
        return f"insert into {sql.name} ({names}) select {_list(table.columns, 'u')}{version} from {numbers.unnest(table.columns, sql.types)} returning 1"
    here = sql.on(table.key_columns) + f" and {sql.rev} = u._rev"
    columns, types = [*table.key_columns, "_rev"], {**sql.types, "_rev": "bigint"}
    if kind == "delete":
        return f"delete from {sql.name} t using {numbers.unnest(columns, types)} where {here} returning 1"
    if kind == "absent":
        given = numbers.unnest(columns, types)
        return f"select 1 from {given} where not exists (select 1 from {sql.name} t where {sql.on(table.key_columns)})"
    if kind in {"unchanged", "lock"}:
        lock = "for share" if kind == "unchanged" else "for no key update"
        return f"select 1 from {numbers.unnest(columns, types)} join {sql.name} t on {here} {lock} of t"
    fixed = () if kind == "renew" else table.fixed
    sets = ", ".join([*(f"{field} = u.{field}" for field in sql.fields if field not in fixed), "rev = t.rev + 1"])
    given = numbers.unnest([*columns, *sql.fields], types)
    return f"update {sql.name} t set {sets} from {given} where {here} returning 1"


def _ranged(sql: TableSql, scan: Scan[Any], values: _Numbers) -> str:
    index = scan.index
    after, upto = scan.after or (), scan.upto or ()
    where = _where(
        index.where_sql,
        [f"t.{column} = {values.mark(value)}" for column, value in zip(index.prefix, scan.prefix, strict=True)],
        (index.order[: len(after)], [values.mark(value) for value in after]),
        (index.order[: len(upto)], [values.mark(value) for value in upto]),
        backwards=scan.backwards,
    )
    order = ", ".join(f"t.{column}{' desc' if scan.backwards else ''}" for column in index.order)
    return f"select {_list(index.table.columns, 't')}, {sql.rev} from {sql.name} t{where} order by {order}"


def _where(
    condition: str, fixed: list[str], after: tuple[Sequence[str], list[str]], upto: tuple[Sequence[str], list[str]], *, backwards: bool
) -> str:
    terms = list(fixed)
    beyond, within = ("<", ">=") if backwards else (">", "<=")
    for (columns, marks), way in ((after, beyond), (upto, within)):
        if columns:
            terms.append(f"({_list(columns, 't')}) {way} ({', '.join(marks)})")
    if condition:
        terms.append(f"({condition})")
    return f" where {' and '.join(terms)}" if terms else ""


def _list(columns: Iterable[str], source: str) -> str:
    return ", ".join(f"{source}.{column}" for column in columns)


def _columns(names: Sequence[Any], rows: Sequence[Values]) -> list[list[Any]]:
    """Return rows as columns, an empty one for each name when there are none."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]


def by_table(keys: Iterable[Key[Any]]) -> dict[Table[Any], list[Key[Any]]]:
    """Return keys by their tables, both in the order in which rows are locked."""
    found: dict[Table[Any], list[Key[Any]]] = {}
    for key in keys:
        found.setdefault(key.table, []).append(key)
    return {table: sorted(found[table], key=lambda key: key.parts) for table in sorted(found, key=lambda table: table.place)}


def by_shape(scans: Iterable[Scan[Any]]) -> dict[Any, list[Scan[Any]]]:
    """Return scans by what their statements have in common."""
    found: dict[Any, list[Scan[Any]]] = {}
    for scan in scans:
        found.setdefault((scan.index, len(scan.after or ()), len(scan.upto or ())), []).append(scan)
    return found
