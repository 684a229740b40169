"""Who may do what: tokens, their tenants and capabilities, and how often an address may try.

Source: commands.md, "HTTP".
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Clock, Micros
from perdure.errors import (
    NotAllowed,
    PerdureError,
    RequestInvalid,
    RouteNotFound,
    TokenInvalid,
    TokenMissing,
    TooManyAttempts,
    WebhookRefused,
)
from perdure.server.metrics import Metrics
from perdure.server.route import Route
from perdure.tokens.contract import WORK, TokenInfo, TokenRegistry

T = TypeVar("T")
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_NETWORK: Final = 64  # bits of an IPv6 address that one customer has to himself


class Principal(msgspec.Struct, frozen=True):
    """Who asks. Without a token everything is allowed: that is `--dev`, on loopback only, or a route that is open."""

    name: str
    token: TokenInfo | None = None

    def may(self, capability: str, *, deployment: str = "", target: str = "") -> bool:
        """Whether this capability is given."""
        return self.token is None or self.token.allows(capability, deployment=deployment, target=target)

    def works(self, deployment: str | None) -> bool:
        """Whether it may work for a target of this deployment, or of any; for which one, the handler asks `may`."""
        grants = () if self.token is None else self.token.grants
        return self.token is None or any(one.capability == WORK and deployment in (None, one.deployment) for one in grants)

    def reaches(self, tenant: str) -> bool:
        """Whether things of this tenant are its own."""
        return self.token is None or self.token.reaches(tenant)


class Attempts:
    """Counts invalid tokens by address. One that has sent too many is heard only with tokens that were valid before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[Micros, int]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def check(self, peer: str, text: str) -> None:
        """Raise TooManyAttempts for a token from an address that has sent too many invalid ones."""
        since, count = self._failed.get(peer, (0, 0))
        if count < limits.HTTP_ATTEMPTS_MAX or self._clock.now() - since >= limits.HTTP_ATTEMPTS_US:
            return
        if _open_part(text) not in self._known:
            raise TooManyAttempts(f"{count} invalid tokens came from this address; wait {limits.HTTP_ATTEMPTS_US // 1_000_000} s")

    def failed(self, peer: str) -> None:
        """Count one."""
        now = self._clock.now()
        since, count = self._failed.pop(peer, (now, 0))
        if now - since >= limits.HTTP_ATTEMPTS_US:
            since, count = now, 0
        self._failed[peer] = (since, count + 1)
        if len(self._failed) > limits.HTTP_PEERS_MAX:
            self._failed.popitem(last=False)

    def passed(self, text: str) -> None:
        """Remember a token that was valid, by its id."""
        self._known[_open_part(text)] = None
        self._known.move_to_end(_open_part(text))
        if len(self._known) > limits.HTTP_PEERS_MAX:
            self._known.popitem(last=False)


def _open_part(text: str) -> str:
    """Return what of a token is no secret."""
    return text.rpartition("_")[0]


class Doorkeeper:
    """Lets requests in."""

    def __init__(self, tokens: TokenRegistry, clock: Clock, metrics: Metrics, *, dev: bool) -> None:
        self._tokens = tokens
        self._attempts = Attempts(clock)
        self._metrics = metrics
        self._dev = dev

    def listen_to(self, peer: str) -> None:
        """Raise TooManyAttempts for an address that has sent too many requests whose signature was wrong."""
        try:
            self._attempts.check(network_of(peer), "")
        except TooManyAttempts as error:
            self._metrics.refused(error.code)
            raise

    async def counted(self, peer: str, work: Coroutine[Any, Any, T]) -> T:
        """Return what some work returns; a signature that it refuses counts as an invalid token does."""
        try:
            return await work
        except WebhookRefused as error:
            self._attempts.failed(network_of(peer))
            self._metrics.refused(error.code)
            raise

    async def principal(self, route: Route, authorization: Sequence[str], *, peer: str, host: str) -> Principal:
        """Return who asks.

        Raises:
            TokenMissing, TokenInvalid, TooManyAttempts: nobody that may.
            RequestInvalid: with `--dev`, the request was meant for another host: a page in a browser was led here.
        """
        if self._dev:
            if (host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host) not in LOOPBACK_NAMES:
                raise RequestInvalid(f"host: with --dev, expected one of {', '.join(LOOPBACK_NAMES)}")
            return Principal("dev")
        if route.capability is None:
            return Principal("anybody")
        try:
            return await self._of_token(authorization, network_of(peer))
        except PerdureError as error:
            if isinstance(error, TokenMissing | TokenInvalid | TooManyAttempts):
                self._metrics.refused(error.code)
            raise

    async def _of_token(self, authorization: Sequence[str], peer: str) -> Principal:
        if not authorization:
            raise TokenMissing("the request has no token; send `Authorization: Bearer <token>`")
        scheme, _, text = authorization[0].partition(" ")
        bearer = len(authorization) == 1 and scheme.lower() == "bearer"
        text = text.strip() if bearer else ""
        self._attempts.check(peer, text)
        try:
            token = await self._tokens.check(text)
        except TokenInvalid:
            self._attempts.failed(peer)
            raise
        self._attempts.passed(text)
        return Principal(token.name, token)


def admit(principal: Principal, route: Route, parts: Mapping[str, str]) -> None:
    """Let a request through to what it asks for. Another tenant's things look like what is not there.

    Of a worker's token, only the deployment is known here: its target stands in the query or in the body.

    Raises:
        NotFoundError: of the class that the route says that something is absent with.
        NotAllowed: the capability is missing.
    """
    if route.capability is None:
        return
    tenant = parts.get("tenant")
    if tenant is not None and not principal.reaches(tenant):
        raise (route.absent or RouteNotFound)(nothing_here())
    allowed = principal.works(parts.get("deployment")) if route.capability == WORK else principal.may(route.capability)
    if not allowed:
        raise NotAllowed(f"the token lacks the capability {route.capability!r}, which {route.method} {route.path} asks for")
    if tenant is None and not principal.reaches("*"):
        raise NotAllowed(f"{route.method} {route.path} is for tokens of all tenants")


def nothing_here() -> str:
    """Return what is said of a thing that is not there, and of one that is another's."""
    return "there is no such thing here, or it is not this token's"


def network_of(peer: str) -> str:
    """Return what of an address one customer cannot change at will."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    return str(ipaddress.ip_network((address, _NETWORK), strict=False)) if address.version == 6 else peer  # noqa: PLR2004  # IPv6
