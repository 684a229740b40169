"""Who may do what: tokens, their tenants and capabilities, and how often an address may try.

Source: commands.md, "HTTP".
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

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
    """Counts what proves nothing, by address. One that has sent too much of it is heard only as somebody who was known before.

    Somebody is the open part of a token, or a source of webhooks at that address.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[Micros, int]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def check(self, peer: str, who: str) -> None:
        """Raise TooManyAttempts for somebody new from an address that has tried too often."""
        since, count = self._failed.get(peer, (0, 0))
        if count < limits.HTTP_ATTEMPTS_MAX or self._clock.now() - since >= limits.HTTP_ATTEMPTS_US:
            return
        if who not in self._known:
            seconds = limits.HTTP_ATTEMPTS_US // 1_000_000
            raise TooManyAttempts(f"{count} invalid tokens or signatures came from this address; wait {seconds} s")

    def failed(self, peer: str) -> None:
        """Count one."""
        now = self._clock.now()
        since, count = self._failed.pop(peer, (now, 0))
        if now - since >= limits.HTTP_ATTEMPTS_US:
            since, count = now, 0
        self._failed[peer] = (since, count + 1)
        if len(self._failed) > limits.HTTP_PEERS_MAX:
            self._failed.popitem(last=False)

    def passed(self, who: str) -> None:
        """Remember somebody whose proof was valid."""
        self._known[who] = None
        self._known.move_to_end(who)
        if len(self._known) > limits.HTTP_PEERS_MAX:
            self._known.popitem(last=False)


def _check_loopback(what: str, name: str) -> None:
    """Raise RequestInvalid unless it is a name of this machine, with a port or without."""
    before, _, port = name.rpartition(":")
    if (before if port.isdecimal() else name) not in LOOPBACK_NAMES:
        raise RequestInvalid(f"{what}: with --dev, expected one of {', '.join(LOOPBACK_NAMES)}")


def _open_part(text: str) -> str:
    """Return what of a token is no secret."""
    return text.rpartition("_")[0]


class Doorkeeper:
    """Lets requests in."""

    def __init__(self, tokens: TokenRegistry, clock: Clock, metrics: Metrics, *, dev: bool) -> None:
        self._tokens = tokens
        self._attempts = Attempts(clock)
        self._signatures = Attempts(clock)
        self._metrics = metrics
        self._dev = dev

    @contextmanager
    def signature(self, peer: str, source: str) -> Iterator[None]:
        """Let the block verify a signature and answer. One that it refuses is counted, apart from tokens: a sender whose secret is wrong locks out nobody else.

        Raises:
            TooManyAttempts: too many from this address have proved nothing, and no such source has; the block is not entered.
        """
        network = network_of(peer)
        who = f"{source} at {network}"
        try:
            self._signatures.check(network, who)
            yield
        except WebhookRefused as error:
            self._signatures.failed(network)
            self._metrics.refused(error.code)
            raise
        except TooManyAttempts as error:
            self._metrics.refused(error.code)
            raise
        self._signatures.passed(who)

    async def principal(self, route: Route, authorization: Sequence[str], *, peer: str, host: str, origin: str = "") -> Principal:
        """Return who asks.

        Raises:
            TokenMissing, TokenInvalid, TooManyAttempts: nobody that may.
            RequestInvalid: with `--dev`, the request was meant for another host, or is another site's: a page in a browser was led here.
        """
        if self._dev:
            _check_loopback("host", host)
            if origin:
                _check_loopback("origin", origin.partition("://")[2])
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
        self._attempts.check(peer, _open_part(text))
        try:
            token = await self._tokens.check(text)
        except TokenInvalid:
            self._attempts.failed(peer)
            raise
        self._attempts.passed(_open_part(text))
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
