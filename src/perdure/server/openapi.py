"""The OpenAPI 3.1 document, made from the table of routes and the types of their bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

import msgspec

from perdure import errors, limits
from perdure.cloudevents.http import STRUCTURED
from perdure.errors import PerdureError
from perdure.headers import JSON_TYPE
from perdure.protocol.packages import PrefixText, TypeText
from perdure.protocol.problems import PROBLEM_TYPE, Problem
from perdure.protocol.text import NO_CONTROL, NOT_OURS, rules
from perdure.server.doorkeeper import nothing_here
from perdure.server.intake import ARCHIVE_TYPES
from perdure.server.problems import problem_of, status_of
from perdure.server.route import EVENTS_TYPE, Route
from perdure.server.table import ROUTES

_REF: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = (
    "Durable, message-driven processes. Every refusal is a problem document (RFC 9457) whose `code` never changes. "
    "Every POST with a token takes an `Idempotency-Key`: the same request with the same key gets the very same answer. "
    "Integers are written without fraction and exponent. `x-max-bytes` is a limit in bytes of UTF-8, where `maxLength` counts characters; "
    "`x-opaque` marks what only the server makes."
)
_OF_TOKENS: Final = (errors.TokenMissing, errors.TokenInvalid, errors.NotAllowed, errors.TooManyAttempts)
_OF_BODIES: Final = (
    errors.BodyMalformed,
    errors.RequestInvalid,
    errors.MediaTypeRefused,
    errors.PayloadTooLarge,
    errors.RequestTooSlow,
)
_OF_KEYS: Final = (errors.IdempotencyKeyReused, errors.IdempotencyKeyInUse, errors.OperationExpired)
_OF_ALL: Final = (
    errors.BodyMalformed,
    errors.RequestInvalid,
    errors.HeadersTooLarge,
    errors.InternalError,
    errors.Overloaded,
)
_OF_EVENTS: Final = (errors.CloudEventInvalid, errors.CloudEventBatched)
_OF_SIGNATURES: Final = (
    errors.WebhookHeaderMissing,
    errors.WebhookMalformed,
    errors.WebhookTooOld,
    errors.WebhookTooNew,
    errors.WebhookSignatureWrong,
    errors.WebhookSecretInvalid,
    errors.TooManyAttempts,
    errors.MediaTypeRefused,
    errors.PayloadTooLarge,
    errors.RequestTooSlow,
)
_OF_STORES: Final = (errors.StoreUnavailable, errors.StoreBusy)
_OF_WRITES: Final = (errors.StoreFull, errors.OutcomeUnknown)
_SIGNATURES: Final = {
    "standardWebhooks": ("webhook-signature", "Standard Webhooks, with `webhook-id` and `webhook-timestamp`."),
    "github": ("X-Hub-Signature-256", "as GitHub signs."),
    "stripe": ("Stripe-Signature", "as Stripe signs, with the time."),
}
_PARTS: Final = {
    "tenant": {"type": "string", "minLength": 1, "maxLength": limits.TENANT_ID_MAX, "pattern": "^[A-Za-z0-9._-]+$"},
    "id": {"type": "string", **rules(limits.MESSAGE_ID_MAX)},
    "processes/id": {"type": "string", **rules(limits.REGISTRY_KEY_MAX)},
    "commands/id": {"type": "string", **rules(limits.COMMAND_ID_MAX)},
    "name": {"type": "string", **rules(limits.REGISTRY_KEY_MAX)},
    "source": {"type": "string", "minLength": 1, "maxLength": limits.SOURCE_NAME_MAX, "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"},
    "deployment": {"type": "string", **rules(limits.COMMAND_NAME_MAX)},
    "hash": msgspec.json.schema(PrefixText),
    "type": msgspec.json.schema(TypeText),
}
"""Parts of a path by name, and those that have other rules behind a certain word."""
_PART_EXAMPLES: Final = {
    "source": "github",
    "tenant": "acme",
    "id": "order-7",
    "name": "summary",
    "deployment": "acme",
    "hash": "fd8e1c54ab0910f3",
    "type": "Order",
}

_URI_REFERENCE: Final = r"^(?!pd-)([A-Za-z0-9._~:/?#@!$&'()*+,;=-]|\[|\]|%[0-9A-Fa-f]{2})+$"
_EVENT: Final = {
    "type": "object",
    "description": "A CloudEvent 1.0 in structured mode; in binary mode, its attributes are headers `ce-…`. `type` is the kind of the message, "
    "`source` and `id` are the message's, `data` is the payload. The extensions `tokey`, `toprocess` and `totag` say where it goes.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", **rules(limits.MESSAGE_ID_MAX, pattern=NOT_OURS)},
        "source": {"type": "string", **rules(limits.SOURCE_MAX, pattern=_URI_REFERENCE)},
        "type": {"type": "string", **rules(limits.REGISTRY_KEY_MAX)},
        "data": {},
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "minLength": 1, "pattern": NO_CONTROL},
            {"type": "boolean"},
            {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        ]
    },
}
_EVENT_EXAMPLE: Final = {"specversion": "1.0", "id": "order-7", "source": "/shop", "type": "Place", "data": {"order": "7", "amount": 1290}}


def document(routes: Sequence[Route] = ROUTES) -> dict[str, Any]:
    """Return the document."""
    types = list(dict.fromkeys([Problem, *_types(routes)]))
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perdure",
            "version": version("perdure"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "pdt_<id>_<secret>",
                    "description": "Made by `perdure token create`. `x-capability` says what a route needs.",
                },
                **{
                    name: {"type": "apiKey", "in": "header", "name": header, "description": f"HMAC-SHA256 of the body: {of}"}
                    for name, (header, of) in _SIGNATURES.items()
                },
            },
        },
    }


def _types(routes: Sequence[Route]) -> Iterator[Any]:
    for route in routes:
        if route.takes is not None:
            yield route.takes
        yield from (kind for kind in route.returns.values() if kind is not bytes)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": list(_parameters(route)),
        "responses": dict(_responses(route)),
    }
    if route.signed:  # by one of them: which one, the app says of the source
        operation["security"] = [{name: []} for name in _SIGNATURES]
    elif route.capability is None:
        operation["security"] = []
    else:
        operation["x-capability"] = route.capability
    if route.takes is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(route.takes)),
            "content": {JSON_TYPE: {"schema": _schema(route.takes), "example": route.takes_example}},
        }
    if route.events:
        operation["requestBody"]["content"][STRUCTURED] = {"schema": _EVENT, "example": _EVENT_EXAMPLE}
    if route.archive_max:
        archive = {"schema": {"type": "string", "format": "binary", "maxLength": route.archive_max}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(ARCHIVE_TYPES, archive)}
    if route.streams:
        most = limits.HTTP_BODY_MAX if route.signed else limits.BLOB_MAX
        binary = {"schema": {"type": "string", "format": "binary", "maxLength": most}}
        operation["requestBody"] = {"required": True, "content": {"*/*": binary}}
    return operation


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    words = route.path.split("/")
    for before, word in pairwise(words):
        if word.startswith("{"):
            name = word.strip("{}")
            schema = _PARTS.get(f"{before}/{name}", _PARTS[name])
            yield {"name": name, "in": "path", "required": True, "schema": schema, "example": _PART_EXAMPLES[name]}
    _, components = msgspec.json.schema_components([route.query], ref_template=_REF)
    described = components[route.query.__name__]
    for name, schema in described["properties"].items():
        yield {"name": name, "in": "query", "required": name in described.get("required", ()), "schema": _plain(schema)}
    if route.once:
        # Without quotes, or as a string of RFC 9651, in which a quote and a backslash have a backslash before them.
        most = limits.IDEMPOTENCY_KEY_MAX
        quoted = f'"([ !#-\\[\\]-~]|\\\\["\\\\]){{1,{most}}}"'
        key = {"type": "string", "pattern": f"^([!#-~][!-~]{{0,{most - 1}}}|{quoted})$"}
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": key,
            "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
            "description": "The same request with the same key gets the same answer; another request with it is refused.",
        }
    if route.streams and not route.signed:
        for name in ("Content-Digest", "Repr-Digest"):
            yield {
                "name": name,
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "example": "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
                "description": "What the body has to be (RFC 9530); of its algorithms, sha-256 counts.",
            }
    if route.archive_max:
        yield {
            "name": "Built-With",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": limits.HTTP_BUILT_WITH_MAX, "pattern": "^\\{[ -~]*\\}$"},
            "example": '{"commit": "c0ffee"}',
            "description": "What was found when the package was built, an object of JSON in ASCII: for the deployment log.",
        }
    if EVENTS_TYPE in route.media_types:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": "^(-1|[0-9]{1,18})$"},
            "description": "Of a stream: the id of the last event that was seen.",
        }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what a query says when it says it: one that is left out is no `null`."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    return {
        **options[0],
        **{name: told for name, told in schema.items() if name == "description"},
        **({} if schema.get("default") is None else {"default": schema["default"]}),
    }


def _responses(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, kind in route.returns.items():
        # What is no text may be anything, also JSON of any kind: to OpenAPI 3.1 that is a schema without a rule.
        content: dict[str, Any] = {
            media: {"schema": {"type": "string"} if media.startswith("text/") else {}} for media in route.media_types
        }
        if kind is not bytes:
            example = route.pending_example if status == HTTPStatus.ACCEPTED else route.example
            content[JSON_TYPE] = {"schema": _schema(kind), **({} if example is None else {"example": example})}
        yield str(status), {"description": HTTPStatus(status).phrase, "content": content}
    by_status: dict[int, list[type[PerdureError]]] = {}
    for kind in refusals(route):
        by_status.setdefault(status_of(kind), []).append(kind)
    for status, kinds in sorted(by_status.items()):
        yield str(status), _refusal(status, kinds)


def refusals(route: Route) -> list[type[PerdureError]]:
    """Return every class of errors that a route refuses with."""
    found: list[type[PerdureError]] = [*_OF_ALL, *route.errors]
    if route.capability is not None:
        found += [*_OF_TOKENS, *_OF_STORES]
    if route.takes is not None:
        found += _OF_BODIES
    if route.events:
        found += _OF_EVENTS
    if route.signed:
        found += [*_OF_SIGNATURES, *_OF_STORES]
    if route.method != "GET":
        found += _OF_WRITES
    if route.once:
        found += _OF_KEYS
    if route.of_tenant:
        found += [errors.InvalidIdentifier, errors.UsageError, route.absent or errors.RouteNotFound]
    return list(dict.fromkeys(found))


def _refusal(status: int, kinds: Sequence[type[PerdureError]]) -> dict[str, Any]:
    examples = {kind.code: {"summary": _meaning(kind), "value": _example(kind)} for kind in kinds}
    response: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(examples)}",
        "content": {PROBLEM_TYPE: {"schema": _schema(Problem), "examples": examples}},
    }
    headers: dict[str, Any] = {}
    if any(issubclass(kind, errors.TokenMissing | errors.TokenInvalid | errors.NotAllowed | errors.WebhookRefused) for kind in kinds):
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    if any(kind.retryable for kind in kinds):
        headers["Retry-After"] = {"schema": {"type": "string"}, "description": "Seconds after which the same request may succeed."}
    return {**response, "headers": headers} if headers else response


def _meaning(kind: type[PerdureError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _example(kind: type[PerdureError]) -> dict[str, Any]:
    shown: PerdureError = kind.__new__(kind)
    detail = nothing_here() if issubclass(kind, errors.NotFoundError) else _meaning(kind)
    shown.args = (detail,)
    example: dict[str, Any] = msgspec.to_builtins(problem_of(shown))
    return example
