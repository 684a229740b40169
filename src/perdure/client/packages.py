"""What programs elsewhere do with packages; tokens have to be for all tenants.

Source: packages.md, "Deploy" and "Routes".
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from perdure import limits
from perdure.client.connection import Connection, path_of
from perdure.errors import PayloadTooLarge, PayloadUnencodable
from perdure.headers import BUILT_WITH
from perdure.protocol.packages import (
    Collected,
    CollectRequest,
    DeployedPackage,
    DeploymentLog,
    GonePackage,
    PackageDetail,
    PinsView,
    RouteRequest,
    RouteSet,
    RouteView,
    VersionPage,
)

KEEP_FOR: Final = timedelta(microseconds=limits.PACKAGE_KEEP_US)


class PackageCalls:
    """The calls of a `Client` that are about packages.

    Wherever a package is named, the first 8 digits of its hash or more are enough. An error that the server said has its text only: what its
    class holds besides is empty.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def deploy(
        self,
        archive: bytes,
        *,
        content_hash: str | None = None,
        routes: Sequence[str] | None = None,
        load: bool = True,
        built_with: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> DeployedPackage:
        """Deploy a package on the server; needs the capability `deploy`. See `perdure.deploy`, whose `trust` is the server's here.

        Args:
            archive: what `perdure package build` has written, at most 64 MiB.
            content_hash: of the package that it has to be, 64 hex digits; any when not given.
            routes: the process types whose default routes are pointed at it; all that it defines when not given, none when empty.
            load: whether the server imports its code for a trial.
            built_with: what was found when it was built, for the log; at most 16 KiB as JSON in ASCII.
            progress: called with how many bytes were taken to be sent.

        Raises:
            PackageRefused, PackageImportFailed, PackageRequirementUnmet, PackageEntryMissing, PackageSchemaDrift: nothing was stored.
        """
        query: dict[str, str | Sequence[str] | None] = {
            "content_hash": content_hash,
            "route": routes,
            "no_route": "true" if routes is not None and not routes else None,
            "no_load": None if load else "true",
        }
        return await self._connection.upload(
            path_of("v1", "packages"),
            archive,
            DeployedPackage,
            content_type="application/zip",
            method="POST",
            query=query,
            headers={} if built_with is None else {BUILT_WITH: _ascii(built_with)},
            wait=limits.PACKAGE_DEPLOY_US,
            progress=progress,
        )

    async def versions(
        self, workflow_type: str | None = None, *, processes: bool = False, after: str | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> VersionPage:
        """Return a page of the versions that are stored, of one type or of all; with `processes`, how many need each."""
        query = {"type": workflow_type, "processes": "true" if processes else None, "after": after, "limit": limit}
        return await self._connection.send("GET", path_of("v1", "packages"), VersionPage, query=query)

    async def package(self, content_hash: str) -> PackageDetail:
        """Return one package: what its manifest says, who has signed it, and its versions. Raises PackageMissing, PackageAmbiguous."""
        return await self._connection.send("GET", _package(content_hash), PackageDetail)

    async def download_package(self, content_hash: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a package's archive as they come; needs the capability `deploy`. Raises PackageMissing, PackageAmbiguous, BlobMismatch."""
        async for chunk in self._connection.download(_package(content_hash, "archive")):
            yield chunk

    async def pins(self, content_hash: str) -> PinsView:
        """Return which processes need a package. Raises PackageMissing, PackageAmbiguous."""
        return await self._connection.send("GET", _package(content_hash, "pins"), PinsView)

    async def route(self, workflow_type: str, *, tenant: str | None = None) -> RouteView:
        """Return the rules of a type; with `tenant`, those that a process of this one may follow."""
        return await self._connection.send("GET", _type(workflow_type, "route"), RouteView, query={"tenant": tenant})

    async def set_route(
        self, workflow_type: str, content_hash: str | None, *, tenant: str | None = None, weight: int | None = None
    ) -> RouteSet:
        """Set one rule of a type's route; needs the capability `deploy`. See `PackageStore.set_route`.

        Raises:
            PackageMissing, PackageAmbiguous, RouteMissing, RouteRefused: nothing has changed.
        """
        # Plain text: a `ContentHash` or a `TenantId` is text of its own kind.
        named = [None if text is None else str(text) for text in (content_hash, tenant)]
        body = RouteRequest(content_hash=named[0], tenant=named[1], weight=weight)
        return await self._connection.send("PUT", _type(workflow_type, "route"), RouteSet, body=body)

    async def rollback(self, workflow_type: str) -> RouteSet:
        """Point a type at what its default rule led to before; needs the capability `deploy`. Raises RouteMissing, PackageMissing."""
        return await self._connection.send("POST", _type(workflow_type, "rollback"), RouteSet)

    async def retire(self, workflow_type: str) -> RouteSet:
        """Let no process of a type be started any more; needs the capability `deploy`. Raises RouteMissing."""
        return await self._connection.send("POST", _type(workflow_type, "retire"), RouteSet)

    async def deployments(self, workflow_type: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> DeploymentLog:
        """Return a page of what was done to the versions and routes of a type, newest first."""
        return await self._connection.send(
            "GET", _type(workflow_type, "deployments"), DeploymentLog, query={"after": after, "limit": limit}
        )

    async def unload(self, content_hash: str) -> GonePackage:
        """Remove a package; needs the capability `deploy`. Raises PackageMissing, PackageAmbiguous, PackageRouted, PackagePinned."""
        return await self._connection.send("POST", _package(content_hash, "unload"), GonePackage)

    async def collect(
        self, *, keep_last: int = limits.PACKAGE_KEEP_LAST, older_than: timedelta = KEEP_FOR, dry_run: bool = False
    ) -> Collected:
        """Remove what is old and nobody needs, or, with `dry_run`, only tell what that is; needs the capability `deploy`."""
        body = CollectRequest(keep_last=keep_last, older_than_ms=older_than // timedelta(milliseconds=1), dry_run=dry_run)
        return await self._connection.send("POST", path_of("v1", "packages", "collect"), Collected, body=body)


def _ascii(built_with: Mapping[str, Any]) -> str:
    """Return it as a header has it. Raises PayloadTooLarge, PayloadUnencodable."""
    try:
        text = json.dumps(dict(built_with), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadUnencodable(f"built_with: expected a dict that can be written as JSON: {error}") from None
    if len(text) > limits.HTTP_BUILT_WITH_MAX:
        raise PayloadTooLarge("built_with", size=len(text), limit=limits.HTTP_BUILT_WITH_MAX)
    return text


def _package(content_hash: str, *parts: str) -> str:
    return path_of("v1", "packages", content_hash, *parts)


def _type(workflow_type: str, *parts: str) -> str:
    return path_of("v1", "process-types", workflow_type, *parts)
