"""Packages over HTTP: deploying them, and saying where new processes start.

They are the store's, not a tenant's: only tokens of all tenants reach them.

Source: packages.md, "Deploy" and "Routes".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec

from perdure import limits
from perdure.deploying.door import PackageDoor
from perdure.errors import RequestInvalid, UsageError
from perdure.headers import BUILT_WITH
from perdure.protocol.packages import CollectRequest, HashText, RouteRequest, TenantText, TypeText
from perdure.protocol.processes import Done, Limit
from perdure.protocol.text import NAMES_CURSOR, cursor
from perdure.server.commands import actor_of
from perdure.server.intake import ARCHIVE_TYPES
from perdure.server.payloads import headers_of
from perdure.server.route import Answer, Call, answer


class DeployQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is deployed, and how."""

    content_hash: HashText | None = None
    # As many as fit into a head: whoever has more of them than that points them one by one.
    route: Annotated[
        list[TypeText],
        msgspec.Meta(description="Only the routes of these process types are pointed at it; those of all when not given."),
    ] = []
    no_route: Annotated[bool, msgspec.Meta(description="It is stored, and no route is pointed at it.")] = False
    no_load: Annotated[bool, msgspec.Meta(description="Its code is not imported for a trial: this server is not to run it.")] = False


class VersionsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions, and which page of them."""

    type: TypeText | None = None
    processes: Annotated[bool, msgspec.Meta(description="Whether to count the processes that need each.")] = False
    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[str, cursor(NAMES_CURSOR)] | None = None


class LogQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of the log."""

    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[int, msgspec.Meta(ge=0, le=limits.SEQUENCE_MAX, description="`next` of the page before.")] | None = None


class RouteQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which rules."""

    tenant: Annotated[TenantText, msgspec.Meta(description="Only what a process of this tenant may follow.")] | None = None


async def deploy(call: Call) -> Answer:
    """Take in an archive, and let new processes start on it."""
    query: DeployQuery = call.query
    if query.no_route and query.route:
        raise RequestInvalid("query: 'route' and 'no_route' exclude one another")
    routes = () if query.no_route else query.route or None
    built_with = _built_with(call.headers.get(BUILT_WITH))
    done = await _door(call).deploy(
        call.body, content_hash=query.content_hash, routes=routes, load=not query.no_load, built_with=built_with
    )
    return answer(done)


async def listed(call: Call) -> Answer:
    """Return a page of versions."""
    query: VersionsQuery = call.query
    try:
        return answer(await _door(call).versions(query.type, processes=query.processes, after=query.after, limit=query.limit))
    except UsageError as error:
        raise RequestInvalid(str(error)) from None


async def show(call: Call) -> Answer:
    """Return one package."""
    return answer(await _door(call).package(call.parts["hash"]))


async def archive(call: Call) -> Answer:
    """Return the archive of a package."""
    found = await _door(call).archive(call.parts["hash"])
    return Answer(body=found.archive, media_type=ARCHIVE_TYPES[0], headers=headers_of(found.archive))


async def pins(call: Call) -> Answer:
    """Return which processes need a package."""
    return answer(await _door(call).pins(call.parts["hash"]))


async def unload(call: Call) -> Answer:
    """Remove a package."""
    return answer(await _door(call).unload(call.parts["hash"]))


async def collect(call: Call) -> Answer:
    """Remove what is old and nobody needs."""
    body: CollectRequest = call.body
    older_than = timedelta(milliseconds=body.older_than_ms)
    return answer(await _door(call).collect(keep_last=body.keep_last, older_than=older_than, dry_run=body.dry_run))


async def route(call: Call) -> Answer:
    """Return the rules of a type."""
    return answer(await _door(call).route(call.parts["type"], tenant=call.query.tenant))


async def set_route(call: Call) -> Answer:
    """Set one rule of a type's route."""
    body: RouteRequest = call.body
    return answer(await _door(call).set_route(call.parts["type"], body.content_hash, tenant=body.tenant, weight=body.weight))


async def rollback(call: Call) -> Answer:
    """Point a type at what its default led to before."""
    return answer(await _door(call).rollback(call.parts["type"]))


async def retire(call: Call) -> Answer:
    """Let no process of a type be started any more."""
    return answer(await _door(call).retire(call.parts["type"]))


async def move(call: Call) -> Answer:
    """Let a process go on on another version of its code."""
    process_id = call.parts["id"]
    package = await _door(call).named(call.body.content_hash)
    return answer(Done(process_id, await call.engine.move(process_id, package, actor=actor_of(call), tenant=call.tenant)))


async def deployments(call: Call) -> Answer:
    """Return a page of a type's deployment log."""
    return answer(await _door(call).deployments(call.parts["type"], after=call.query.after, limit=call.query.limit))


def _built_with(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if len(text) > limits.HTTP_BUILT_WITH_MAX or not text.isascii():
        raise RequestInvalid(f"{BUILT_WITH}: expected at most {limits.HTTP_BUILT_WITH_MAX:,} characters of ASCII, found {len(text):,}")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestInvalid(f"{BUILT_WITH}: expected an object of JSON: {error}") from None


def _door(call: Call) -> PackageDoor:
    versions = call.engine.versions
    return PackageDoor(call.engine.store, actor=actor_of(call), trust=versions.trust, environments=versions.environments)
