"""Contract 2: what callers of the command registry may rely on.

Source: contracts.md, "2. CommandRegistry"; seed 2; commands.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from perdure import limits
from perdure.blob import Blob
from perdure.clock import SECOND, Micros
from perdure.commands.states import CommandState
from perdure.errors import InvalidIdentifier, UsageError
from perdure.identity import DEFAULT_TENANT, TenantId, checked_text

LEASE_FOR: Final = limits.COMMAND_LEASE_US
"""How long a lease lasts when nobody says so, in microseconds."""


class DeploymentModel(StrEnum):
    """How a command comes to its worker."""

    PULL = "pull"  # the worker asks for it
    PUSH = "push"  # it is sent


class CommandRetry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a command that failed is given out again, and when. It is stored with the command.

    An attempt has failed when its worker says so with `retryable`, or when its lease ran out. A release is no failure.

    Args:
        max_attempts: failures, at the last of which the command is a dead letter.
        initial: seconds before it is given out again after the first failure.
        factor: by which each wait is longer than the one before; 1 to 1,000,000.
        maximum: seconds, the longest wait.
        jitter: 0..1, how much of each wait varies from command to command.
        give_up_on: error codes that are not worth another attempt.

    Source: commands.md, "Retry policy as data".
    """

    max_attempts: int = 5
    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 300.0
    jitter: float = 0.1
    give_up_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be meant."""
        if type(self.max_attempts) is not int or not 1 <= self.max_attempts <= limits.RETRY_ATTEMPTS_MAX:
            raise UsageError(f"CommandRetry: max_attempts is 1 to {limits.RETRY_ATTEMPTS_MAX}, found {self.max_attempts!r}")
        numbers = (self.initial, self.factor, self.maximum, self.jitter)
        if not all(isinstance(one, int | float) for one in numbers):
            raise UsageError(f"CommandRetry: initial and maximum are seconds, factor and jitter numbers, found {self}")
        waits = 0 <= self.initial <= limits.COMMAND_WAIT_MAX_SECONDS and 0 <= self.maximum <= limits.COMMAND_WAIT_MAX_SECONDS
        if not (waits and 1 <= self.factor <= limits.COMMAND_FACTOR_MAX and 0 <= self.jitter <= 1):  # in this form, NaN is refused
            raise UsageError(
                f"CommandRetry: initial and maximum are 0 to {limits.COMMAND_WAIT_MAX_SECONDS:,} seconds, factor 1 to {limits.COMMAND_FACTOR_MAX:,}, jitter 0 to 1, "
                f"found {self}"
            )
        known = isinstance(self.give_up_on, tuple | list) and all(isinstance(code, str) for code in self.give_up_on)
        if not known or len(self.give_up_on) > limits.COMMAND_CODES_MAX:
            raise UsageError(f"CommandRetry: give_up_on is at most {limits.COMMAND_CODES_MAX} error codes, found {self.give_up_on!r:.200}")
        for code in self.give_up_on:
            try:
                checked_text(code, what="a code of give_up_on", limit=limits.COMMAND_CODE_MAX)
            except InvalidIdentifier as error:
                raise UsageError(f"CommandRetry: {error}") from None

    def delay(self, failures: int, chance: float) -> Micros:
        """Return the microseconds to wait after failure number `failures`; `chance` is 0..1."""
        try:
            wait = min(self.maximum, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            wait = self.maximum if self.initial else 0
        return round(wait * (1 - self.jitter * chance) * SECOND)


DEFAULT_RETRY: Final = CommandRetry()


Body = bytes | Blob
"""Params or a result: JSON data, or a reference to bytes that are kept apart."""


class CommandMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it was created. `duplicate`: it had been, by the same request with the same idempotency key."""

    command_id: str
    deployment_model: DeploymentModel
    tenant_id: TenantId
    state: CommandState
    duplicate: bool = False


class CommandEnvelopeData(msgspec.Struct, frozen=True, kw_only=True):
    """What an envelope for a worker needs. Times are microseconds since the epoch."""

    command_id: str
    deployment_id: str
    command: str
    attempt: int
    deadline: Micros | None
    state: CommandState
    deployment_model: DeploymentModel
    target: str | None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a worker says that it has come: 0..1, and a note of one line."""

    fraction: float
    note: str = ""


NOTHING: Final = msgspec.Raw(b"null")
"""No details. It is not None, since a decoder takes nothing else than null for a union of None and raw data."""


class CommandError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command failed. `details` is JSON data, `null` for none."""

    code: str
    message: str = ""
    details: msgspec.Raw = NOTHING


class CommandEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever waits for a command gets when it was not done: the state that it ended in, and why."""

    state: CommandState
    code: str
    message: str = ""
    details: msgspec.Raw = NOTHING


class CommandStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it stands. Times are microseconds since the epoch.

    Args:
        command_id: its name.
        tenant_id: whose it is.
        deployment_id: which workers it is for.
        target: which of them; None for those that name none.
        command: the name of what is to be done.
        deployment_model: how it comes to its worker.
        state: where it is.
        attempt: the number of the delivery that is under way, or would be the next; from 1 on.
        failures: attempts that failed.
        max_attempts: failures, at the last of which it is a dead letter.
        priority: the lowest is given out first.
        deadline: when it expires.
        created_at: when it was created.
        available_at: it is not given out before.
        dispatched_at: when it was given out last.
        completed_at: when it reached a terminal state.
        lease_expires_at: when the present worker's right to it ends.
        worker: who has it, or had it last.
        progress: what that worker said last.
        cancel_requested: somebody asked for it to be stopped while a worker had it.
        error: why it failed; JSON data, as it was given.
        request_size_bytes: of its params.
        response_size_bytes: of its result.
        dead: it is a dead letter: tried as often as its policy says, or not deliverable.
        redriven_as: the command that was made of this dead letter.
        traceparent: of W3C trace context.
    """

    command_id: str
    tenant_id: str
    deployment_id: str
    target: str | None
    command: str
    deployment_model: DeploymentModel
    state: CommandState
    attempt: int
    failures: int
    max_attempts: int
    priority: int
    deadline: Micros | None
    created_at: Micros
    available_at: Micros
    dispatched_at: Micros | None
    completed_at: Micros | None
    lease_expires_at: Micros | None
    worker: str
    progress: Progress | None
    cancel_requested: bool
    error: msgspec.Raw | None
    request_size_bytes: int | None
    response_size_bytes: int | None
    dead: bool
    redriven_as: str | None
    traceparent: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to work on a command until `lease_expires_at`. `token` is the fencing token; each new one is greater."""

    command_id: str
    token: int
    attempt: int
    deployment_id: str
    target: str | None
    command: str
    params: Body | None
    lease_expires_at: Micros
    deadline: Micros | None
    traceparent: str


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """Until when a lease lasts now, and whether somebody wants the work to stop."""

    lease_expires_at: Micros
    deadline: Micros | None
    cancel_requested: bool
    reason: str = ""


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """It was done, and this is the result."""

    result: Body = b"null"


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It was not done. `retryable`: another attempt may succeed, as the command's policy allows.

    Args:
        code: a stable word, 1..128 bytes.
        message: for people, at most 16 KiB.
        details: JSON data, at most 16 KiB.
        retryable: whether another attempt may succeed.
    """

    code: str
    message: str = ""
    details: bytes | None = None
    retryable: bool = False


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """It was stopped, because somebody had asked for that."""

    message: str = ""


CommandOutcome = Succeeded | Failed | Stopped


class CommandEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a command; never changed afterwards.

    Args:
        at: when, in microseconds since the epoch.
        kind: `created`, `uploaded`, `leased`, `sent`, `send-refused`, `send-unknown`, `released`, `attempt-failed`, `lease-expired`, `succeeded`, `failed`,
            `expired`, `cancelled`, `cancel-requested`, `state-set`, `attempt-raised`, `redriven`.
        attempt: during which delivery.
        actor: who did it; empty for the store itself.
        detail: why, for people.
    """

    at: Micros
    kind: str
    attempt: int
    actor: str
    detail: str


class CommandFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which commands a list shows; None is all."""

    deployment_id: str | None = None
    target: str | None = None
    command: str | None = None
    state: CommandState | None = None
    dead: bool | None = None


EVERYTHING: Final = CommandFilter()


class CommandPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some commands, the newest first. Pass `next` as `after` to go on; None when there was nothing more."""

    commands: list[CommandStatus]
    next: str | None


class CommandRegistry(Protocol):
    """Who is to do what, who is at it, and how did it end?

    Every method names what it raises beyond this: InvalidIdentifier and UsageError for arguments that break their rules,
    before anything is read; StoreUnavailable, when nothing was read or written and the call may be repeated.
    Instants and durations are microseconds. A command of another tenant is not found.

    Source: contracts.md, "2. CommandRegistry"; seed 2.
    """

    async def create_command(
        self,
        deployment_id: str,
        command_name: str,
        initial_state: CommandState = CommandState.PENDING,
        deadline: Micros | None = None,
        *,
        request_size_bytes: int | None = None,
        tenant_id: str = DEFAULT_TENANT,
        target: str | None = None,
        params: Body | None = None,
        idempotency_key: str | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: Micros = 0,
        traceparent: str = "",
        actor: str = "",
    ) -> CommandMetadata:
        """Create a command, with everything of it, in one transaction.

        Args:
            deployment_id: which workers it is for, 1..256 bytes of UTF-8 without control characters.
            command_name: what is to be done; by the same rules.
            initial_state: `PENDING`, or `PENDING_UPLOAD` when its params come later by `set_params`.
            deadline: when it expires if it is not done; in the future.
            request_size_bytes: of the params, when they come later; otherwise it is known.
            tenant_id: whose it is.
            target: which of the deployment's workers; by the rules of `deployment_id`. Those that lease with the same target
                get it, and nobody else; None is a target like any other.
            params: JSON data, at most 1 MiB, or a blob.
            idempotency_key: 1..512 bytes; the same key for the same deployment, target and name is the same command.
            retry: how often and when it is given out again.
            priority: the lowest is given out first; of equal ones, the one that has been available for longest.
            delay: it is not given out before so long.
            traceparent: of W3C trace context, at most 256 bytes.
            actor: who creates it, for the history.

        Raises:
            IdempotencyConflict: the key was used for other params.
            BlobNotFound: the params are a blob that is not there.
            PayloadTooLarge: params over 1 MiB.
            DeadlinePassed: the deadline is not in the future.
        """
        ...

    async def set_params(self, command_id: str, params: Body, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> None:
        """Give a command in PENDING_UPLOAD its params: it is PENDING then. Again with the same ones nothing happens.

        Raises:
            CommandNotFound: there is none.
            IllegalTransition: it has others, or is over.
            BlobNotFound: they are a blob that is not there.
            PayloadTooLarge: over 1 MiB.
        """
        ...

    async def get_command_metadata(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> CommandEnvelopeData | None:
        """Return what an envelope needs; None when there is no such command."""
        ...

    async def get_command_status(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> CommandStatus | None:
        """Return everything about a command but params and result; None when there is no such command."""
        ...

    async def get_params(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> Body | None:
        """Return a command's params; None when it has none."""
        ...

    async def get_result(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> Body | None:
        """Return the result of a command that succeeded; None for any other."""
        ...

    async def update_command_state(
        self,
        command_id: str,
        state: CommandState,
        *,
        dispatched_at: Micros | None = None,
        completed_at: Micros | None = None,
        response_size_bytes: int | None = None,
        error: msgspec.Raw | None = None,
        tenant_id: str = DEFAULT_TENANT,
        actor: str = "",
    ) -> None:
        """Set a command's state, as its table of transitions allows. In that state already, nothing changes.

        A worker that had it has lost it. The optional fields overwrite only when they are given.

        Raises:
            CommandNotFound: there is none.
            IllegalTransition: its state does not lead there.
            PayloadTooLarge: the error is over 64 KiB.
            PayloadUnencodable: it is no JSON.
        """
        ...

    async def increment_attempt(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> int:
        """Raise the number of a command's attempt and return it.

        Raises:
            CommandNotFound: there is none.
            IllegalTransition: it is over.
        """
        ...

    async def lease(
        self,
        deployment_id: str,
        *,
        tenant_id: str = DEFAULT_TENANT,
        target: str | None = None,
        names: Iterable[str] | None = None,
        max_leases: int = 1,
        lease_for: Micros = LEASE_FOR,
        wait: Micros = 0,
        worker: str = "",
    ) -> list[Lease]:
        """Take commands that wait: by priority, then the one that has been available for longest, then the oldest.

        Args:
            deployment_id: whose commands.
            tenant_id: whose deployment.
            target: only commands for exactly this one.
            names: only commands of these names, at most 100.
            max_leases: 1..100.
            lease_for: 1 second to 1 day.
            wait: how long to wait when there is nothing.
            worker: who takes them, for the history.

        Returns:
            At most as many as were asked for, and with params inline of at most 8 MiB together; none when there was nothing in time.
        """
        ...

    async def renew(
        self,
        command_id: str,
        token: int,
        *,
        tenant_id: str = DEFAULT_TENANT,
        lease_for: Micros = LEASE_FOR,
        progress: Progress | None = None,
    ) -> Renewal:
        """Extend a lease: from now on for so long. `progress` is kept, and shown to who looks.

        Raises:
            CommandNotFound: there is none.
            StaleLease: somebody else has it now, or nobody has, or it is over.
        """
        ...

    async def release(self, command_id: str, token: int, *, tenant_id: str = DEFAULT_TENANT, delay: Micros = 0, error: str = "") -> None:
        """Give a command back without having done it, which is no failure: it waits again, from `delay` on. `error` is for the history.

        Raises:
            CommandNotFound: there is none.
            StaleLease: somebody else has it now, or nobody has, or it is over.
        """
        ...

    async def check_lease(self, command_id: str, token: int, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """Let whoever has a command's lease through; a look, for what a worker begins before it completes.

        Raises:
            CommandNotFound: there is none.
            StaleLease: somebody else has it now, or nobody has, or it is over.
        """
        ...

    async def complete(self, command_id: str, token: int, outcome: CommandOutcome, *, tenant_id: str = DEFAULT_TENANT) -> bool:
        """Say how an attempt ended.

        Returns:
            Whether this is how the command ended, or how its attempt did; also when the same is said again. False: it is over
            already, by somebody else, by its deadline or by its cancellation.

        Raises:
            CommandNotFound: there is none.
            StaleLease: somebody else has it now, or nobody has; what was done does not count.
            BlobNotFound: the result is a blob that is not there.
            PayloadTooLarge: the result is over 1 MiB, or the error over 16 KiB.
        """
        ...

    async def cancel(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, reason: str = "", actor: str = "") -> CommandState:
        """Ask for a command not to be done, and return its state: cancelled if no worker has it.

        A worker that has it is told when it renews; if it does not answer, the command is cancelled at the end of its lease.

        Raises:
            CommandNotFound: there is none.
        """
        ...

    async def redrive(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> str:
        """Make a new command of one that failed, expired or was cancelled, with all it had but its deadline, once; return its id.

        Raises:
            CommandNotFound: there is none.
            IllegalTransition: it is not over, or it succeeded.
        """
        ...

    async def wait_command(
        self,
        command_id: str,
        timeout: Micros,  # noqa: ASYNC109  # it is measured by the store's clock, which a test may drive
        *,
        tenant_id: str = DEFAULT_TENANT,
    ) -> CommandStatus:
        """Return a command's status as soon as it is over; as it stands, after `timeout`.

        Raises:
            CommandNotFound: there is none.
        """
        ...

    async def expire_due(self, now: Micros) -> int:
        """Do what is due at `now`, and return for how many commands: leases and deadlines that ran out, delays that are over."""
        ...

    async def next_due(self) -> Micros | None:
        """Return when something is due for any command; None when nothing is."""
        ...

    async def history(
        self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, after: int | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[CommandEvent]:
        """Return what happened to a command, oldest first: its first 10,000 events, and how it ended.

        Args:
            command_id: which.
            tenant_id: whose.
            after: how many to leave out, from the first on.
            limit: 1..1,000.

        Raises:
            CommandNotFound: there is none.
        """
        ...

    async def list_commands(
        self,
        *,
        tenant_id: str = DEFAULT_TENANT,
        matching: CommandFilter = EVERYTHING,
        after: str | None = None,
        limit: int = limits.PAGE_DEFAULT,
    ) -> CommandPage:
        """Return a tenant's commands, the newest first; a page may have fewer than `limit` and be followed by another.

        Args:
            tenant_id: whose.
            matching: which of them.
            after: `next` of the page before.
            limit: 1..1,000.
        """
        ...
