"""What the HTTP server refuses with: more of the tree of `perdure.errors`.

`code` is what programs compare, over the wire, too.
"""

from __future__ import annotations

from perdure.errors.roots import NotFoundError, PerdureError, RejectedError, UsageError

# --- the HTTP server -------------------------------------------------------------------------------------


class ConfigInvalid(UsageError):
    """A key of the configuration is unknown or wrong; the text names it, and where it stands."""

    code = "config-invalid"


class BodyMalformed(UsageError):
    """What came is not JSON, not UTF-8, or not HTTP; the text says where."""

    code = "body-malformed"


class RequestInvalid(UsageError):
    """A part of the request breaks a rule; the text names the part and the rule. Nothing was written."""

    code = "request-invalid"


class MediaTypeRefused(UsageError):
    """The body is of another type than the route takes."""

    code = "media-type-refused"


class RouteNotFound(NotFoundError):
    """The server has no such path, or nothing there that this token reaches."""

    code = "route-not-found"


class MethodRefused(UsageError):
    """The path is there, but not with this method; `Allow` names those that it has."""

    code = "method-refused"


class HeadersTooLarge(UsageError):
    """The head of the request is over its limit."""

    code = "headers-too-large"


class RequestTooSlow(PerdureError):
    """The request did not arrive in the time that it is given; nothing was written."""

    code = "request-too-slow"
    retryable = True


class TokenMissing(PerdureError):
    """The request has no token; send `Authorization: Bearer <token>`."""

    code = "token-missing"


class TokenInvalid(PerdureError):
    """The token is unknown, expired or revoked; use another."""

    code = "token-invalid"


class NotAllowed(PerdureError):
    """The token lacks the capability that the route asks for."""

    code = "not-allowed"


class TooManyAttempts(PerdureError):
    """Too many invalid tokens came from this address; wait, and send a valid one."""

    code = "too-many-attempts"
    retryable = True


class IdempotencyKeyReused(RejectedError):
    """The `Idempotency-Key` belongs to another request; a new request needs a new key."""

    code = "idempotency-key-reused"


class IdempotencyKeyInUse(RejectedError):
    """The request with this `Idempotency-Key` is still running; repeat it later."""

    code = "idempotency-key-in-use"
    retryable = True


class InternalError(PerdureError):
    """The server failed at this request; its log says where. It is no fault of the request."""

    code = "internal"


class TokenNotFound(NotFoundError):
    """No token has this id."""

    code = "token-not-found"
