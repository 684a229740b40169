"""Pure decisions about tokens."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.http_errors import TokenNotFound
from perdure.tokens.tables import TokenRow


class PutToken(msgspec.Struct, frozen=True, gc=False):
    """Store a token that was just made."""

    key: Key[TokenRow]
    row: TokenRow

    def reads(self) -> Iterable[Read]:
        """Name the token."""
        yield self.key

    def decide(self, view: View) -> None:
        """Insert it."""
        assert view.get(self.key) is None, "its id was made for it"
        view.insert(self.key, self.row)


class RevokeToken(msgspec.Struct, frozen=True, gc=False):
    """Let a token be valid no longer."""

    key: Key[TokenRow]

    def reads(self) -> Iterable[Read]:
        """Name the token."""
        yield self.key

    def decide(self, view: View) -> bool:
        """Return whether it was not revoked before. Raises TokenNotFound."""
        row = view.get(self.key)
        if row is None:
            raise TokenNotFound(f"no token {self.key.parts[0]!r}; `perdure token list` shows them")
        if row.revoked_at is not None:
            return False
        view.update(self.key, msgspec.structs.replace(row, revoked_at=view.now))
        return True
