"""Where commands are sent: endpoints, as operators see them.

Source: commands.md, "Push".
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from perdure import limits
from perdure.commands.push_contract import PushEndpoint, PushEndpoints, PushPlace
from perdure.errors import PushEndpointNotFound, RequestInvalid, UsageError, WebhookSecretInvalid
from perdure.protocol.commands import Name
from perdure.protocol.processes import Limit
from perdure.protocol.push import EndpointGone, EndpointList, EndpointView, NewEndpoint
from perdure.protocol.text import NAMES_CURSOR, cursor
from perdure.server.doorkeeper import nothing_here
from perdure.server.messages import at
from perdure.server.route import Answer, Call, answer

_NO_SECRETS: Final = "there is no such endpoint yet that has secrets; give one, `whsec_` and 24 to 64 random bytes as Base64"


class EndpointQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which target; without one, that for all that have none of their own."""

    target: Name | None = None


class EndpointsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[str, cursor(NAMES_CURSOR)] | None = None


async def put(call: Call) -> Answer:
    """Set an endpoint."""
    new: NewEndpoint = call.body
    deployment, push = call.parts["deployment"], _push(call)
    if new.secrets is None:
        await _found(call, new.target, missing=_NO_SECRETS)
    try:
        await push.put(
            deployment,
            new.url,
            tenant_id=call.tenant,
            target=new.target,
            secrets=new.secrets,
            timeout=new.timeout_ms * 1_000,
            result_within=new.result_within_ms * 1_000,
            enabled=new.enabled,
        )
    except WebhookSecretInvalid as error:  # elsewhere it is a secret of ours that is wrong, and no fault of who asks
        raise RequestInvalid(f"secrets: {error}") from None
    return answer(_view(await push.get(deployment, tenant_id=call.tenant, target=new.target)))


async def show(call: Call) -> Answer:
    """Return an endpoint."""
    return answer(_view(await _found(call, call.query.target)))


async def remove(call: Call) -> Answer:
    """Remove an endpoint."""
    removed = await _push(call).remove(call.parts["deployment"], tenant_id=call.tenant, target=call.query.target)
    if not removed:
        raise PushEndpointNotFound(nothing_here())
    return answer(EndpointGone(removed=True))


async def listed(call: Call) -> Answer:
    """Return a page of a tenant's endpoints."""
    query: EndpointsQuery = call.query
    try:
        after = None if query.after is None else PushPlace.named_by(query.after)
    except UsageError as error:
        raise RequestInvalid(str(error)) from None
    found = await _push(call).list_endpoints(tenant_id=call.tenant, after=after, limit=query.limit)
    following = found[-1].place.cursor if len(found) == query.limit else None
    return answer(EndpointList(endpoints=[_view(one) for one in found], next=following))


def _push(call: Call) -> PushEndpoints:
    return call.engine.store.push


async def _found(call: Call, target: str | None, *, missing: str = "") -> PushEndpoint:
    """Return an endpoint. Raises PushEndpointNotFound, with what is `missing` then."""
    try:
        return await _push(call).get(call.parts["deployment"], tenant_id=call.tenant, target=target)
    except PushEndpointNotFound:
        raise PushEndpointNotFound(missing or nothing_here()) from None


def _view(one: PushEndpoint) -> EndpointView:
    return EndpointView(
        deployment=one.deployment_id,
        target=one.target,
        url=one.url,
        secrets=one.secrets,
        timeout_ms=one.timeout // 1_000,
        result_within_ms=one.result_within // 1_000,
        enabled=one.enabled,
        failures=one.failures,
        open_until=at(one.open_until),
        created_at=at(one.created_at),
        updated_at=at(one.updated_at),
    )
