"""Where a store is on PostgreSQL: the URL, read once."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from perdure.errors import UsageError

DEFAULT_SCHEMA: Final = "perdure"
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PASSED_ON: Final = frozenset(
    {
        "application_name",
        "dbname",
        "passfile",
        "password",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "user",
    }
)
_PORT_MAX: Final = 65_535
_NAME_MAX: Final = 63  # bytes of a name of the server's
_UNREADABLE: Final = (
    "the store's URL cannot be read; expected postgresql://user@host:5432/database?schema=perdure; "
    "write %23 for '#', %2F for '/', %3F for '?' and %40 for '@' in the user or the password"
)
_OWN: Final = frozenset({"host", "pooler", "port", "schema"})


class Leading:
    """Which of the servers has taken a write of the store last; all connections of a store go there.

    A primary that was replaced, and does not know it yet, takes connections and answers reads, with what is old. Only its
    writes tell: they wait for a standby that follows another one now.
    """

    __slots__ = ("changes", "server")

    def __init__(self) -> None:
        self.server = 0
        self.changes = 0

    def wrote(self, server: int) -> None:
        """Note that a write to this server, by its number, is durable."""
        if server != self.server:
            self.server = server
            self.changes += 1


class Address(msgspec.Struct, frozen=True):
    """Where a store is.

    Args:
        servers: one URL of the driver's per server, tried one by one.
        schema: the PostgreSQL schema that holds the store's tables.
        pooler: connections lead to a pooler that gives each transaction another one.
        place: for people, without a password.
        name: of the program, as the server's lists of connections show it.
        node: whose connections these are; it stands behind the name.
        leading: the server that was last written to; not the same for two stores.
    """

    servers: tuple[str, ...]
    schema: str
    pooler: bool
    place: str
    name: str = "perdure"
    node: str = ""
    leading: Leading = msgspec.field(default_factory=Leading)


def parse(url: str) -> Address:
    """Read a `postgresql:` URL. Raises UsageError, which never shows the password."""
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise UsageError(_UNREADABLE) from None  # what it says may quote the password
    credentials, _, netloc = parts.netloc.rpartition("@")
    if not credentials and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise UsageError(_UNREADABLE)  # the password ends too early: nobody knows what of this is part of it
    database = parts.path.lstrip("/")
    place = f"postgresql://{netloc or parameters.get('host', '')}/{unquote(database)}"
    if "@" in credentials:
        raise UsageError(f"{place}: write %40 for an '@' in the user or the password")
    if parts.fragment:
        raise UsageError(f"{place}: a URL of a store takes no fragment; write %23 for '#'")
    if unknown := parameters.keys() - _PASSED_ON - _OWN:
        raise UsageError(f"{place}: expected parameters among {', '.join(sorted(_PASSED_ON | _OWN))}; found {', '.join(sorted(unknown))}")
    schema = parameters.pop("schema", DEFAULT_SCHEMA)
    checked_schema(schema, place=f"{place}: ")
    pooler, name = parameters.pop("pooler", "none"), parameters.pop("application_name", "perdure")
    if pooler not in {"none", "transaction"}:
        raise UsageError(f"{place}: pooler {pooler!r}: expected 'none' or 'transaction'")
    hosts = _hosts(place, netloc, parameters)
    query = urlencode(parameters, quote_via=quote)
    user = f"{credentials}@" if credentials else ""
    servers = tuple(
        f"postgresql://{user}/{database}?host={quote(host, safe='')}&port={port}{query and '&' + query}"
        if host.startswith("/")
        else f"postgresql://{user}{host}:{port}/{database}{query and '?' + query}"
        for host, port in hosts
    )
    return Address(servers, schema, pooler == "transaction", f"{place}?schema={schema}", name)


def checked_schema(schema: str, *, place: str = "") -> str:
    """Return the name of a schema that needs no quotes. Raises UsageError."""
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise UsageError(f"{place}schema {schema!r}: expected 1 to 63 of a-z, 0-9 and _, not a digit first, and not pg_ first")
    return schema


def channel_of(schema: str) -> str:
    """Return where nodes tell one another of commits. Two long names of schemas may share one: a notice is only a hint."""
    return f"perdure_{schema}"[:_NAME_MAX]


def _hosts(place: str, netloc: str, parameters: dict[str, str]) -> list[tuple[str, str]]:
    named = netloc.split(",") if netloc else parameters.pop("host", "localhost").split(",")
    parameters.pop("host", None)
    ports = parameters.pop("port", "5432").split(",")
    if len(ports) not in {1, len(named)}:
        raise UsageError(f"{place}: expected one port, or one for each of {len(named)} hosts; found {len(ports)}")
    found = []
    for n, each in enumerate(named):
        host, port = unquote(each), ports[n % len(ports)]
        if not host.startswith("/") and (split := re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:]*)(?::(\d+))?", host)):
            host, port = split[1] or "localhost", split[2] or port
        if not port.isdigit() or not 0 < int(port) <= _PORT_MAX or "," in host or (":" in host and not host.startswith(("[", "/"))):
            raise UsageError(f"{place}: expected host:port, several with commas between; found {each!r}")
        found.append((host, port))
    return found
