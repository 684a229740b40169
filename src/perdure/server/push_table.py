"""The routes of push endpoints."""

from __future__ import annotations

from typing import Any, Final

from perdure import errors
from perdure.protocol.push import EndpointGone, EndpointList, EndpointView, NewEndpoint
from perdure.server import pushing
from perdure.server.route import Route

_ENDPOINTS: Final = "/v1/tenants/{tenant}/push"
_ENDPOINT: Final = f"{_ENDPOINTS}/{{deployment}}"
_AT: Final = "2026-03-01T12:00:00Z"
_VIEW: Final[dict[str, Any]] = {
    "deployment": "acme",
    "target": "warehouse-7",
    "url": "https://seven.example/commands",
    "secrets": 1,
    "timeout_ms": 15_000,
    "result_within_ms": 3_600_000,
    "enabled": True,
    "failures": 0,
    "open_until": None,
    "created_at": _AT,
    "updated_at": _AT,
}
_SECRET: Final = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

PUSH: Final = (
    Route(
        name="listEndpoints",
        method="GET",
        path=_ENDPOINTS,
        capability="admin",
        handler=pushing.listed,
        summary="List the endpoints that commands are sent to, by deployment and target.",
        query=pushing.EndpointsQuery,
        returns={200: EndpointList},
        example={"endpoints": [_VIEW], "next": None},
    ),
    Route(
        name="getEndpoint",
        method="GET",
        path=_ENDPOINT,
        capability="admin",
        handler=pushing.show,
        summary="Say where the commands of a deployment are sent, and whether that works.",
        query=pushing.EndpointQuery,
        returns={200: EndpointView},
        example=_VIEW,
        absent=errors.PushEndpointNotFound,
    ),
    Route(
        name="putEndpoint",
        method="PUT",
        path=_ENDPOINT,
        capability="admin",
        handler=pushing.put,
        summary="Send the commands of a deployment, or of one target of it, to a URL.",
        takes=NewEndpoint,
        takes_example={"target": "warehouse-7", "url": "https://seven.example/commands", "secrets": [_SECRET]},
        returns={200: EndpointView},
        example=_VIEW,
        errors=(errors.TargetRefused, errors.PushEndpointNotFound),
    ),
    Route(
        name="removeEndpoint",
        method="DELETE",
        path=_ENDPOINT,
        capability="admin",
        handler=pushing.remove,
        summary="Remove an endpoint. Commands that were for it wait.",
        query=pushing.EndpointQuery,
        returns={200: EndpointGone},
        example={"removed": True},
        absent=errors.PushEndpointNotFound,
    ),
)
