"""What callers may rely on who say where commands are sent.

Source: commands.md, "Push".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.cursors import cursor_of, named_by
from perdure.identity import DEFAULT_TENANT


class PushEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the commands of a deployment, or of one target of it, are sent. Its secrets are shown to nobody.

    Attributes:
        deployment_id: whose commands.
        target: of which target; None for all that have no endpoint of their own.
        url: http or https; without its query, which may be a secret, too.
        secrets: how many there are; two while they are rotated.
        timeout: microseconds that one request may take.
        result_within: microseconds that a result may take after a command was sent, or may have been.
        enabled: whether anything is sent, and new commands are for it.
        failures: in a row, as its breaker counts.
        open_until: nothing is sent before, because it failed again and again; None when it works.
        created_at: microseconds since the epoch.
        updated_at: likewise.
    """

    tenant_id: str
    deployment_id: str
    target: str | None
    url: str
    secrets: int
    timeout: Micros
    result_within: Micros
    enabled: bool
    failures: int
    open_until: Micros | None
    created_at: Micros
    updated_at: Micros

    @property
    def place(self) -> PushPlace:
        """Where it is in the list."""
        return PushPlace(self.deployment_id, self.target)


class PushPlace(msgspec.Struct, frozen=True):
    """After which endpoint a page begins."""

    deployment_id: str
    target: str | None = None

    @property
    def cursor(self) -> str:
        """This place as text, for the next page to begin after."""
        return cursor_of(msgspec.structs.astuple(self))

    @classmethod
    def named_by(cls, cursor: str) -> PushPlace:
        """Return the place that a cursor names. Raises UsageError."""
        return cls(*named_by(cursor, tuple[str, str | None]))


class PushEndpoints(Protocol):
    """Where commands are sent instead of waiting for workers that ask.

    A command is for the endpoint of its own target, or else for that of its deployment without a target, if one is enabled
    when it is created. That does not change: it waits while the endpoint is disabled or removed, and `cancel` and then
    `redrive` make a command of it that goes where commands go now.

    Every method raises StoreUnavailable when nothing was read or written.
    """

    async def put(
        self,
        deployment_id: str,
        url: str,
        *,
        tenant_id: str = DEFAULT_TENANT,
        target: str | None = None,
        secrets: Sequence[str] | None = None,
        timeout: Micros = limits.PUSH_TIMEOUT_US,  # noqa: ASYNC109  # it is of a request that is sent later
        result_within: Micros = limits.PUSH_RESULT_US,
        enabled: bool | None = None,
    ) -> str | None:
        """Set an endpoint, and return its secret if one was made for it: it is shown this once.

        One that was there keeps its secrets and whether it is enabled, unless that is given. Its breaker is closed.

        Args:
            deployment_id: whose commands.
            url: http or https, without userinfo. Whether its address may be sent to is found out when it is.
            tenant_id: whose deployment.
            target: of which target; for all that have no endpoint of their own when not given.
            secrets: 1..8 of Standard Webhooks, each of which signs; made when not given and there are none.
            timeout: microseconds that one request may take; 10 ms to 5 minutes.
            result_within: microseconds that a result may take after a command was sent, or may have been: until then it is
                not sent again. More than `timeout`, up to a day.
            enabled: whether it is sent to; a new one is when not given.

        Raises:
            TargetRefused, WebhookSecretInvalid, InvalidIdentifier, UsageError: nothing was written.
        """
        ...

    async def rotate(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> str:
        """Make a new secret, which signs beside the one before, and return it; older ones are dropped.

        Raises:
            PushEndpointNotFound: there is no such endpoint.
        """
        ...

    async def enable(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None, enabled: bool = True) -> bool:
        """Let an endpoint be sent to, or not, and return whether that is new. To enable one closes its breaker.

        Raises:
            PushEndpointNotFound: there is no such endpoint.
        """
        ...

    async def remove(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> bool:
        """Remove an endpoint, and return whether there was one. Commands that were for it wait."""
        ...

    async def get(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> PushEndpoint:
        """Return an endpoint.

        Raises:
            PushEndpointNotFound: there is no such endpoint.
        """
        ...

    async def list_endpoints(
        self, *, tenant_id: str = DEFAULT_TENANT, after: PushPlace | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[PushEndpoint]:
        """Return a page of a tenant's endpoints by deployment and target; `after` is the last one of the page before."""
        ...
