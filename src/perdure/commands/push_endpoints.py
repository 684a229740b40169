"""The facade of push endpoints: checks at the door, then one transaction or one read."""

from __future__ import annotations

from collections.abc import Sequence

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.commands.arguments import checked_name, checked_span, checked_target
from perdure.commands.push_contract import PushEndpoint, PushPlace
from perdure.commands.push_writes import AddSecret, Enable, PutEndpoint, RemoveEndpoint
from perdure.commands.tables import ENDPOINTS, PUSH_ENDPOINT, PushEndpointRow
from perdure.core.access import Access
from perdure.core.table import Key, Scan
from perdure.errors import PushEndpointNotFound, UsageError, WebhookSecretInvalid
from perdure.identity import DEFAULT_TENANT, TenantId, checked_count
from perdure.sending.targets import parsed, redacted
from perdure.webhooks.secrets import Secrets, new_secret


class Endpoints:
    """The push endpoints of one open store; `PushEndpoints`."""

    def __init__(self, access: Access) -> None:
        self._access = access

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
        """See `PushEndpoints.put`."""
        made = new_secret(self._access.randomness)
        timeout = checked_span(timeout, what="timeout", least=limits.PUSH_TIMEOUT_MIN_US, most=int(limits.SEND_SECONDS_MAX) * SECOND)
        write = PutEndpoint(
            key=_key(deployment_id, target, tenant_id=tenant_id),
            url=parsed(url).url,
            secrets="" if secrets is None else _checked_secrets(secrets),
            made=made,
            timeout=timeout,
            result_within=checked_span(
                result_within,
                what="result_within",
                least=max(timeout + 1, limits.COMMAND_LEASE_MIN_US),
                most=limits.COMMAND_LEASE_MAX_US,
            ),
            enabled=None if enabled is None else _checked_flag(enabled),
        )
        return made if await self._access.writer.run(write) else None

    async def rotate(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> str:
        """See `PushEndpoints.rotate`."""
        made = new_secret(self._access.randomness)
        await self._access.writer.run(AddSecret(key=_key(deployment_id, target, tenant_id=tenant_id), made=made))
        return made

    async def enable(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None, enabled: bool = True) -> bool:
        """See `PushEndpoints.enable`."""
        write = Enable(key=_key(deployment_id, target, tenant_id=tenant_id), enabled=_checked_flag(enabled))
        return await self._access.writer.run(write)

    async def remove(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> bool:
        """See `PushEndpoints.remove`."""
        return await self._access.writer.run(RemoveEndpoint(key=_key(deployment_id, target, tenant_id=tenant_id)))

    async def get(self, deployment_id: str, *, tenant_id: str = DEFAULT_TENANT, target: str | None = None) -> PushEndpoint:
        """See `PushEndpoints.get`."""
        key = _key(deployment_id, target, tenant_id=tenant_id)
        row = await self._access.reader.get(key)
        if row is None:
            raise PushEndpointNotFound(f"no endpoint for deployment {deployment_id!r}, target {target!r}; `perdure push list` shows them")
        return _shown(key, row)

    async def list_endpoints(
        self, *, tenant_id: str = DEFAULT_TENANT, after: PushPlace | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[PushEndpoint]:
        """See `PushEndpoints.list_endpoints`."""
        place = None if after is None else (checked_name(after.deployment_id, what="after"), checked_target(after.target))
        scan = Scan(ENDPOINTS, (TenantId(tenant_id),), checked_count(limit, what="limit", most=limits.PAGE_MAX), after=place)
        return [_shown(key, row) for key, row in await self._access.reader.scan(scan)]


def _key(deployment_id: str, target: str | None, *, tenant_id: str) -> Key[PushEndpointRow]:
    return PUSH_ENDPOINT.key(TenantId(tenant_id), checked_name(deployment_id, what="deployment_id"), checked_target(target))


def _checked_flag(enabled: object) -> bool:
    if not isinstance(enabled, bool):
        raise UsageError(f"enabled: expected True or False, found {enabled!r:.{limits.REPR_MAX}}")
    return enabled


def _checked_secrets(secrets: Sequence[str]) -> str:
    """Return secrets as they are stored. Raises WebhookSecretInvalid."""
    given = Secrets(secrets, what="push")
    given.decoded()
    texts = given.texts()
    if any(" " in text for text in texts):
        raise WebhookSecretInvalid("push: a secret has no spaces in it; give several as several")
    return " ".join(texts)


def _shown(key: Key[PushEndpointRow], row: PushEndpointRow) -> PushEndpoint:
    return PushEndpoint(
        tenant_id=str(key.parts[0]),
        deployment_id=str(key.parts[1]),
        target=str(key.parts[2]) or None,
        url=redacted(row.url),
        secrets=len(row.secrets.split()),
        timeout=row.timeout,
        result_within=row.result_within,
        enabled=bool(row.enabled),
        failures=row.failures,
        open_until=row.open_until,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
