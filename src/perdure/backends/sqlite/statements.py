"""SQL for tables, indexes and scans, made once each.

Names come from the rooms' own declarations, values are always bound.
"""
# ruff: noqa: S608  # see above

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from perdure.backends.rows import blobs_of, row_maker, weight_of
from perdure.core.table import AnyRow, Key, Scan, Table

Values = tuple[Any, ...]
astuple = msgspec.structs.astuple


class TableSql:
    """The statements of one table, and how its rows are made of values.

    A log table has no `rev`: its rows are never changed, so their version is always 1.
    """

    def __init__(self, table: Table[Any]) -> None:
        keys, fields = table.key_columns, table.row.__struct_fields__
        self.table = table
        self.cached = table.kind != "log"
        self._size = len(keys)
        self._row = row_maker(table.row)
        self.blobs = blobs_of(table.row)
        self._scans: dict[tuple[Any, int, int, bool], str] = {}
        rev = "rev" if self.cached else "1"
        here = " AND ".join(f"{column}=?" for column in keys)
        self._all = ",".join([*table.columns, rev])
        # Without blanks: apsw looks a statement up by its text, for every row.
        self.get = f"SELECT {','.join([*fields, rev])} FROM {table.name} WHERE {here}"
        names = [*table.columns, "rev"] if self.cached else list(table.columns)
        marks = ["?"] * len(table.columns) + ["1"] * self.cached
        self.insert = f"INSERT INTO {table.name}({','.join(names)})VALUES({','.join(marks)})"
        # Numbered: what is fixed is bound like the rest of the row, and not used.
        sets = {field: f"{field}=?{n}" for n, field in enumerate(fields, 1)}
        sets["rev"] = "rev=rev+1"
        found = " AND ".join(f"{column}=?{n}" for n, column in enumerate(keys, len(fields) + 1))
        there = f"{found} AND rev=?{len(fields) + len(keys) + 1}"
        self.renew = f"UPDATE {table.name} SET {','.join(sets.values())} WHERE {there}"
        self.update = f"UPDATE {table.name} SET {','.join(sets[field] for field in sets if field not in table.fixed)} WHERE {there}"
        self.indexed = attrgetter(*table.indexed) if table.indexed else None
        steady = {*table.fixed, *table.indexed}  # SQLite writes an index anew when an update names what it looks at, changed or not
        self.keep = f"UPDATE {table.name} SET {','.join(sets[field] for field in sets if field not in steady)} WHERE {there}"
        self.delete = f"DELETE FROM {table.name} WHERE {here} AND {rev}=?"
        self.count = f"SELECT count(*) FROM {table.name}"

    def scan(self, scan: Scan[Any], limit: int) -> tuple[str, Values]:
        """Return the statement of a scan, and its values."""
        after, upto = scan.after or (), scan.upto or ()
        shape = (scan.index, len(after), len(upto), scan.backwards)
        sql = self._scans.get(shape)
        if sql is None:
            sql = self._scans[shape] = self._scan_sql(scan, len(after), len(upto))
        return sql, (*scan.prefix, *after, *upto, limit)

    def entry(self, values: Values) -> tuple[int, AnyRow]:
        """Return version and row of what `get` selected."""
        return values[-1], self._row(values[:-1])

    def keyed(self, values: Values) -> tuple[Key[Any], tuple[int, AnyRow]]:
        """Return key, version and row of what a scan selected."""
        return Key(self.table, values[: self._size]), self.entry(values[self._size :])

    def weight(self, row: AnyRow) -> int:
        """Return the bytes of a row's blobs."""
        return weight_of(row, self.blobs)

    def _scan_sql(self, scan: Scan[Any], after: int, upto: int) -> str:
        index = scan.index
        terms = [f"{column} = ?" for column in index.prefix]
        beyond, within, way = ("<", ">=", " DESC") if scan.backwards else (">", "<=", "")
        if after:
            terms.append(f"{_together(index.order[:after])} {beyond} {_together('?' * after)}")
        if upto:
            terms.append(f"{_together(index.order[:upto])} {within} {_together('?' * upto)}")
        if index.where_sql:
            terms.append(f"({index.where_sql})")
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        # The planner has no statistics and could prefer another path, with a sort: it is told which one.
        path = "" if index.name == self.table.name else f" INDEXED BY {index.name}"
        order = ", ".join(column + way for column in index.order)
        return f"SELECT {self._all} FROM {self.table.name}{path}{where} ORDER BY {order} LIMIT ?"


class Statements(dict[Table[Any], TableSql]):
    """The statements of all tables, made when they are used first."""

    def __missing__(self, table: Table[Any]) -> TableSql:
        sql = self[table] = TableSql(table)
        return sql


def _together(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"({', '.join(columns)})"
