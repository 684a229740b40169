"""Errors of commands, and of those who use a server."""

from __future__ import annotations

from perdure.errors.roots import NotFoundError, PerdureError, RejectedError, UsageError
from perdure.errors.store import LeaseLost

# --- commands, clients and workers ------------------------------------------------------------------


class StaleLease(LeaseLost):
    """The lease of a command has ended, or somebody else has it now; stop working on it."""

    code = "stale-lease"
    retryable = False


class ServerUnreachable(PerdureError):
    """No answer came from the server in time; whether it has done what was asked for is not known."""

    code = "server-unreachable"
    retryable = True


class ServerRefused(PerdureError):
    """The server answered with something that is no error of Perdure's; the text says what.

    Attributes:
        status: of HTTP.
        problem_code: the code that it named; empty for none.
    """

    code = "server-refused"

    def __init__(self, text: str, *, status: int = 0, problem_code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.problem_code = problem_code


class CommandPending(PerdureError):
    """The command is not over yet; wait for it again."""

    code = "command-pending"
    retryable = True


class ReplyPending(PerdureError):
    """The message has no reply yet; call again with the same id."""

    code = "reply-pending"
    retryable = True


class CommandNotFound(NotFoundError):
    """There is no such command in this tenant."""

    code = "command-not-found"


class PushEndpointNotFound(NotFoundError):
    """There is no endpoint for this deployment and target in this tenant."""

    code = "push-endpoint-not-found"


class IdempotencyConflict(RejectedError):
    """The idempotency key was used for another request; nothing was written. A new request needs a new key."""

    code = "idempotency-conflict"


class DeadlinePassed(RejectedError):
    """The deadline is not in the future; nothing was written."""

    code = "deadline-passed"


class BlobNotFound(NotFoundError):
    """There is no such blob in this tenant; upload it, then refer to it."""

    code = "blob-not-found"


class BlobMismatch(UsageError):
    """The bytes that came are not those that were announced; nothing was kept. Send them again."""

    code = "blob-mismatch"


class UploadLost(RejectedError):
    """An upload rested for too long, and what had come of it was removed; begin it again."""

    code = "upload-lost"
    retryable = True


class CommandFailed(PerdureError):
    """A command was not done. `error_code` and `details` are what its worker said.

    Attributes:
        error_code: a stable word.
        details: plain data, or None.
    """

    code = "command-failed"

    def __init__(self, error_code: str, message: str = "", details: object = None) -> None:
        super().__init__(error_code, message, details)
        self.error_code = error_code
        self.details = details

    def __str__(self) -> str:
        error_code, message = self.args[0], self.args[1]
        return f"{error_code}: {message}" if message else str(error_code)


class CommandExpired(CommandFailed):
    """A command was not done before its deadline."""

    code = "command-expired"


class CommandCancelled(CommandFailed):
    """Somebody asked for a command not to be done, and it was not."""

    code = "command-cancelled"
