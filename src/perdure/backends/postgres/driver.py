"""The driver's connection, which asks a server of a kind what its types are only once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import asyncpg

# Types below are PostgreSQL's own, with the same numbers everywhere; those of a database's own come after.
_OWN: Final = 10_000
_KNOWN: Final[dict[frozenset[int], Any]] = {}


class Connection(asyncpg.Connection):
    """One that hears of PostgreSQL's own types from the one before.

    The driver asks on each connection for those that it does not know, arrays among them, and the answer takes longer than to connect. The
    method is the driver's own affair: without it, or called in another way, each connection asks again.
    """

    async def _introspect_types(self, typeoids: Iterable[int], *args: Any, **kwargs: Any) -> Any:
        asked = frozenset(typeoids)
        found = _KNOWN.get(asked)
        if found is None:
            found = await super()._introspect_types(asked, *args, **kwargs)  # type: ignore[misc]  # see above
            if max(asked, default=_OWN) < _OWN:
                _KNOWN[asked] = found
        return found
