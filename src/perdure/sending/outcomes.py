"""What became of a request: it arrived, it surely did nothing, or nobody knows."""

from __future__ import annotations

import email.utils
from typing import Final, Literal

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros

Reason = Literal["status", "redirect", "target", "name-not-found", "not-connected", "tls", "timed-out", "cut-off"]

_RETRYABLE: Final = frozenset({408, 425, 429})
_UNAVAILABLE: Final = 503
_DIGITS: Final = 10  # of a Retry-After in seconds: 300 years


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The target has answered with a status of 200 to 299.

    `answer` is the JSON that came with a 200, if it was asked for and came as a whole.
    """

    status: int
    answer: bytes | None = None

    def __repr__(self) -> str:  # what a target says is in no log
        return f"Accepted(status={self.status})"


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The target has done nothing: it said so, or nothing was sent to it.

    Attributes:
        reason: a stable word.
        detail: for people, without anything that the target said but its status.
        status: of the answer, if there was one.
        retryable: whether the same request may be taken later.
        retry_after: microseconds that the target wants to be left alone, if it said so.
    """

    reason: Reason
    detail: str
    status: int | None = None
    retryable: bool = False
    retry_after: Micros | None = None


class Ambiguous(msgspec.Struct, frozen=True, kw_only=True, tag="ambiguous"):
    """Sending had begun, and no answer says what the target has done: it may have taken the request."""

    reason: Reason
    detail: str
    status: int | None = None


Outcome = Accepted | Refused | Ambiguous


def outcome_of(status: int, retry_after: str | None, *, now: Micros, shown: str) -> Outcome:
    """Return what an answer means.

    Args:
        status: of it.
        retry_after: its header of this name.
        now: microseconds since the epoch, for a Retry-After that is a date.
        shown: the URL, redacted.
    """
    wait = retry_after_of(retry_after, now=now)
    match status:
        case _ if 200 <= status <= 299:  # noqa: PLR2004  # what HTTP calls a success
            return Accepted(status)
        case _ if 300 <= status <= 399:  # noqa: PLR2004  # and what it calls a redirect
            detail = f"{shown}: answered with a redirect, status {status}; none is followed, give the new URL"
            return Refused(reason="redirect", detail=detail, status=status)
        case _ if 400 <= status <= 499 or (status == _UNAVAILABLE and wait is not None):  # noqa: PLR2004  # and an error of the request
            retryable = status in _RETRYABLE or status == _UNAVAILABLE
            detail = f"{shown}: refused with status {status}"
            return Refused(reason="status", detail=detail, status=status, retryable=retryable, retry_after=wait if retryable else None)
        case _:
            return Ambiguous(reason="status", detail=f"{shown}: answered with status {status}", status=status)


def retry_after_of(text: str | None, *, now: Micros) -> Micros | None:
    """Return how long a Retry-After asks for, seconds or a date, at most `limits.SEND_RETRY_AFTER_MAX_US`; None when it is neither."""
    given = (text or "").strip()
    if given.isascii() and given.isdecimal():
        wait = int(given) * SECOND if len(given) <= _DIGITS else limits.SEND_RETRY_AFTER_MAX_US
        return min(wait, limits.SEND_RETRY_AFTER_MAX_US)
    try:
        instant = email.utils.parsedate_to_datetime(given).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(0, int(instant) * SECOND - now), limits.SEND_RETRY_AFTER_MAX_US)
