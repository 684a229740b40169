"""The facade of packages: checks at the door, then one transaction or one read. Archives come in parts before that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits, uploads
from perdure.clock import Micros, datetime_of
from perdure.core.access import Access
from perdure.core.table import Index, Key, RowT, Scan
from perdure.core.write import Write
from perdure.errors import (
    PackageAmbiguous,
    PackageMissing,
    PackagePinned,
    PackageRouted,
    PinHolder,
    StoreBusy,
    StoreCorrupt,
    UsageError,
)
from perdure.identity import TenantId, checked_count
from perdure.packages.arguments import (
    checked_by,
    checked_duration,
    checked_hash,
    checked_kinds,
    checked_log,
    checked_needs,
    checked_place,
    checked_prefix,
    checked_record,
    checked_type,
    checked_types,
    instant_of,
)
from perdure.packages.contract import (
    UNKNOWN_ACTOR,
    Action,
    Deployed,
    Deployment,
    Needs,
    PackageInfo,
    PackagePins,
    PackagePlace,
    PackageRecord,
    PackageRouteRecord,
    RouteRule,
    StoredPackage,
    Unloaded,
)
from perdure.packages.packing import digest_of, pack, unpack
from perdure.packages.routes import PutRoute, Retire, Rollback, SetTenantRule, SetWeight, default_of, default_rules, weighted
from perdure.packages.tables import (
    DEPLOYMENTS,
    OF_PACKAGE,
    PACKAGE,
    PACKAGES,
    PART,
    ROUTE,
    ROUTES,
    RULES,
    TYPES,
    UPLOADS,
    VERSIONS,
    LogRow,
    PackageRow,
    RouteRow,
    RuleKind,
    RuleRow,
    TypeRow,
)
from perdure.packages.writes import (
    ArchiveGone,
    Delete,
    NotUnloaded,
    PinIndex,
    Put,
    Staged,
    Unload,
    counted,
)
from perdure.uploads import Upload

_HASH_DIGITS: Final = 64
BuiltWith = Mapping[str, Any] | None
replace = msgspec.structs.replace


class _Whole(NamedTuple):
    """A package as of one moment: for which types it was put, and when; and its archive."""

    types: list[tuple[str, Micros]]
    archive: bytes


class Packages:
    """The packages of one open store; a `PackageStore`."""

    def __init__(self, access: Access, pins: PinIndex) -> None:
        self._access = access
        self._pins = pins
        self._uploads = asyncio.Semaphore(limits.PACKAGE_UPLOADS)

    # --- what the seed has ---------------------------------------------------------------------------

    async def put_package(self, record: PackageRecord, *, actor: str = UNKNOWN_ACTOR, built_with: BuiltWith = None) -> None:
        """See `PackageStore.put_package`."""
        await self.deploy(record, actor=actor, built_with=built_with)

    async def put_package_with_routes(
        self, record: PackageRecord, workflow_types: Sequence[str], *, actor: str = UNKNOWN_ACTOR, built_with: BuiltWith = None
    ) -> None:
        """See `PackageStore.put_package_with_routes`."""
        await self.deploy(record, routes=workflow_types, actor=actor, built_with=built_with)

    async def deploy(
        self,
        record: PackageRecord,
        workflow_types: Sequence[str] = (),
        *,
        routes: Sequence[str] | None = None,
        kinds: Mapping[str, Iterable[str]] | None = None,
        needs: Needs | None = None,
        also: Sequence[Write[Any]] = (),
        replaces: str | msgspec.UnsetType | None = msgspec.UNSET,
        actor: str = UNKNOWN_ACTOR,
        built_with: BuiltWith = None,
    ) -> Deployed:
        """See `PackageStore.deploy`."""
        record = checked_record(record)
        types = tuple(dict.fromkeys([record.workflow_type, *checked_types(workflow_types, what="workflow_types")]))
        put = Put(
            content_hash=record.content_hash,
            types=types,
            routes=types if routes is None else checked_types(routes, what="routes"),
            deployed_at=instant_of(record.deployed_at),
            sha256="",
            size=len(record.archive),
            staged=None,
            by=checked_by(actor, built_with),
            kinds=checked_kinds(kinds or {}),
            needs=checked_needs(needs),
            replaces=replaces if replaces is None or isinstance(replaces, msgspec.UnsetType) else checked_hash(replaces),
        )
        size = checked_log((*put.types, *put.routes), put.by)
        put = replace(put, sha256=await digest_of(record.archive))
        damaged = ""

        async def commit(staged: Staged | None) -> Deployed:
            results = await self._access.writer.commit(replace(put, staged=staged, damaged=damaged), *also, size=size)
            done: Deployed = results[0]
            return done

        there = await self._access.reader.get(PACKAGE.key(put.content_hash))
        if there is not None and (there.sha256, there.size) == (put.sha256, put.size):
            if await self._archive(there) is not None:
                with contextlib.suppress(ArchiveGone):  # it was removed meanwhile, and comes again
                    return await commit(None)
            else:
                damaged = there.upload_id
        async with self._uploads:
            return await self._uploaded(record.archive, commit)

    async def _uploaded(self, archive: bytes, commit: Callable[[Staged], Awaitable[Deployed]]) -> Deployed:
        """Store an archive, each part a transaction of its own, and then what makes it visible."""
        packed, upload = await pack(archive), Upload(self._access, UPLOADS)
        try:
            for part in packed.parts():
                await upload.add(bytes(part))
            staged = Staged(upload_id=str(upload.key.parts[0]), parts=upload.parts, stored=len(packed.data), codec=packed.codec)
            return await commit(staged)
        except Exception:
            await upload.give_up()
            raise

    async def list_packages(self) -> list[PackageRecord]:
        """See `PackageStore.list_packages`."""
        # By key: a row that is put again meanwhile changes its place in the list, but not its key.
        named = [key.parts async for key, _ in self._all(TYPES)]
        records = []
        for content_hash in dict.fromkeys(str(parts[1]) for parts in named):
            whole = await self._whole(content_hash)
            if whole is not None:
                records += [
                    PackageRecord(workflow_type=each, content_hash=content_hash, archive=whole.archive, deployed_at=datetime_of(at))
                    for each, at in whole.types
                ]
        return sorted(records, key=lambda record: (record.deployed_at, record.workflow_type, record.content_hash))

    async def delete_package(
        self, workflow_type: str, content_hash: str, *, actor: str = UNKNOWN_ACTOR, built_with: BuiltWith = None
    ) -> None:
        """See `PackageStore.delete_package`."""
        named, by = (checked_type(workflow_type), checked_hash(content_hash)), checked_by(actor, built_with)
        await self._access.writer.run(Delete(workflow_type=named[0], content_hash=named[1], by=by))

    async def put_package_route(
        self,
        workflow_type: str,
        content_hash: str,
        *,
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
        actor: str = UNKNOWN_ACTOR,
        built_with: BuiltWith = None,
    ) -> None:
        """See `PackageStore.put_package_route`."""
        write = PutRoute(
            workflow_type=checked_type(workflow_type),
            content_hash=checked_hash(content_hash),
            expected=expected if expected is None or isinstance(expected, msgspec.UnsetType) else checked_hash(expected),
            by=checked_by(actor, built_with),
        )
        await self._access.writer.run(write)

    async def list_package_routes(self) -> list[PackageRouteRecord]:
        """See `PackageStore.list_package_routes`."""
        found = [(str(key.parts[0]), default_of(row)) async for key, row in self._all(ROUTES)]
        return [PackageRouteRecord(workflow_type=each, content_hash=default) for each, default in found if default is not None]

    # --- beyond the seed: what is stored ---------------------------------------------------------------

    async def get_package(self, content_hash: str) -> StoredPackage:
        """See `PackageStore.get_package`."""
        name = checked_hash(content_hash)
        whole = await self._whole(name)
        if whole is None:
            raise PackageMissing(name)
        return StoredPackage(
            content_hash=name,
            archive=whole.archive,
            workflow_types=tuple(each for each, _ in whole.types),
            deployed_at=datetime_of(max(at for _, at in whole.types)),
        )

    async def find_package(self, prefix: str) -> str:
        """See `PackageStore.find_package`."""
        text = checked_prefix(prefix)
        if len(text) == _HASH_DIGITS:
            if await self._access.reader.get(PACKAGE.key(text)) is None:
                raise PackageMissing(text)
            return text
        # Nothing stands between the text and the first hash that begins so; each of these is less than the text with a `g`.
        rows = await self._access.reader.scan(Scan(PACKAGES, (), 2, after=(text,), upto=(f"{text}g",)))
        found = [str(key.parts[0]) for key, _ in rows]
        if not found:
            raise PackageMissing(text)
        if len(found) > 1:
            raise PackageAmbiguous(f"package {text}: the hashes of several begin so, {' and '.join(found)} among them; give more digits")
        return found[0]

    async def list_package_info(
        self, *, workflow_type: str | None = None, after: PackagePlace | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[PackageInfo]:
        """See `PackageStore.list_package_info`."""
        wanted = checked_count(limit, what="limit", most=limits.PAGE_MAX)
        of_type = None if workflow_type is None else checked_type(workflow_type)
        place = None if after is None else checked_place(after)
        found: list[PackageInfo] = []
        while len(found) < wanted:
            most = wanted - len(found)
            rows = await self._access.reader.scan(
                Scan(TYPES, (), most, after=None if place is None else (place.workflow_type, place.content_hash))
                if of_type is None
                else Scan(VERSIONS, (of_type,), most, after=None if place is None else (place.deployed_at, place.content_hash))
            )
            found += await self._infos(rows)
            if len(rows) < most:
                break
            key, row = rows[-1]
            place = PackagePlace(str(key.parts[0]), row.deployed_at, str(key.parts[1]))
        return found

    async def _infos(self, rows: Sequence[tuple[Key[TypeRow], TypeRow]]) -> list[PackageInfo]:
        """Return what is told of these rows; one whose package was removed meanwhile is left out."""
        named = [(str(key.parts[0]), str(key.parts[1]), row.deployed_at) for key, row in rows]
        reader = self._access.reader
        packages = await _by_name(reader.get_all, [PACKAGE.key(name) for name in dict.fromkeys(name for _, name, _ in named)])
        routes = await _by_name(reader.get_all, [ROUTE.key(each) for each in dict.fromkeys(each for each, _, _ in named)])
        return [
            PackageInfo(
                workflow_type=each,
                content_hash=name,
                deployed_at=datetime_of(at),
                size=packages[name].size,
                stored=packages[name].stored,
                routed=default_of(routes.get(each)) == name,
                place=PackagePlace(each, at, name),
            )
            for each, name, at in named
            if name in packages
        ]

    # --- routes and their log ------------------------------------------------------------------------------

    async def route_of(self, workflow_type: str, *, tenant: str | None = None) -> list[RouteRule]:
        """See `PackageStore.route_of`."""
        name, only = checked_type(workflow_type), None if tenant is None else str(TenantId(tenant))
        reader, key = self._access.reader, ROUTE.key(name)
        row = await reader.get(key)
        for _ in range(limits.PACKAGE_READ_TRIES):
            if row is None:
                return []
            rules = [found async for found in self._all(RULES, name)] if row.tenants or row.weights else []
            again = await reader.get(key)
            if again is not None and again.changed == row.changed:
                return _in_order(row, rules, only)
            row = again
        raise StoreBusy(f"route of {name!r}: it was changed again and again while it was read; repeat later")

    async def set_route(
        self,
        workflow_type: str,
        content_hash: str | None,
        *,
        tenant: str | None = None,
        weight: int | None = None,
        actor: str = UNKNOWN_ACTOR,
        built_with: BuiltWith = None,
    ) -> bool:
        """See `PackageStore.set_route`."""
        name, by = checked_type(workflow_type), checked_by(actor, built_with)
        leads_to = None if content_hash is None else checked_hash(content_hash)
        if tenant is not None and weight is not None:
            raise UsageError("a rule is for a tenant or has a weight, not both: a tenant's processes all follow the tenant's rule")
        run = self._access.writer.run
        if tenant is not None:
            return await run(SetTenantRule(workflow_type=name, tenant=str(TenantId(tenant)), content_hash=leads_to, by=by))
        if leads_to is None:
            raise UsageError(
                "content_hash: only a tenant's rule is taken away by None; weight=0 takes a weight away, and `retire` all rules"
            )
        if weight is None:
            return await run(PutRoute(workflow_type=name, content_hash=leads_to, stored=True, by=by))
        share = checked_count(weight, what="weight", least=0, most=limits.ROUTE_BASIS_POINTS)
        return await run(SetWeight(workflow_type=name, content_hash=leads_to, weight=share, by=by))

    async def deployments(self, workflow_type: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> list[Deployment]:
        """See `PackageStore.deployments`."""
        prefix = (checked_type(workflow_type),)
        most = checked_count(limit, what="limit", most=limits.PAGE_MAX)
        place = None if after is None else (checked_count(after, what="after", least=0, most=limits.SEQUENCE_MAX),)
        rows = await self._access.reader.scan(Scan(DEPLOYMENTS, prefix, most, after=place, backwards=True))
        return [_deployment(key, row) for key, row in rows]

    async def rollback(self, workflow_type: str, actor: str = UNKNOWN_ACTOR, *, built_with: BuiltWith = None) -> str:
        """See `PackageStore.rollback`."""
        return await self._access.writer.run(Rollback(workflow_type=checked_type(workflow_type), by=checked_by(actor, built_with)))

    async def retire(self, workflow_type: str, actor: str = UNKNOWN_ACTOR, *, built_with: BuiltWith = None) -> bool:
        """See `PackageStore.retire`."""
        return await self._access.writer.run(Retire(workflow_type=checked_type(workflow_type), by=checked_by(actor, built_with)))

    # --- who needs a package, and how it goes -----------------------------------------------------------------

    async def pins(self, content_hash: str) -> PackagePins:
        """See `PackageStore.pins`."""
        name, index = checked_hash(content_hash), self._pins.path
        holders: list[PinHolder] = []
        after: tuple[Any, ...] | None = None
        more = True
        while more and len(holders) < limits.LIST_ROWS_MAX:
            rows = await self._access.reader.scan(self._pins.of(name, limits.READ_PAGE, after))
            holders += [self._pins.holder(key, row) for key, row in rows]
            more = len(rows) == limits.READ_PAGE
            after = index.order_of(rows[-1][0].parts, rows[-1][1]) if rows else None
        if more:
            more = bool(await self._access.reader.scan(self._pins.of(name, 1, after)))
        shown = tuple(holders[: limits.PACKAGE_PINS_SHOWN])
        return PackagePins(content_hash=name, counts=counted(holders), holders=shown, more=more)

    async def unload(self, content_hash: str, actor: str = UNKNOWN_ACTOR, *, built_with: BuiltWith = None) -> Unloaded:
        """See `PackageStore.unload`."""
        write = Unload(content_hash=checked_hash(content_hash), pins=self._pins, by=checked_by(actor, built_with))
        try:
            done = await self._unload(write)
        except PackagePinned as refused:
            found = await self.pins(write.content_hash)  # the decision looks at as many as it shows
            if not found.total:
                raise
            raise PackagePinned(refused.content_hash, counts=found.counts, holders=found.holders, more=found.more) from None
        assert isinstance(done, Unloaded), "without a time nothing is in use"
        return done

    async def collect(
        self,
        *,
        keep_last: int = limits.PACKAGE_KEEP_LAST,
        older_than: timedelta,
        dry_run: bool = False,
        actor: str = UNKNOWN_ACTOR,
        built_with: BuiltWith = None,
    ) -> list[Unloaded]:
        """See `PackageStore.collect`."""
        kept = checked_count(keep_last, what="keep_last", least=0, most=limits.PACKAGE_KEEP_MAX)
        unused_until = self._access.clock.now() - checked_duration(older_than, what="older_than")
        by = checked_by(actor, built_with)
        collected = []
        for name in await self._superseded(kept):
            row = await self._access.reader.get(PACKAGE.key(name))
            if row is None or row.used_at > unused_until:
                continue
            write = Unload(content_hash=name, pins=self._pins, unused_until=unused_until, action=Action.COLLECTED, dry_run=dry_run, by=by)
            # It is needed after all, or somebody else has removed it.
            with contextlib.suppress(PackageMissing, PackagePinned, PackageRouted, StoreBusy):
                done = await self._unload(write)
                if isinstance(done, Unloaded):
                    collected.append(done)
        return collected

    async def _superseded(self, keep_last: int) -> list[str]:
        """Return the packages that are among the last of no type."""
        versions: dict[str, list[tuple[Micros, str]]] = {}
        async for key, row in self._all(TYPES):
            versions.setdefault(str(key.parts[0]), []).append((row.deployed_at, str(key.parts[1])))
        last: set[str] = set()
        oldest_first: list[tuple[Micros, str]] = []
        for each in versions.values():
            each.sort()
            last.update(name for _, name in each[max(0, len(each) - keep_last) :])
            oldest_first += each
        return [name for name in dict.fromkeys(name for _, name in sorted(oldest_first)) if name not in last]

    async def _unload(self, write: Unload) -> Unloaded | NotUnloaded:
        for _ in range(limits.PACKAGE_UNLOAD_TRIES):
            done = await self._access.writer.run(write)
            if done is not NotUnloaded.ANNOUNCED:
                return done
        raise StoreBusy(f"package {write.content_hash}: others began to use it, and ceased to, again and again; repeat later")

    # --- upkeep ------------------------------------------------------------------------------------------------

    async def sweep(self, now: Micros) -> int:
        """See `PackageStore.sweep`."""
        return await uploads.sweep(self._access, UPLOADS, now)

    async def next_due(self) -> Micros | None:
        """See `PackageStore.next_due`."""
        return await uploads.next_due(self._access, UPLOADS)

    # --- inside ------------------------------------------------------------------------------------------------

    async def _all(self, index: Index[RowT], *prefix: str) -> AsyncIterator[tuple[Key[RowT], RowT]]:
        """Yield all rows under a prefix, page by page."""
        after: tuple[Any, ...] | None = None
        while rows := await self._access.reader.scan(Scan(index, prefix, limits.READ_PAGE, after=after)):
            for each in rows:
                yield each
            if len(rows) < limits.READ_PAGE:
                return
            after = index.order_of(rows[-1][0].parts, rows[-1][1])

    async def _whole(self, content_hash: str) -> _Whole | None:
        """Return a package as of one moment; None when it is not there. Raises StoreCorrupt, StoreBusy."""
        reader, key = self._access.reader, PACKAGE.key(content_hash)
        row = await reader.get(key)
        for _ in range(limits.PACKAGE_READ_TRIES):
            if row is None:
                return None
            types = [(str(each.parts[0]), found.deployed_at) async for each, found in self._all(OF_PACKAGE, content_hash)]
            archive = await self._archive(row)
            again = await reader.get(key)
            if again is not None and again.changed == row.changed:
                if archive is None:
                    raise StoreCorrupt(
                        f"package {content_hash}: its archive is damaged; deploy it again, or restore the store from a backup"
                    )
                return _Whole(types, archive)
            row = again
        raise StoreBusy(f"package {content_hash}: it was replaced again and again while it was read; repeat later")

    async def _archive(self, row: PackageRow) -> bytes | None:
        """Return an archive; None when its parts are gone, or are not what was stored."""
        parts = []
        for number in range(row.parts):
            part = await self._access.reader.get(PART.key(row.upload_id, number))
            if part is None:
                return None
            parts.append(part.data)
        archive = await unpack(row.codec, parts, row.size)
        return archive if archive is not None and await digest_of(archive) == row.sha256 else None


async def _by_name(get_all: Callable[[Sequence[Key[RowT]]], Awaitable[list[RowT | None]]], keys: list[Key[RowT]]) -> dict[str, RowT]:
    """Return the rows that are there, by the first part of their keys."""
    rows = await get_all(keys) if keys else []
    return {str(key.parts[0]): row for key, row in zip(keys, rows, strict=True) if row is not None}


def _in_order(row: RouteRow, rules: Sequence[tuple[Key[RuleRow], RuleRow]], only: str | None) -> list[RouteRule]:
    tenants = [(str(key.parts[2]), rule.content_hash) for key, rule in rules if key.parts[1] == RuleKind.TENANT]
    own = [RouteRule(content_hash=name, tenant=tenant) for tenant, name in tenants if only in {None, tenant}]
    return [*own, *weighted(each for each in rules if each[0].parts[1] == RuleKind.WEIGHT), *default_rules(row)]


def _deployment(key: Key[LogRow], row: LogRow) -> Deployment:
    return Deployment(
        tick=int(key.parts[1] or 0),
        workflow_type=str(key.parts[0]),
        action=row.action,
        content_hash=row.content_hash,
        previous_hash=row.previous,
        tenant=row.tenant or None,
        weight=row.weight,
        actor=row.actor,
        built_with=msgspec.json.decode(row.built_with) if row.built_with else None,
        at=datetime_of(row.at),
    )
