"""The rows of commands.

A command's row says everything; the rows of `command_ready` and `command_due` follow from it and are written with it. They are
rows of their own so that what changes at each lease is in no index of the large table.
"""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class CommandRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One command.

    `tick` is the order of creation; `token` the last fencing token given out; `holder` is 1 while somebody has the lease of
    that token; `ready` is 1 while it may be leased at once; `events` how many its history has; `completed_by` the token of the
    outcome that counted. `progress` is JSON data, as is `error`. `target` is empty for none. One that is pushed goes to the
    endpoint of its deployment and of the target `endpoint`, which is its own or empty.
    """

    deployment_id: str
    target: str
    name: str
    model: str
    retry: bytes
    priority: int
    tick: int
    created_at: Micros
    deadline: Micros | None
    traceparent: str
    idempotency_key: str
    state: str
    attempt: int = 1
    failures: int = 0
    available_at: Micros
    ready: int = 0
    due_at: Micros | None = None
    token: int = 0
    holder: int = 0
    lease_expires_at: Micros | None = None
    worker: str = ""
    dispatched_at: Micros | None = None
    completed_at: Micros | None = None
    completed_by: int = 0
    request_size: int | None = None
    response_size: int | None = None
    error: bytes | None = None
    cancel_requested: int = 0
    cancel_reason: str = ""
    progress: bytes | None = None
    dead: int = 0
    redriven_as: str = ""
    events: int = 0
    endpoint: str = ""


class BodyRow(msgspec.Struct, frozen=True, gc=False):
    """Params or a result: JSON data, or the name of bytes that are kept apart."""

    data: bytes | None
    sha256: str
    size: int
    content_type: str


class ReadyRow(msgspec.Struct, frozen=True, gc=False):
    """A command that may be leased now."""

    name: str


class DueRow(msgspec.Struct, frozen=True, gc=False):
    """A command for which there is something to do at an instant."""

    deployment_id: str
    target: str


class PushEndpointRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the commands of a deployment, or of one target of it, are sent. Durations are microseconds.

    `secrets` are separated by spaces, the newest first. The last four fields before the times are the state of its breaker.
    """

    url: str
    secrets: str
    timeout: Micros
    result_within: Micros
    enabled: int = 1
    failures: int = 0
    openings: int = 0
    open_until: Micros | None = None
    probe_until: Micros | None = None
    created_at: Micros
    updated_at: Micros

    def __repr__(self) -> str:  # the generated one would show the secrets
        return f"PushEndpointRow(enabled={self.enabled})"


class CommandKeyRow(msgspec.Struct, frozen=True, gc=False):
    """Which command an idempotency key has made, and of which request."""

    command_id: str
    digest: bytes


class CommandEventRow(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened to a command."""

    at: Micros
    kind: str
    attempt: int
    actor: str
    detail: str


COMMAND = Table(
    "command",
    ("tenant_id", "command_id"),
    CommandRow,
    fixed=(
        "deployment_id",
        "target",
        "name",
        "model",
        "retry",
        "priority",
        "tick",
        "created_at",
        "deadline",
        "traceparent",
        "idempotency_key",
        "endpoint",
    ),
    indexed=("completed_at", "dead"),
)
BODY = Table("command_body", ("tenant_id", "command_id", "part"), BodyRow)
READY = Table("command_ready", ("tenant_id", "deployment_id", "target", "priority", "available_at", "tick", "command_id"), ReadyRow)
DUE = Table("command_due", ("due_at", "tenant_id", "command_id"), DueRow)
# Commands that wait to be sent; in a table of their own, so that no worker finds them.
PUSH_READY = Table("push_ready", ("tenant_id", "deployment_id", "endpoint", "priority", "available_at", "tick", "command_id"), ReadyRow)
PUSH_ENDPOINT = Table("push_endpoint", ("tenant_id", "deployment_id", "target"), PushEndpointRow)
COMMAND_KEY = Table("command_key", ("tenant_id", "deployment_id", "target", "name", "idempotency_key"), CommandKeyRow)
COMMAND_EVENT = Table("command_event", ("tenant_id", "command_id", "number"), CommandEventRow, kind="log")

_QUEUE = ("tenant_id", "deployment_id", "target")
_PUSHED = ("tenant_id", "deployment_id", "endpoint")
_ORDER = ("priority", "available_at", "tick", "command_id")

# Neither has a guard: what is missed is found at the next look.
READY_ALL = Index(READY, "command_ready", prefix=_QUEUE, order=_ORDER)
READY_NAMED = Index(READY, "command_ready_name", prefix=(*_QUEUE, "name"), order=_ORDER)
PUSH_HEADS = Index(PUSH_READY, "push_ready", order=(*_PUSHED, *_ORDER))
PUSH_QUEUE = Index(PUSH_READY, "push_ready", prefix=_PUSHED, order=_ORDER)
ENDPOINTS = Index(PUSH_ENDPOINT, "push_endpoint", prefix=("tenant_id",), order=("deployment_id", "target"))
DUE_ALL = Index(DUE, "command_due", order=("due_at", "tenant_id", "command_id"))
DUE_QUEUE = Index(DUE, "command_due_queue", prefix=_QUEUE, order=("due_at", "command_id"))
COMMANDS = Index(COMMAND, "command_created", prefix=("tenant_id",), order=("tick", "command_id"))
OF_DEPLOYMENT = Index(COMMAND, "command_deployment", prefix=("tenant_id", "deployment_id"), order=("tick", "command_id"))
OVER = Index(
    COMMAND,
    "command_over",
    order=("completed_at", "tenant_id", "command_id"),
    where=lambda row: row.completed_at is not None and not row.dead,
    where_sql="completed_at is not null and dead = 0",
)
EVENTS = Index(COMMAND_EVENT, "command_event", prefix=("tenant_id", "command_id"), order=("number",))
TABLES = (COMMAND, BODY, READY, DUE, PUSH_READY, PUSH_ENDPOINT, COMMAND_KEY, COMMAND_EVENT)
INDEXES = (READY_ALL, READY_NAMED, DUE_ALL, DUE_QUEUE, COMMANDS, OF_DEPLOYMENT, OVER, EVENTS, PUSH_HEADS, PUSH_QUEUE, ENDPOINTS)
