"""What people do with the packages of a store, as the command line and the server say it.

Source: packages.md, "Deploy", "Routes" and "Pins".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perdure import limits
from perdure.deploying.deploy import deploy
from perdure.errors import PackageRefused
from perdure.packages.archive import unpack
from perdure.packages.contract import UNKNOWN_ACTOR, Deployment, PackageInfo, PackagePins, PackagePlace, RouteRule, StoredPackage, Unloaded
from perdure.protocol.packages import (
    Collected,
    DeployedPackage,
    DeploymentEntry,
    DeploymentLog,
    GonePackage,
    PackageDetail,
    PackageVersion,
    PinHolderView,
    PinsView,
    RouteSet,
    RouteView,
    RuleView,
    VersionPage,
)

if TYPE_CHECKING:
    from perdure.packages.signing import TrustPolicy
    from perdure.store import Store

_HASH_DIGITS: Final = 64
_KEEP_FOR: Final = timedelta(microseconds=limits.PACKAGE_KEEP_US)


class PackageDoor:
    """The packages of a store, for people: by the beginnings of hashes, with what still runs on them.

    Wherever a package is named, the first 8 digits of its hash or more are enough: PackageAmbiguous when those of several begin so,
    PackageMissing when none does, InvalidContentHash when it is no such beginning. Errors are otherwise those of `PackageStore`.

    Args:
        store: that is open.
        actor: who does what is done, for the deployment log.
        trust: who has to have signed what is deployed.
        environments: where the environments of packages with interpreters of their own are kept; the user's folder of caches when not given.
    """

    def __init__(
        self, store: Store, *, actor: str = UNKNOWN_ACTOR, trust: TrustPolicy | None = None, environments: Path | None = None
    ) -> None:
        self._store = store
        self._packages = store.packages
        self._actor = actor
        self._trust = trust
        self._environments = environments

    # --- what there is -------------------------------------------------------------------------------------

    async def versions(
        self, workflow_type: str | None = None, *, processes: bool = False, after: str | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> VersionPage:
        """Return a page of what is stored, of one type or of all.

        Args:
            workflow_type: of this one only; the oldest version is first then.
            processes: whether to count who needs each package, which takes time when many do.
            after: `next` of the page before.
            limit: 1..1,000.

        Raises:
            UsageError: `after` is no such place.
        """
        place = None if after is None else PackagePlace.named_by(after)
        infos = await self._packages.list_package_info(workflow_type=workflow_type, after=place, limit=limit)
        following = infos[-1].place.cursor if len(infos) == limit else None
        return VersionPage(versions=await self._told(infos, processes=processes), next=following)

    async def named(self, content_hash: str) -> str:
        """Return the hash that begins so; one that is whole is looked for by whoever needs it, as it need not be stored for everything."""
        return content_hash if len(content_hash) == _HASH_DIGITS else await self._packages.find_package(content_hash)

    async def package(self, content_hash: str) -> PackageDetail:
        """Return one package: what its manifest says, who has signed it, its versions, and who needs it."""
        stored = await self.archive(content_hash)
        pins = await self._packages.pins(stored.content_hash)
        versions = [
            _version(each, stored, await self._packages.route_of(each), pins=pins, size=len(stored.archive))
            for each in stored.workflow_types
        ]
        try:
            found = await asyncio.to_thread(unpack, stored.archive)
        except PackageRefused:  # the store takes whatever it is given
            found = None
        manifest = None if found is None else found.manifest
        return PackageDetail(
            content_hash=stored.content_hash,
            size=len(stored.archive),
            deployed_at=stored.deployed_at,
            name="" if manifest is None else manifest.name,
            isolation="" if manifest is None else manifest.isolation,
            python="" if manifest is None else manifest.python,
            requires=() if manifest is None else manifest.requires,
            signed_by=() if found is None else tuple(signature.key for signature in found.signatures),
            versions=versions,
        )

    async def archive(self, content_hash: str) -> StoredPackage:
        """Return one package with its archive."""
        return await self._packages.get_package(await self.named(content_hash))

    async def pins(self, content_hash: str) -> PinsView:
        """Return which processes need a package."""
        found = await self._packages.pins(await self.named(content_hash))
        holders = [PinHolderView(**holder._asdict()) for holder in found.holders]
        return PinsView(content_hash=found.content_hash, counts=found.counts, holders=holders, more=found.more)

    async def route(self, workflow_type: str, *, tenant: str | None = None) -> RouteView:
        """Return the rules of a type; with `tenant`, those that a process of this one may follow."""
        rules = await self._packages.route_of(workflow_type, tenant=tenant)
        told = [RuleView(content_hash=rule.content_hash, tenant=rule.tenant, weight=rule.weight) for rule in rules]
        return RouteView(workflow_type=workflow_type, rules=told)

    async def deployments(self, workflow_type: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> DeploymentLog:
        """Return a page of a type's deployment log, newest first; `after` is `next` of the page before."""
        found = await self._packages.deployments(workflow_type, after=after, limit=limit)
        return DeploymentLog(entries=[_entry(each) for each in found], next=found[-1].tick if len(found) == limit else None)

    # --- what is done ----------------------------------------------------------------------------------------

    async def deploy(
        self,
        archive: bytes,
        *,
        content_hash: str | None = None,
        routes: Sequence[str] | None = None,
        load: bool = True,
        built_with: Mapping[str, Any] | None = None,
    ) -> DeployedPackage:
        """See `perdure.deploy`."""
        return await deploy(
            self._store,
            archive,
            content_hash=content_hash,
            routes=routes,
            load=load,
            environments=self._environments,
            trust=self._trust,
            actor=self._actor,
            built_with=built_with,
        )

    async def set_route(
        self, workflow_type: str, content_hash: str | None, *, tenant: str | None = None, weight: int | None = None
    ) -> RouteSet:
        """Set one rule of a type's route; see `PackageStore.set_route`."""
        name = None if content_hash is None else await self.named(content_hash)
        changed = await self._packages.set_route(workflow_type, name, tenant=tenant, weight=weight, actor=self._actor)
        return RouteSet(workflow_type=workflow_type, content_hash=name, changed=changed)

    async def rollback(self, workflow_type: str) -> RouteSet:
        """Point the default rule of a type at what it led to before; see `PackageStore.rollback`."""
        back = await self._packages.rollback(workflow_type, self._actor)
        return RouteSet(workflow_type=workflow_type, content_hash=back, changed=True)

    async def retire(self, workflow_type: str) -> RouteSet:
        """Let no process of a type be started any more; see `PackageStore.retire`."""
        changed = await self._packages.retire(workflow_type, self._actor)
        return RouteSet(workflow_type=workflow_type, content_hash=None, changed=changed)

    async def unload(self, content_hash: str) -> GonePackage:
        """Remove a package that no rule leads to and no process needs; see `PackageStore.unload`."""
        return _gone(await self._packages.unload(await self.named(content_hash), self._actor))

    async def collect(
        self, *, keep_last: int = limits.PACKAGE_KEEP_LAST, older_than: timedelta = _KEEP_FOR, dry_run: bool = False
    ) -> Collected:
        """Remove what is old and nobody needs; see `PackageStore.collect`."""
        gone = await self._packages.collect(keep_last=keep_last, older_than=older_than, dry_run=dry_run, actor=self._actor)
        return Collected(packages=[_gone(each) for each in gone], dry_run=dry_run)

    # --- inside ------------------------------------------------------------------------------------------------

    async def _told(self, infos: Sequence[PackageInfo], *, processes: bool) -> list[PackageVersion]:
        routes = {each: await self._packages.route_of(each) for each in dict.fromkeys(info.workflow_type for info in infos)}
        pins: dict[str, PackagePins] = {}
        for info in infos if processes else ():
            if info.content_hash not in pins:
                pins[info.content_hash] = await self._packages.pins(info.content_hash)
        return [
            _version(info.workflow_type, info, routes[info.workflow_type], pins=pins.get(info.content_hash), size=info.size)
            for info in infos
        ]


def _version(
    workflow_type: str, found: PackageInfo | StoredPackage, rules: Sequence[RouteRule], *, pins: PackagePins | None, size: int
) -> PackageVersion:
    return PackageVersion(
        workflow_type=workflow_type,
        content_hash=found.content_hash,
        deployed_at=found.deployed_at,
        size=size,
        share=_share(rules, found.content_hash),
        tenants=sum(rule.tenant is not None and rule.content_hash == found.content_hash for rule in rules),
        processes=None if pins is None else pins.counts,
        more_processes=pins is not None and pins.more,
    )


def _share(rules: Sequence[RouteRule], content_hash: str) -> int:
    """Return how many of 10,000 new processes, of tenants without a rule of their own, start on a package."""
    shared = [rule for rule in rules if rule.tenant is None]
    weights = {rule.content_hash: rule.weight for rule in shared if rule.weight is not None}
    rest = limits.ROUTE_BASIS_POINTS - sum(weights.values())
    default = any(rule.weight is None and rule.content_hash == content_hash for rule in shared)
    return weights.get(content_hash, 0) + (rest if default else 0)


def _gone(unloaded: Unloaded) -> GonePackage:
    return GonePackage(content_hash=unloaded.content_hash, types=unloaded.workflow_types, size=unloaded.size)


def _entry(entry: Deployment) -> DeploymentEntry:
    return DeploymentEntry(
        tick=entry.tick,
        workflow_type=entry.workflow_type,
        action=entry.action,
        content_hash=entry.content_hash,
        previous_hash=entry.previous_hash,
        tenant=entry.tenant,
        weight=entry.weight,
        actor=entry.actor,
        built_with=entry.built_with,
        at=entry.at,
    )
