"""The facade of tokens: checks at the door, then one transaction or one read."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from perdure import limits
from perdure.clock import Micros
from perdure.core.access import Access
from perdure.core.table import Key, Scan
from perdure.errors import TokenInvalid, UsageError
from perdure.identity import TenantId, checked_text, uuid7
from perdure.tokens.contract import ANY_TENANT, Grant, NewToken, TokenInfo
from perdure.tokens.tables import TOKEN, TOKENS, TokenRow
from perdure.tokens.writes import PutToken, RevokeToken

_TEXT: Final = re.compile(r"pdt_([0-9a-f]{32})_([0-9a-f]{64})", re.ASCII)
_SECRET_BYTES: Final = 32
_NOBODYS: Final = bytes(32)


class Tokens:
    """The tokens of one open store; a `TokenRegistry`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def create(self, name: str, grants: Iterable[Grant], *, tenant: str, lasting: Micros | None = None) -> NewToken:
        """See `TokenRegistry.create`."""
        checked_text(name, what="token name", limit=limits.TOKEN_NAME_MAX)
        given = tuple(dict.fromkeys(grants))
        if strange := [grant for grant in given if Grant.parse(str(grant)) != grant]:
            raise UsageError(f"capability {strange[0]!r}: a deployment has no '/' in it")
        if not 1 <= len(given) <= limits.TOKEN_GRANTS_MAX:
            raise UsageError(f"a token has 1 to {limits.TOKEN_GRANTS_MAX} capabilities, found {len(given)}")
        if lasting is not None and not 1 <= lasting <= limits.DURATION_MAX:
            raise UsageError(f"lasting: expected 1 to {limits.DURATION_MAX} microseconds, found {lasting}")
        now = self._access.clock.now()
        token_id = uuid7(now=now, randomness=self._access.randomness).replace("-", "")
        secret = self._access.randomness(_SECRET_BYTES).hex()
        row = TokenRow(
            secret_digest=_hash(secret),
            tenant=ANY_TENANT if tenant == ANY_TENANT else TenantId(tenant),
            grants="\n".join(str(grant) for grant in given),
            name=name,
            created_at=now,
            expires_at=None if lasting is None else now + lasting,
            revoked_at=None,
        )
        key = TOKEN.key(token_id)
        await self._access.writer.run(PutToken(key, row))
        return NewToken(text=f"pdt_{token_id}_{secret}", info=_info(key, row))

    async def check(self, text: str) -> TokenInfo:
        """See `TokenRegistry.check`."""
        parts = _TEXT.fullmatch(text)
        key = TOKEN.key(parts[1] if parts else "")
        row = await self._access.reader.get(key) if parts else None
        # Also where there is none: how long it takes does not tell an unknown id from a wrong secret.
        same = hmac.compare_digest(_hash(parts[2] if parts else ""), _NOBODYS if row is None else row.secret_digest)
        now = self._access.clock.now()
        if row is None or not same or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise TokenInvalid("the token is unknown, expired or revoked; use another")
        return _info(key, row)

    async def list_tokens(self, *, after: str | None = None, limit: int = limits.PAGE_DEFAULT) -> list[TokenInfo]:
        """See `TokenRegistry.list_tokens`."""
        if not 1 <= limit <= limits.PAGE_MAX:
            raise UsageError(f"limit is 1 to {limits.PAGE_MAX}, found {limit}")
        rows = await self._access.reader.scan(Scan(TOKENS, (), limit, after=None if after is None else (after,)))
        return [_info(key, row) for key, row in rows]

    async def revoke(self, token_id: str) -> bool:
        """See `TokenRegistry.revoke`."""
        return await self._access.writer.run(RevokeToken(TOKEN.key(checked_text(token_id, what="token id", limit=limits.TOKEN_NAME_MAX))))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _info(key: Key[TokenRow], row: TokenRow) -> TokenInfo:
    return TokenInfo(
        token_id=str(key.parts[0]),
        name=row.name,
        tenant=row.tenant,
        grants=tuple(Grant.parse(line) for line in row.grants.split("\n")),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
