"""The root of all errors, and the four families."""

from __future__ import annotations

from typing import ClassVar


class PerdureError(Exception):
    """The root of everything that Perdure raises on purpose."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False


# --- the four families -------------------------------------------------------------------------


class UsageError(PerdureError):
    """The call itself is wrong; change the program."""

    code = "usage"


class RejectedError(PerdureError):
    """A decision refused the request; nothing of its transaction was written."""

    code = "rejected"


class NotFoundError(RejectedError):
    """What the call names does not exist."""

    code = "not-found"


class StoreError(PerdureError):
    """The store could not do its work; the text says whether anything was written."""

    code = "store"
