"""The rows of tokens."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class TokenRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One token: the SHA-256 of its secret, its tenant or `*`, and its capabilities, one a line."""

    secret_digest: bytes
    tenant: str
    grants: str
    name: str
    created_at: Micros
    expires_at: Micros | None
    revoked_at: Micros | None


TOKEN = Table("token", ("token_id",), TokenRow)

TOKENS = Index(TOKEN, "token", order=("token_id",))
TABLES = (TOKEN,)
INDEXES = (TOKENS,)
