"""From an archive to a version that new processes start on.

Source: packages.md, "Deploy" and "Signing".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure import limits
from perdure.clock import datetime_of
from perdure.deploying.trial import try_load
from perdure.engine.upkeep import PutSchemas
from perdure.errors import (
    ArchiveConflict,
    PackageMissing,
    PackageRefused,
    PackageWithoutTypes,
    StoreBusy,
    StoreCorrupt,
    UsageError,
)
from perdure.packages.archive import Package, unpack, with_signatures
from perdure.packages.arguments import checked_by, checked_hash
from perdure.packages.contract import UNKNOWN_ACTOR, Deployed, Needs, PackageRecord
from perdure.packages.signing import TrustPolicy
from perdure.packages.tables import PACKAGE
from perdure.protocol.packages import DeployedPackage, TrialWarning

if TYPE_CHECKING:
    from perdure.store import Store


async def deploy(
    store: Store,
    archive: bytes,
    *,
    content_hash: str | None = None,
    routes: Sequence[str] | None = None,
    load: bool = True,
    environments: Path | None = None,
    trust: TrustPolicy | None = None,
    actor: str = UNKNOWN_ACTOR,
    built_with: Mapping[str, Any] | None = None,
) -> DeployedPackage:
    """Verify a package, import it apart for a trial, store it, and let new processes start on it.

    Archive, schemas, routes and log are one transaction: after a crash at any moment there is all of it or nothing. Again with
    the same package, nothing new is stored, the routes are pointed at it again, and signatures that it did not have are
    added to those that are stored.

    Args:
        store: that is open.
        archive: what `perdure package build` has written, 1 byte to 64 MiB.
        content_hash: of the package that it has to be, 64 lower-case hex digits; any when not given.
        routes: the process types whose default routes are pointed at it; all that it defines when not given, none when empty.
        load: whether its code is imported before it is accepted, in a process of its own. Without it, a node that is to run it is the first to find
            out.
        environments: where the environments of packages with interpreters of their own are kept; the user's folder of caches when not given.
        trust: who has to have signed it; anybody or nobody when not given. Nothing of it is run before that is known.
        actor: who does it, for the deployment log; 1..256 bytes without control characters.
        built_with: what was found when it was built, for the log; a dict that is JSON, at most 64 KiB.

    Raises:
        PackageRefused: it is no package that is taken here; see `perdure.errors`.
        PackageUntrusted, PackageWithoutTypes, PackageImportsByText: likewise.
        PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing, PackageSchemaDrift, DefinitionError: it cannot be loaded here.
        PackageEnvironmentFailed: the environment of its own that it asks for cannot be built here.
        InvalidContentHash, InvalidIdentifier, UsageError: an argument breaks its rule. Nothing was stored, all of these times.
        StoreBusy: others deployed it again and again meanwhile; repeat the call.

    Source: packages.md, "Deploy".
    """
    expected = None if content_hash is None else checked_hash(content_hash)
    checked_by(actor, built_with)
    if not isinstance(archive, bytes):
        raise UsageError(f"archive: expected bytes, found {type(archive).__name__}")
    package = await asyncio.to_thread(unpack, archive, identity=expected, trust=trust)
    types = _types_of(package)
    pointed = types if routes is None else _of(package, routes)
    warned = (await try_load(archive, environments=environments)).warnings if load else ()
    for _ in range(limits.PACKAGE_DEPLOY_TRIES):
        merged = await _merged(store, package, archive)
        with contextlib.suppress(ArchiveConflict):  # somebody else's signatures came in between: ours are added to theirs
            done = await _put(store, package, merged, pointed, actor=actor, built_with=built_with)
            return DeployedPackage(
                content_hash=str(package.identity),
                name=package.manifest.name,
                types=types,
                freshly_stored=done.freshly_stored and merged.replaces is None,
                route_changed=done.route_changed,
                routes_changed=done.routes_changed,
                signed_by=merged.signed_by,
                warnings=tuple(TrialWarning(code=one.code, text=one.text) for one in warned),
            )
    raise StoreBusy(f"package {package.identity}: others deployed it again and again meanwhile; repeat later")


def _types_of(package: Package) -> tuple[str, ...]:
    types = tuple(process.type for process in package.manifest.processes)
    if not types:
        raise PackageWithoutTypes(
            f"package {package.manifest.name} {package.identity}: it defines no process type; name the modules that have an app, and build it anew"
        )
    return types


def _of(package: Package, routes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(routes, str):
        raise UsageError(f"routes: expected a list of process types, found the text {routes!r:.{limits.REPR_MAX}}")
    types = _types_of(package)
    for each in routes:
        if each not in types:
            shown = ", ".join(map(repr, types))
            raise UsageError(f"routes: {each!r:.{limits.REPR_MAX}} is no process type of package {package.manifest.name}; it has {shown}")
    return tuple(dict.fromkeys(routes))


class _Merged(NamedTuple):
    """An archive with all signatures, its own and those that are stored, and the SHA-256 of the archive that it may replace."""

    archive: bytes
    signed_by: tuple[str, ...]
    replaces: str | None


async def _merged(store: Store, package: Package, archive: bytes) -> _Merged:
    own = tuple(signature.key for signature in package.signatures)
    try:
        stored = (await store.packages.get_package(package.identity)).archive
    except PackageMissing:
        return _Merged(archive, own, None)
    except StoreCorrupt:  # what is left of it cannot be read, and this is how it comes back
        row = await store.access.reader.get(PACKAGE.key(package.identity))
        return _Merged(archive, own, None if row is None else row.sha256)
    return await asyncio.to_thread(_with_both, package, archive, stored)


def _with_both(package: Package, archive: bytes, stored: bytes) -> _Merged:
    replaces = hashlib.sha256(stored).hexdigest()
    try:
        unpack(stored, identity=package.identity)
    except PackageRefused:  # the store takes whatever it is given, and something else was put under this name
        return _Merged(archive, tuple(signature.key for signature in package.signatures), replaces)
    merged = with_signatures(stored, package.signatures)
    return _Merged(merged, tuple(signature.key for signature in unpack(merged).signatures), replaces)


def _needs(package: Package) -> Needs:
    """Return what a node has to have for it; distributions of an interpreter of its own come with its lock file."""
    shared = package.manifest.isolation == "shared"
    return Needs(python=package.manifest.python, requires=package.manifest.requires if shared else ())


async def _put(
    store: Store, package: Package, merged: _Merged, routes: tuple[str, ...], *, actor: str, built_with: Mapping[str, Any] | None
) -> Deployed:
    types = _types_of(package)
    record = PackageRecord(
        workflow_type=types[0],
        content_hash=package.identity,
        archive=merged.archive,
        deployed_at=datetime_of(store.access.clock.now()),
    )
    schemas = dict(package.manifest.schemas)
    return await store.packages.deploy(
        record,
        types,
        routes=routes,
        kinds={process.type: [message.kind for message in process.messages] for process in package.manifest.processes},
        needs=_needs(package),
        also=[PutSchemas(schemas)] if schemas else [],
        replaces=merged.replaces,
        actor=actor,
        built_with=built_with,
    )
