"""What one transaction sees: committed rows, the changes of those before it in the batch, and its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from perdure.clock import Micros
from perdure.core.backend import BatchConflict, Change, Found, ScanPage, Ticks, Wanted
from perdure.core.table import AnyRow, Index, Key, RowT, Scalar, Scan, Table
from perdure.errors import TransactionRefused

_MISSING: Final[Any] = object()
_Overlay = dict[tuple[Scalar, ...], set[Key[Any]]]
_ScanId = tuple[Index[Any], tuple[Scalar, ...], tuple[Scalar, ...] | None, tuple[Scalar, ...] | None]


class Unread(BaseException):  # a decision that catches Exception must not take it for an error of its own
    """A decision looked at something that is not loaded: it is read, and the decision is made again."""

    def __init__(self, what: Key[Any] | Scan[Any]) -> None:
        super().__init__(what)
        self.what = what


class ReadFailed(BaseException):  # see Unread; the decision is not at fault
    """The backend failed while a decision was being made."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class View:
    """The rows of one batch in memory. One batch of n transactions is n batches of one: results and tables alike.

    Source: architecture.md, "The core idea".
    """

    def __init__(
        self,
        *,
        now: Micros,
        last_tick: int,
        read_now: Callable[[Wanted], Found | None] = lambda _wanted: None,
        ticks: Ticks = Ticks(),  # noqa: B008  # it is a constant
    ) -> None:
        self.now: Final = now
        self._read_now = read_now
        self.last_tick = last_tick
        self.certain = True
        self._ticks = ticks
        self._rows: dict[Key[Any], Any] = {}
        self._revs: dict[Key[Any], int] = {}
        self._loaded: list[Iterable[Key[Any]]] = []
        self._dirty: dict[Key[Any], None] = {}
        self._renewed: set[Key[Any]] = set()
        self._pages: dict[_ScanId, ScanPage] = {}
        self._overlays: dict[Table[Any], dict[Index[Any], _Overlay]] = {}
        self._undo: list[tuple[Key[Any], Any, bool]] = []
        self._tick_before = last_tick
        self._refused: TransactionRefused | None = None
        self._counts: dict[str, int] = {}
        self._counts_before: dict[str, int] | None = None
        self._signals: dict[str, None] = {}
        self._signals_before = 0
        self._touched = False

    # --- what decisions use --------------------------------------------------------------------

    def tick(self) -> int:
        """Return a number that grows with every call on every node: registration order, message order."""
        slot, slots = self._ticks
        least = max(self.now, self.last_tick + 1)
        self.last_tick = least + (slot - least) % slots
        return self.last_tick

    def get(self, key: Key[RowT]) -> RowT | None:
        """Return the row, or None. A key that was not read is read now; it is never taken for absent."""
        row: RowT | None
        try:
            row = self._rows[key]
        except KeyError:
            self._fetch(key)
            row = self._rows[key]
        return row

    def scan(self, scan: Scan[RowT]) -> Sequence[tuple[Key[RowT], RowT]]:
        """Return the rows in index order, as if the transactions before had been committed; never short because of the batch."""
        assert not scan.backwards, f"{scan.index.name}: only lists are read backwards"
        if scan.guard is not None:
            self.get(scan.guard)
        page = self._pages.get(_scan_id(scan))
        if page is None:
            self._fetch(scan)
            page = self._pages[_scan_id(scan)]
        rows, dirty, order_of = self._rows, self._dirty, scan.index.order_of
        found = [(order_of(key.parts, rows[key]), key) for key in page.keys if key not in dirty]
        for key in self._overlay(scan.index).get(scan.prefix, ()):
            if key not in dirty:  # a transaction that was rolled back had changed it
                continue
            place = order_of(key.parts, rows[key])
            # Beyond what was loaded, rows that are not known here may come first.
            if _within(place, scan) and (page.whole or place <= page.last):
                found.append((place, key))
        found.sort(key=_place)
        if len(found) < scan.limit and not page.whole:
            self._fetch(msgspec.structs.replace(scan, limit=2 * page.limit + scan.limit))
            return self.scan(scan)
        return [(key, rows[key]) for _, key in found[: scan.limit]]

    def insert(self, key: Key[RowT], row: RowT, *, unseen: bool = False) -> None:
        """Add a row that `get` answered None for; a log row needs no `get`.

        `unseen`: another row tells that this one cannot be there, so it was not asked for. If it is there all the same, the
        database refuses the transaction.
        """
        before = self._rows.get(key, _MISSING)
        if key.table.kind != "log":
            assert before is None or (unseen and before is _MISSING), f"{key.table.name}: insert without a look at {key.parts}"
        elif before is not None and before is not _MISSING and self._refused is None:
            self._refused = TransactionRefused(f"{key.table.name} {key.parts}: the row exists; a log row is written once")
        if key.table.fixed and key in self._revs:
            self._renewed.add(key)
        self._set(key, before, row)

    def update(self, key: Key[RowT], row: RowT) -> None:
        """Replace a row that `get` or `scan` returned."""
        before = self._rows.get(key)
        assert before is not None, f"{key.table.name}: update without a row at {key.parts}"
        assert key.table.kind != "log", f"{key.table.name} is a log; its rows are never changed"
        self._set(key, before, row)

    def delete(self, key: Key[RowT]) -> None:
        """Remove a row that `get` or `scan` returned."""
        before = self._rows.get(key)
        assert before is not None, f"{key.table.name}: delete without a row at {key.parts}"
        self._set(key, before, None)

    def count(self, counter: str, delta: int) -> None:
        """Add to an exact counter, kept in the writer's own row and summed over writers when it is read."""
        if self._counts_before is None:
            self._counts_before = dict(self._counts)
        self._counts[counter] = self._counts.get(counter, 0) + delta

    def signal(self, topic: str) -> None:
        """Wake whoever waits for `topic`, after the commit and only then; a hint, said once per batch."""
        self._signals[topic] = None

    def touch(self) -> None:
        """Let the batch be committed even if nothing changes, which renews the lease of its writer."""
        self._touched = True

    # --- what the writer uses --------------------------------------------------------------------

    def begin(self) -> None:
        """Make what was decided so far permanent in this view: the next rollback ends here."""
        self._undo.clear()
        self._refused = None
        self._tick_before = self.last_tick
        self._counts_before = None
        self._signals_before = len(self._signals)

    def end(self) -> None:
        """Raise TransactionRefused if a log row that was inserted since `begin` exists.

        Not at the insert: a row that only the database knows is found after the last decision, and a rejection comes first.
        """
        if self._refused is not None:
            raise self._refused

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        for key, row, was_dirty in reversed(self._undo):
            self._unset(key, row)
            if not was_dirty:
                del self._dirty[key]
        self._undo.clear()
        self.last_tick = self._tick_before
        if self._counts_before is not None:
            self._counts, self._counts_before = self._counts_before, None
        while len(self._signals) > self._signals_before:
            self._signals.popitem()

    def load(self, found: Found) -> None:
        """Take in what the backend read. Rows that this batch has read or changed already stay as they are."""
        rows, revs = self._rows, self._revs
        self.last_tick = max(self.last_tick, found.last_tick)  # what was read now may have a tick that nobody had given out before
        self.certain = self.certain and found.certain
        self._loaded.append(found.keys)
        for key in found.keys:
            if key not in rows:
                entry = found.rows.get(key)
                if entry is None:
                    rows[key] = None
                else:
                    revs[key], rows[key] = entry
        for scan, page in found.pages:
            self._pages[_scan_id(scan)] = page
            self._loaded.append(page.keys)
            for key in page.keys:
                if key not in rows:
                    revs[key], rows[key] = found.rows[key]
                elif rows[key] is None and key not in self._dirty:
                    raise BatchConflict(f"{key.table.name} {key.parts} was absent and is not any more")

    def looked(self) -> Iterable[Key[Any]]:
        """Return the keys of everything that was read."""
        return itertools.chain.from_iterable(self._loaded)

    def changes(self) -> list[Change]:
        """Return the rows to write, each with the version that it was decided on."""
        revs, rows, renewed = self._revs, self._rows, self._renewed
        found = []
        for key in self._dirty:
            row, rev = rows[key], revs.get(key, 0)
            if rev or row is not None:
                found.append(Change(key, rev, row))
        return [msgspec.structs.replace(change, renewed=change.key in renewed) for change in found] if renewed else found

    def unchanged(self) -> list[tuple[Key[Any], int]]:
        """Return the rows that were read and stay, those that were absent at 0 if it matters; a backend without locks checks that they did."""
        revs, dirty = self._revs, self._dirty
        found = [(key, rev) for key, rev in revs.items() if key not in dirty and key.table.kind != "log"]
        if not self.certain:
            found += [(key, 0) for key, row in self._rows.items() if row is None and key not in dirty and key not in revs]
        return found

    def existing(self) -> set[Key[Any]]:
        """Return the rows that were read and exist, as far as another node may change them."""
        return {key for key in self._revs if key.table.kind != "log"}

    def counts(self) -> dict[str, int]:
        """Return the counters' changes."""
        return {name: delta for name, delta in self._counts.items() if delta}

    @property
    def touched(self) -> bool:
        """Whether it has to be committed."""
        return self._touched

    def signals(self) -> tuple[str, ...]:
        """Return the topics to wake."""
        return tuple(self._signals)

    def _fetch(self, what: Key[Any] | Scan[Any]) -> None:
        try:
            found = self._read_now(Wanted((what,), ()) if type(what) is Key else Wanted((), (what,)))  # type: ignore[arg-type]
        except Exception as error:
            raise ReadFailed(error) from error
        if found is None:
            raise Unread(what)
        self.load(found)

    # --- inside ----------------------------------------------------------------------------------

    def _set(self, key: Key[Any], before: Any, row: AnyRow | None) -> None:
        dirty = self._dirty
        if key in dirty:
            self._undo.append((key, before, True))
        else:
            self._undo.append((key, before, False))
            dirty[key] = None
        self._rows[key] = row
        if self._overlays and key.table in self._overlays:
            self._move(key, before, row)

    def _unset(self, key: Key[Any], before: Any) -> None:
        if key.table in self._overlays:
            self._move(key, self._rows.get(key), before)
        if before is _MISSING:
            del self._rows[key]
        else:
            self._rows[key] = before

    def _move(self, key: Key[Any], before: Any, after: Any) -> None:
        for index, overlay in self._overlays[key.table].items():
            _move(index, overlay, key, before=before, after=after)

    def _overlay(self, index: Index[Any]) -> _Overlay:
        """The keys changed in this batch that now belong to the index, by prefix; made at the first scan, kept up by `_set`."""
        overlays = self._overlays.setdefault(index.table, {})
        overlay = overlays.get(index)
        if overlay is None:
            overlay = overlays[index] = {}
            for key in self._dirty:
                if key.table is index.table:
                    _move(index, overlay, key, before=None, after=self._rows[key])
        return overlay


def _place(found: tuple[tuple[Any, ...], Key[Any]]) -> tuple[Any, ...]:
    return found[0]


def _scan_id(scan: Scan[Any]) -> _ScanId:
    return scan.index, scan.prefix, scan.after, scan.upto


def _within(place: tuple[Any, ...], scan: Scan[Any]) -> bool:
    if scan.after is not None and place[: len(scan.after)] <= scan.after:
        return False
    return scan.upto is None or place[: len(scan.upto)] <= scan.upto


def _move(index: Index[Any], overlay: _Overlay, key: Key[Any], *, before: Any, after: Any) -> None:
    where = index.where
    for row, present in ((before, False), (after, True)):
        if row is not None and row is not _MISSING and (where is None or where(row)):
            keys = overlay.setdefault(index.prefix_of(key.parts, row), set())
            if present:
                keys.add(key)
            else:
                keys.discard(key)
