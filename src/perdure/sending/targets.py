"""Where may be sent to: which URLs, and which of the addresses that their names have.

A URL that somebody else gives must not reach what only this machine can reach: its own services, those of its network, the
metadata of its cloud. So an address is refused unless it is of the public internet, or an operator has allowed it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from perdure import limits
from perdure.errors import TargetRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_UNSAFE: Final = re.compile(r"""[\\"<>^`{|}]""")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_HOST_MAX: Final = 253  # characters of a name, as DNS says
_PORT_MAX: Final = 65_535
_SYSTEM_PORTS: Final = 1_024
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# IANA's registries of special-purpose addresses: everything that is not globally reachable, and what leads to such an address.
_NOT_PUBLIC_4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by providers (CGNAT); also the metadata of a cloud
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also the metadata of a cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays from IPv6, given up
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# All of IPv6 outside of this is loopback, unspecified, link-local, unique local, multicast, mapped or translated IPv4, or nobody's.
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public internet, and leads to no other one."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address.scope_id is None and address in _GLOBAL_6 and not any(address in network for network in _NOT_PUBLIC_6)


class Target(msgspec.Struct, frozen=True):
    """A URL that may be sent to, as far as it tells by itself. `address` is set when its host is one."""

    url: str
    scheme: str
    host: str
    port: int
    address: IPAddress | None = None

    @property
    def shown(self) -> str:
        """The URL without what may be secret: its query is left out."""
        return redacted(self.url)


class Allowed:
    """What an operator allows beyond the public internet.

    Args:
        networks: such as `10.0.0.0/8` or `fd00::/8`; addresses in them may be sent to.
        hosts: names or addresses as they stand in URLs, whatever address they have; `name:port` allows that port, too.
        ports: below 1024, beside 80 and 443; those from 1024 on need no permission.

    Raises:
        TargetRefused: one of them is not of its form.
    """

    __slots__ = ("hosts", "networks", "ports")

    def __init__(self, *, networks: tuple[str, ...] = (), hosts: tuple[str, ...] = (), ports: tuple[int, ...] = ()) -> None:
        self.networks: tuple[IPNetwork, ...] = tuple(_network(text) for text in networks)
        self.hosts = frozenset(_host_key(text) for text in hosts)
        self.ports = frozenset({80, 443, *ports})

    def target(self, url: str) -> Target:
        """Return the target of a URL, as far as it tells without its name being looked up.

        Raises:
            TargetRefused: it is not one of http or https, has userinfo, is not of its form, or names a host or a port that is not allowed.
        """
        target = parsed(url)
        host = self._names(target)
        if not (host or target.port >= _SYSTEM_PORTS or target.port in self.ports):
            raise TargetRefused(f"{target.shown}: port {target.port} is not allowed; use 80, 443, one from {_SYSTEM_PORTS} on, or allow it")
        if target.address is not None:
            self.check(target, target.address)
        return target

    def check(self, target: Target, address: IPAddress) -> None:
        """Raise TargetRefused when a target may not be sent to at this address."""
        if not (is_public(address) or self._names(target) or any(address in network for network in self.networks)):
            raise TargetRefused(
                f"{target.shown}: {address} is no address of the public internet; allow its network, or the host, if it is meant"
            )

    def _names(self, target: Target) -> bool:
        return target.host in self.hosts or f"{_bracketed(target.host)}:{target.port}" in self.hosts


def parsed(url: str) -> Target:
    """Return what a URL says. Raises TargetRefused."""
    if not isinstance(url, str) or not _VISIBLE.fullmatch(url) or _UNSAFE.search(url) or len(url) > limits.SEND_URL_MAX:
        raise TargetRefused(f"a URL has 1 to {limits.SEND_URL_MAX:,} ASCII characters, without spaces and backslashes; encode the others")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        raise TargetRefused("a URL whose host or port is not of its form") from None
    shown = redacted(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise TargetRefused(f"{shown}: expected http or https")
    if "@" in parts.netloc:
        raise TargetRefused(f"{shown}: a URL with a user or a password in it; send a header instead")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if not 1 <= port <= _PORT_MAX or parts.netloc.endswith(":"):
        raise TargetRefused(f"{shown}: expected a port from 1 to {_PORT_MAX}")
    return Target(url, parts.scheme, host, port, _literal(host, shown, bracketed="[" in parts.netloc))


def redacted(url: str) -> str:
    """Return scheme, host, port and path of a URL, for errors and logs: userinfo, query and fragment may be secrets."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.isalnum():
        return "a URL without scheme"
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    return ascii(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}")[1:-1][: limits.REPR_MAX]


def _literal(host: str, shown: str, *, bracketed: bool) -> IPAddress | None:
    """Return the address that a host is, None for a name. Whatever a resolver could take for a number has to be one in its usual form."""
    if bracketed or _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return ipaddress.ip_address(host)
        except ValueError:
            raise TargetRefused(f"{shown}: write an address in its usual form, as 192.0.2.1 or [2001:db8::1]") from None
    if len(host) > _HOST_MAX or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise TargetRefused(f"{shown}: expected a host name of letters, digits, `-` and points; other characters as xn--…")
    return None


def _network(text: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise TargetRefused(f"network {text!r}: expected one such as 10.0.0.0/8 ({error})") from None


def _host_key(text: str) -> str:
    lowered = text.lower()
    return lowered[1:-1] if lowered.startswith("[") and lowered.endswith("]") else lowered


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
