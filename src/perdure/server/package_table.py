"""The routes of packages.

What changes something, or gives code away, needs `deploy`: code from a package runs with the server's rights. Looking needs `read`.
Packages belong to the whole store, so that tokens have to be for all tenants; a process to be moved is one tenant's.
"""

from __future__ import annotations

from typing import Any, Final

from perdure import errors, limits
from perdure.protocol.packages import (
    Collected,
    CollectRequest,
    DeployedPackage,
    DeploymentLog,
    GonePackage,
    MoveRequest,
    PackageDetail,
    PinsView,
    RouteRequest,
    RouteSet,
    RouteView,
    VersionPage,
)
from perdure.protocol.processes import Done
from perdure.server import packages
from perdure.server.intake import ARCHIVE_TYPES
from perdure.server.route import Route

_PACKAGES: Final = "/v1/packages"
_PACKAGE: Final = f"{_PACKAGES}/{{hash}}"
_TYPE: Final = "/v1/process-types/{type}"
_AT: Final = "2026-03-01T12:00:00Z"
_HASH: Final = "fd8e1c54ab0910f363ac7cc1ddd2e039c99ff9915fa2514834270d3cbd1450a2"
_BEFORE: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_VERSION: Final[dict[str, Any]] = {
    "workflow_type": "Order",
    "content_hash": _HASH,
    "deployed_at": _AT,
    "size": 18_432,
    "share": 9_500,
    "tenants": 1,
    "processes": {"idle": 12, "waiting": 3},
    "more_processes": False,
}
_SET: Final[dict[str, Any]] = {"workflow_type": "Order", "content_hash": _HASH, "changed": True}
_GONE: Final[dict[str, Any]] = {"content_hash": _BEFORE, "types": ["Order"], "size": 18_201}
_NAMED: Final = (errors.PackageMissing, errors.PackageAmbiguous, errors.InvalidContentHash)
_TYPED: Final = (errors.InvalidIdentifier,)
_LOADED: Final = (
    errors.PackageUntrusted,
    errors.SigningUnavailable,
    errors.PackageIsolationUnavailable,
    errors.PackageEnvironmentFailed,
    errors.PackageRequirementUnmet,
    errors.PackageImportFailed,
    errors.PackageEntryMissing,
    errors.PackageSchemaDrift,
)
"""Why code of a package cannot be loaded here."""

PACKAGES: Final = (
    Route(
        name="deployPackage",
        method="POST",
        path=_PACKAGES,
        capability="deploy",
        handler=packages.deploy,
        summary="Verify an archive of at most 64 MiB, import it for a trial, store it, and let new processes start on it.",
        archive_max=limits.PACKAGE_ARCHIVE_MAX,
        lasts_us=limits.PACKAGE_DEPLOY_US,
        query=packages.DeployQuery,
        returns={200: DeployedPackage},
        example={
            "content_hash": _HASH,
            "name": "shop",
            "types": ["Order"],
            "freshly_stored": True,
            "route_changed": True,
            "routes_changed": ["Order"],
            "signed_by": ["03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"],
            "warnings": [],
        },
        errors=(
            errors.PackageTooLarge,
            errors.ArchiveSizeRefused,
            errors.PackageArchiveMalformed,
            errors.PackageManifestMissing,
            errors.PackageManifestMalformed,
            errors.PackageFormatUnknown,
            errors.PackagePathInvalid,
            errors.PackagePathDuplicate,
            errors.PackageModuleAmbiguous,
            errors.PackageNativeCode,
            errors.PackageNameReserved,
            errors.PackageFileUnlisted,
            errors.PackageFileMissing,
            errors.PackageFileCorrupt,
            errors.PackageIdentityMismatch,
            errors.PackageWithoutTypes,
            errors.PackageImportsByText,
            *_LOADED,
            errors.DefinitionError,
            errors.InvalidContentHash,
            errors.UsageError,
            errors.UploadLost,
            errors.MediaTypeRefused,
            errors.RequestTooSlow,
        ),
    ),
    Route(
        name="listPackages",
        method="GET",
        path=_PACKAGES,
        capability="read",
        handler=packages.listed,
        summary="List what is stored, as versions of process types: what new processes start on, and what still runs on it.",
        query=packages.VersionsQuery,
        returns={200: VersionPage},
        example={"versions": [_VERSION], "next": None},
        errors=_TYPED,
    ),
    Route(
        name="collectPackages",
        method="POST",
        path=f"{_PACKAGES}/collect",
        capability="deploy",
        handler=packages.collect,
        summary="Remove every package that no rule leads to, no process needs, and that is old; each is a transaction.",
        takes=CollectRequest,
        takes_example={"keep_last": 3, "older_than_ms": 2_592_000_000, "dry_run": True},
        returns={200: Collected},
        example={"packages": [_GONE], "dry_run": True},
    ),
    Route(
        name="getPackage",
        method="GET",
        path=_PACKAGE,
        capability="read",
        handler=packages.show,
        summary="Return one package: what its manifest says, who has signed it, its versions, and how many processes need it.",
        returns={200: PackageDetail},
        example={
            "content_hash": _HASH,
            "size": 18_432,
            "deployed_at": _AT,
            "name": "shop",
            "isolation": "shared",
            "python": ">=3.11",
            "requires": ["perdure<2,>=1"],
            "signed_by": [],
            "versions": [_VERSION],
        },
        errors=_NAMED,
    ),
    Route(
        name="getArchive",
        method="GET",
        path=f"{_PACKAGE}/archive",
        capability="deploy",
        handler=packages.archive,
        summary="Download the archive of a package, with all signatures that were ever deployed. Its ETag is its SHA-256.",
        returns={200: bytes},
        media_types=(ARCHIVE_TYPES[0],),
        errors=_NAMED,
    ),
    Route(
        name="getPins",
        method="GET",
        path=f"{_PACKAGE}/pins",
        capability="read",
        handler=packages.pins,
        summary="Say which processes need a package, of whatever tenant.",
        returns={200: PinsView},
        example={
            "content_hash": _HASH,
            "counts": {"idle": 1},
            "holders": [{"tenant_id": "acme", "process_id": "order-7", "process_type": "Order", "status": "idle"}],
            "more": False,
        },
        errors=_NAMED,
    ),
    Route(
        name="unloadPackage",
        method="POST",
        path=f"{_PACKAGE}/unload",
        capability="deploy",
        handler=packages.unload,
        summary="Remove a package that no rule leads to and no process needs.",
        returns={200: GonePackage},
        example=_GONE,
        errors=(*_NAMED, errors.PackageRouted, errors.PackagePinned),
    ),
    Route(
        name="getRoute",
        method="GET",
        path=f"{_TYPE}/route",
        capability="read",
        handler=packages.route,
        summary="Return the rules of a process type in the order in which they are looked at: those of tenants, weights, the default.",
        query=packages.RouteQuery,
        returns={200: RouteView},
        example={
            "workflow_type": "Order",
            "rules": [
                {"content_hash": _BEFORE, "tenant": "acme", "weight": None},
                {"content_hash": _BEFORE, "tenant": None, "weight": 500},
                {"content_hash": _HASH, "tenant": None, "weight": None},
            ],
        },
        errors=_TYPED,
    ),
    Route(
        name="setRoute",
        method="PUT",
        path=f"{_TYPE}/route",
        capability="deploy",
        handler=packages.set_route,
        summary="Set one rule of a process type's route: of a tenant, with a weight, or the default.",
        takes=RouteRequest,
        takes_example={"content_hash": _HASH, "weight": 500},
        returns={200: RouteSet},
        example=_SET,
        errors=(*_TYPED, *_NAMED, errors.RouteMissing, errors.RouteRefused, errors.UsageError),
    ),
    Route(
        name="rollBack",
        method="POST",
        path=f"{_TYPE}/rollback",
        capability="deploy",
        handler=packages.rollback,
        summary="Point the default rule of a process type at what it led to before; a second time undoes that.",
        returns={200: RouteSet},
        example=_SET,
        errors=(*_TYPED, errors.RouteMissing, errors.PackageMissing),
    ),
    Route(
        name="retireType",
        method="POST",
        path=f"{_TYPE}/retire",
        capability="deploy",
        handler=packages.retire,
        summary="Take all rules of a process type away, so that none is started any more; its processes go on.",
        returns={200: RouteSet},
        example={"workflow_type": "Order", "content_hash": None, "changed": True},
        errors=(*_TYPED, errors.RouteMissing),
    ),
    Route(
        name="moveProcess",
        method="POST",
        path="/v1/tenants/{tenant}/processes/{id}/move",
        capability="deploy",
        handler=packages.move,
        summary="Let a process go on on another version of its code, after its open turn was replayed by that.",
        lasts_us=limits.PACKAGE_DEPLOY_US,
        takes=MoveRequest,
        takes_example={"content_hash": _HASH},
        returns={200: Done},
        example={"process_id": "0195d1b0-5c00-7000-8000-000000000007", "changed": True},
        errors=(
            *_NAMED,
            *_LOADED,
            errors.ProcessEnded,
            errors.ProcessIncompatible,
            errors.IllegalTransition,
        ),
        absent=errors.ProcessNotFound,
    ),
    Route(
        name="listDeployments",
        method="GET",
        path=f"{_TYPE}/deployments",
        capability="read",
        handler=packages.deployments,
        summary="Say what was done to the versions and routes of a process type, and by whom, newest first.",
        query=packages.LogQuery,
        returns={200: DeploymentLog},
        example={
            "entries": [
                {
                    "tick": 71,
                    "workflow_type": "Order",
                    "action": "deployed",
                    "content_hash": _HASH,
                    "previous_hash": _BEFORE,
                    "tenant": None,
                    "weight": None,
                    "actor": "token ci",
                    "built_with": None,
                    "at": _AT,
                }
            ],
            "next": None,
        },
        errors=_TYPED,
    ),
)
