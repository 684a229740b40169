"""What callers of the tokens room may rely on.

Source: commands.md, "HTTP".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, Self

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.errors import UsageError
from perdure.identity import checked_text

ANY_TENANT: Final = "*"
CAPABILITIES: Final = ("deliver", "read", "admin", "deploy", "command:send", "command:work")
WORK: Final = "command:work"


class Grant(msgspec.Struct, frozen=True):
    """One capability. `command:work` is for one target of one deployment; without one, for its commands that name none.

    Nothing implies anything else.
    """

    capability: str
    deployment: str = ""
    target: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the grant that `read`, `command:work=DEPLOYMENT/TARGET` or `command:work=DEPLOYMENT` says.

        Raises:
            UsageError, InvalidIdentifier: it is none.
        """
        checked_text(text, what="capability", limit=limits.TOKEN_GRANT_MAX)
        capability, mark, rest = text.partition("=")
        if capability not in CAPABILITIES:
            raise UsageError(f"capability {capability!r}: expected one of {', '.join(CAPABILITIES)}")
        deployment, slash, target = rest.partition("/")
        if capability != WORK and mark:
            raise UsageError(f"capability {text!r}: only {WORK} is for a deployment and a target")
        if capability == WORK and not (deployment and bool(slash) == bool(target)):
            raise UsageError(f"capability {text!r}: expected {WORK}=DEPLOYMENT/TARGET, or {WORK}=DEPLOYMENT for what has no target")
        return cls(capability, deployment, target)

    def __str__(self) -> str:
        work = "/".join(part for part in (self.deployment, self.target) if part)
        return f"{self.capability}={work}" if work else self.capability


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One token without its secret. `tenant` is one tenant, or `*` for all. Times are microseconds since the epoch, UTC."""

    token_id: str
    name: str
    tenant: str
    grants: tuple[Grant, ...]
    created_at: Micros
    expires_at: Micros | None
    revoked_at: Micros | None

    def reaches(self, tenant: str) -> bool:
        """Whether it is for this tenant."""
        return self.tenant in (ANY_TENANT, tenant)

    def allows(self, capability: str, *, deployment: str = "", target: str = "") -> bool:
        """Whether it has this capability; `command:work` for exactly this deployment and target, of which none is one, too."""
        return Grant(capability, deployment, target) in self.grants


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was just made. `text`, `pdt_<id>_<secret>`, is not stored and cannot be shown again."""

    text: str
    info: TokenInfo


class TokenRegistry(Protocol):
    """Who may do what over HTTP. Every method raises StoreUnavailable when nothing was read or written."""

    async def create(self, name: str, grants: Iterable[Grant], *, tenant: str, lasting: Micros | None = None) -> NewToken:
        """Make a token.

        Args:
            name: 1..128 bytes of UTF-8 without control characters: who will have it. A key of an idempotent request belongs to a
                name, so a token that replaces another has the same.
            grants: 1..32 capabilities.
            tenant: one tenant, or `*` for all.
            lasting: microseconds until it expires; never when not given.

        Raises:
            InvalidIdentifier, UsageError: nothing was written.
        """
        ...

    async def check(self, text: str) -> TokenInfo:
        """Return the token that a request brings.

        Raises:
            TokenInvalid: it is malformed, unknown, expired or revoked; the text does not say which.
        """
        ...

    async def list_tokens(self, *, after: str | None = None, limit: int = limits.PAGE_DEFAULT) -> list[TokenInfo]:
        """Return a page of tokens in the order of their making, revoked and expired ones too; `after` is the last id of the page before."""
        ...

    async def revoke(self, token_id: str) -> bool:
        """Let a token be valid no longer, at once, and return whether it was not revoked before.

        Raises:
            TokenNotFound: there is none of this id.
        """
        ...
