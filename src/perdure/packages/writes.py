"""Pure decisions about packages: how an archive comes into the store, who needs it, and how it goes.

Source: packages.md, "Deploy" and "Pins".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Index, Key, Read, Scan
from perdure.core.view import View
from perdure.errors import ArchiveConflict, PackageMissing, PackagePinned, PackageRouted, PinHolder
from perdure.packages.contract import Action, Deployed, Unloaded
from perdure.packages.routes import By, point, replace
from perdure.packages.tables import (
    OF_PACKAGE,
    PACKAGE,
    ROUTE,
    ROUTED,
    RULED,
    TYPE,
    UPLOAD,
    UPLOADS,
    PackageRow,
    TypeRow,
)
from perdure.uploads import UploadRow, check_whole

STORED_TOPIC: Final = "packages-stored"
"""Signalled when an archive is there that was not, or was another: whoever could not go on without it may try again."""


class PinIndex(NamedTuple):
    """How to find who needs a package: rows by package hash, and whom such a row stands for. The store knows that, this room does not."""

    path: Index[Any]
    holder: Callable[[Key[Any], Any], PinHolder]

    def of(self, content_hash: str, limit: int, after: tuple[Any, ...] | None = None) -> Scan[Any]:
        """Return the scan of a package's holders. Who adds one has called `hold`."""
        return Scan(self.path, (content_hash,), limit, after=after, guard=PACKAGE.key(content_hash))


# --- for whoever starts processes -----------------------------------------------------------------------------


def hold(view: View, content_hash: str) -> None:
    """See that a package is stored, in the transaction that makes a process need it: one that starts, restarts after its end, or moves.

    As a rule the package is only read, so that nodes which start processes of one package do not get in each other's way. It is
    written only while somebody is about to remove it, who finds that, and looks again. See `Unload`.

    Raises:
        PackageMissing: it is not stored.

    Source: packages.md, "Pins".
    """
    key = PACKAGE.key(content_hash)
    row = view.get(key)
    if row is None:
        raise PackageMissing(content_hash)
    if row.unloading:
        view.update(key, replace(row, unloading=0))


# --- putting -------------------------------------------------------------------------------------------------------


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that is whole: its parts, the bytes in them, and how they are packed."""

    upload_id: str
    parts: int
    stored: int
    codec: str

    @property
    def key(self) -> Key[UploadRow]:
        """The key of the upload."""
        return UPLOAD.key(self.upload_id)


class ArchiveGone(Exception):
    """Bytes that were there when a put began are not any more; nothing was written, and they have to be uploaded."""


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """Store an archive for some types, and point some routes at it. With nothing `staged` these very bytes should be there already.

    `replaces` is the SHA-256 of the archive that may be replaced, None for none. `damaged` is the upload of an archive with these
    very bytes of which some are lost: what is staged takes its place.
    """

    content_hash: str
    types: tuple[str, ...]
    routes: tuple[str, ...]
    deployed_at: Micros
    sha256: str
    size: int
    staged: Staged | None
    by: By
    kinds: Mapping[str, str] = {}
    needs: str | None = None
    replaces: str | msgspec.UnsetType | None = msgspec.UNSET
    damaged: str = ""

    def reads(self) -> Iterable[Read]:
        """Name the package, its types, the routes and the upload."""
        yield PACKAGE.key(self.content_hash)
        yield from (TYPE.key(each, self.content_hash) for each in self.types)
        yield from (ROUTE.key(each) for each in self.routes)
        if self.staged is not None:
            yield self.staged.key

    def decide(self, view: View) -> Deployed:
        """Return what has changed. Raises ArchiveGone, UploadLost, ArchiveConflict."""
        key = PACKAGE.key(self.content_hash)
        before = view.get(key)
        there = before is not None and (before.sha256, before.size) == (self.sha256, self.size)
        if not there and self.replaces not in {msgspec.UNSET, None if before is None else before.sha256}:
            raise ArchiveConflict(f"package {self.content_hash}: its archive is another by now; look at it again, and decide again")
        if self.staged is None and not there:
            raise ArchiveGone
        row = self._stored(view, before, there=there)
        added = [each for each in self.types if self._add(view, each)]
        needs = row.needs if self.needs is None else self.needs
        row = replace(row, types=row.types + len(added), used_at=view.now, changed=view.tick(), unloading=0, needs=needs)
        if before is None:
            view.insert(key, row)
        else:
            view.update(key, row)
        changed = tuple(each for each in self.routes if self._point(view, each))
        for each in self.types:
            if each not in self.routes:
                self.by.record(view, each, Action.STORED, content_hash=self.content_hash)
        if before is None or row.upload_id != before.upload_id:
            view.signal(STORED_TOPIC)
        return Deployed(freshly_stored=not there, routes_changed=changed)

    def _stored(self, view: View, before: PackageRow | None, *, there: bool) -> PackageRow:
        """Return the row with the bytes that are its from now on; what is left over goes with the next sweep."""
        if self.staged is None:
            assert before is not None, "nothing was uploaded because it is there"
            return before
        upload = view.get(self.staged.key)
        check_whole(self.staged.key, upload, self.staged.parts)
        assert upload is not None, "it was just checked"
        if before is not None and there and before.upload_id != self.damaged:
            UPLOADS.leave(view, self.staged.key, upload)
            return before
        view.delete(self.staged.key)
        if before is not None:
            _leave_archive(view, before)
        return PackageRow(
            size=self.size,
            stored=self.staged.stored,
            codec=self.staged.codec,
            sha256=self.sha256,
            upload_id=self.staged.upload_id,
            parts=self.staged.parts,
            types=0 if before is None else before.types,
            used_at=view.now,
            changed=0,
        )

    def _add(self, view: View, workflow_type: str) -> bool:
        """List the package for a type, and return whether it was not."""
        key = TYPE.key(workflow_type, self.content_hash)
        before = view.get(key)
        row = TypeRow(self.deployed_at, self.kinds.get(workflow_type, None if before is None else before.kinds))
        if before is None:
            view.insert(key, row)
        else:
            view.update(key, row)
        return before is None

    def _point(self, view: View, workflow_type: str) -> bool:
        pointed = point(view, workflow_type, self.content_hash)
        self.by.record(view, workflow_type, Action.DEPLOYED, content_hash=self.content_hash, previous=pointed.before)
        return pointed.changed


def _leave_archive(view: View, row: PackageRow) -> None:
    UPLOADS.leave_whole(view, UPLOAD.key(row.upload_id), row.parts)


# --- removing --------------------------------------------------------------------------------------------------------


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a package from a type; with its last type, the archive."""

    workflow_type: str
    content_hash: str
    by: By

    def reads(self) -> Iterable[Read]:
        """Name both rows."""
        yield PACKAGE.key(self.content_hash)
        yield TYPE.key(self.workflow_type, self.content_hash)

    def decide(self, view: View) -> bool:
        """Return whether it was there."""
        package, key = PACKAGE.key(self.content_hash), TYPE.key(self.workflow_type, self.content_hash)
        if view.get(key) is None:
            return False
        row = view.get(package)
        assert row is not None, "whoever is listed for a type is stored"
        view.delete(key)
        if row.types > 1:
            view.update(package, replace(row, types=row.types - 1, changed=view.tick()))
        else:
            view.delete(package)
            _leave_archive(view, row)
        self.by.record(view, self.workflow_type, Action.DELETED, content_hash=self.content_hash)
        return True


class NotUnloaded(StrEnum):
    """Why a package stays for now."""

    ANNOUNCED = "announced"  # everybody can know now that it is to go; decide again
    IN_USE = "in use"  # not long enough unused


class Unload(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a package that nobody needs; with `dry_run`, only tell what would be removed now.

    Who needs it is a range of other rows, and whoever adds to that has only read the package's row, not written it: such a
    commit may come between the look at the range and the removal, and would not be noticed. So the first time it is only
    said, in the package's row, that it is to go. Who has read the row before that either commits before it, and is found when
    this is decided again, or has to read again, and then takes the word back (`hold`, `use`), which is noticed. To remove it is one
    transaction; a word that nobody acts upon, because its speaker has died, does no harm.
    """

    content_hash: str
    pins: PinIndex
    unused_until: Micros | None = None
    action: Action = Action.UNLOADED
    dry_run: bool = False
    by: By

    def reads(self) -> Iterable[Read]:
        """Name the package and who may need it."""
        yield PACKAGE.key(self.content_hash)
        yield self._pinned

    @property
    def _pinned(self) -> Scan[Any]:
        return self.pins.of(self.content_hash, limits.PACKAGE_PINS_SHOWN + 1)

    def decide(self, view: View) -> Unloaded | NotUnloaded:
        """Return what is gone, or why it is not. Raises PackageMissing, PackageRouted, PackagePinned."""
        key = PACKAGE.key(self.content_hash)
        row = view.get(key)
        if row is None:
            raise PackageMissing(self.content_hash)
        if self.unused_until is not None and row.used_at > self.unused_until:
            return NotUnloaded.IN_USE
        self._check(view)
        if not row.unloading and not self.dry_run:
            view.update(key, replace(row, unloading=1))
            return NotUnloaded.ANNOUNCED
        gone: list[str] = []
        while rows := view.scan(Scan(OF_PACKAGE, (self.content_hash,), limits.READ_PAGE, after=tuple(gone[-1:]) or None, guard=key)):
            gone += [str(each.parts[0]) for each, _ in rows]
            for each, _ in () if self.dry_run else rows:
                view.delete(each)
        if self.dry_run:
            return Unloaded(content_hash=self.content_hash, workflow_types=tuple(gone), size=row.size)
        view.delete(key)
        _leave_archive(view, row)
        for workflow_type in gone:
            self.by.record(view, workflow_type, self.action, content_hash=self.content_hash)
        return Unloaded(content_hash=self.content_hash, workflow_types=tuple(gone), size=row.size)

    def _check(self, view: View) -> None:
        """Raise PackageRouted, PackagePinned."""
        guard, most = PACKAGE.key(self.content_hash), limits.PACKAGE_TYPES_SHOWN
        defaults = view.scan(Scan(ROUTED, (self.content_hash,), most, guard=guard))
        rules = view.scan(Scan(RULED, (self.content_hash,), most, guard=guard))
        leading: list[Key[Any]] = [*(each for each, _ in defaults), *(each for each, _ in rules)]
        if routed := sorted({str(each.parts[0]) for each in leading}):
            raise PackageRouted(self.content_hash, routed[:most])
        if found := view.scan(self._pinned):
            raise pinned(self.content_hash, [self.pins.holder(*each) for each in found], more=len(found) > limits.PACKAGE_PINS_SHOWN)


def pinned(content_hash: str, holders: list[PinHolder], *, more: bool) -> PackagePinned:
    """Return the refusal that names who needs a package."""
    return PackagePinned(content_hash, counts=counted(holders), holders=holders[: limits.PACKAGE_PINS_SHOWN], more=more)


def counted(holders: Iterable[PinHolder]) -> dict[str, int]:
    """Return how many there are, by status."""
    counts: dict[str, int] = {}
    for holder in holders:
        counts[holder.status] = counts.get(holder.status, 0) + 1
    return dict(sorted(counts.items()))
