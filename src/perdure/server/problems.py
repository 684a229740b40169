"""Refusals: which status an error has, and what is told of it.

Source: RFC 9457; commands.md, "HTTP".
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from perdure import errors, limits
from perdure.errors import PerdureError
from perdure.protocol.problems import PROBLEM_TYPE, TYPE_PREFIX, Problem
from perdure.server.route import Answer

_SERVER_FAULT: Final = 500
_STATUSES: Final[tuple[tuple[type[PerdureError], int], ...]] = (
    # The first that fits: what is special stands before the family that it belongs to.
    (errors.BodyMalformed, 400),
    (errors.TokenMissing, 401),
    (errors.TokenInvalid, 401),
    (errors.NotAllowed, 403),
    (errors.MethodRefused, 405),
    (errors.RequestTooSlow, 408),
    (errors.HistoryCompacted, 410),
    (errors.MessageExpired, 410),
    (errors.OperationExpired, 410),
    (errors.PayloadTooLarge, 413),
    (errors.PackageTooLarge, 413),
    (errors.ArchiveSizeRefused, 413),
    (errors.NodeNotReady, 503),
    (errors.PackageUntrusted, 403),  # whoever asks may deploy, but not this: the policy of the server stands before it
    (errors.PackageRequirementUnmet, 422),
    (errors.PackageEnvironmentFailed, 422),
    (errors.PackageImportFailed, 422),
    (errors.PackageEntryMissing, 422),
    (errors.PackageSchemaDrift, 422),
    (errors.SigningUnavailable, _SERVER_FAULT),  # a distribution that the server lacks
    (errors.MediaTypeRefused, 415),
    (errors.HeadersTooLarge, 431),
    (errors.IdempotencyKeyReused, 422),
    (errors.MailboxFull, 429),
    (errors.TooManyAttempts, 429),
    (errors.NotFoundError, 404),
    (errors.WebhookRefused, 401),
    (errors.WebhookUnmapped, 422),
    (errors.WebhookSecretInvalid, _SERVER_FAULT),  # a secret of ours: the sender can only come again
    (errors.StaleLease, 409),
    (errors.RejectedError, 409),
    (errors.UsageError, 422),
    (errors.PayloadInvalid, 422),
    (errors.Overloaded, 503),
    (errors.StoreUnavailable, 503),
    (errors.StoreBusy, 503),
    (errors.LeaseLost, 503),
    (errors.OutcomeUnknown, 503),
    (errors.StoreFull, 507),
    (PerdureError, _SERVER_FAULT),
)
_CHALLENGES: Final[Mapping[type[PerdureError], str]] = {
    errors.TokenMissing: 'Bearer realm="perdure"',
    errors.TokenInvalid: 'Bearer realm="perdure", error="invalid_token"',
    errors.NotAllowed: 'Bearer realm="perdure", error="insufficient_scope"',
    errors.WebhookRefused: 'Signature realm="perdure"',
}
_BEHIND: Final = "the store could not do this now; the log of the server says why"
_INTERNAL: Final = "the server failed at this request; its log says where"


def status_of(kind: type[PerdureError]) -> int:
    """Return the status of a class of errors."""
    return next(status for of, status in _STATUSES if issubclass(kind, of))


def retryable(error: PerdureError) -> bool:
    """Whether the same request, made again later, can succeed; a message of an unknown outcome can be sent again for its id."""
    return error.retryable or isinstance(error, errors.OutcomeUnknown)


def problem_of(error: PerdureError, *, instance: str | None = None) -> Problem:
    """Return what is told of an error. What lies behind the server is not told."""
    status = status_of(type(error))
    hidden = status >= _SERVER_FAULT and not isinstance(error, errors.Overloaded)
    detail = (_BEHIND if isinstance(error, errors.StoreError) else _INTERNAL) if hidden else str(error)
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=error.code,
        retryable=retryable(error),
        instance=instance,
    )


def refusal(error: PerdureError, *, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer that an error becomes."""
    problem = problem_of(error)
    more = dict(headers or {})
    if challenge := next((text for kind, text in _CHALLENGES.items() if isinstance(error, kind)), ""):
        more["www-authenticate"] = challenge
    if problem.retryable:
        wait = limits.HTTP_ATTEMPTS_US // 1_000_000 if isinstance(error, errors.TooManyAttempts) else limits.HTTP_RETRY_SECONDS
        more["retry-after"] = str(wait)
    return Answer(status=problem.status, body=encode(problem), media_type=PROBLEM_TYPE, headers=more)


encode: Final[Any] = msgspec.json.Encoder().encode
