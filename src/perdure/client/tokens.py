"""The token that a client or a worker shows: a text, or a file that is read again when the server refuses what it said."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import limits
from perdure.errors import UsageError


class TokenSource:
    """Gives the token, and a newer one after a refusal.

    Args:
        token: the token itself.
        token_file: a file that holds it; blanks and line ends around it do not count.

    Raises:
        UsageError: both are given.
    """

    def __init__(self, token: str | None, token_file: str | Path | None) -> None:
        if token is not None and token_file is not None:
            raise UsageError("give token=… or token_file=…, not both")
        if token is not None and not token.strip():
            raise UsageError("token: it is empty")
        self._text = None if token is None else _checked(token.strip(), "token")
        self._file = None if token_file is None else Path(token_file)

    async def get(self) -> str | None:
        """Return the token; None when there is none. Raises UsageError when its file cannot be read."""
        if self._text is None and self._file is not None:
            self._text = await asyncio.to_thread(self._read)
        return self._text

    async def renew(self, refused: str | None) -> bool:
        """Take in that the server refused a token, and return whether there is another one now."""
        if self._file is None:
            return False
        self._text = await asyncio.to_thread(self._read)
        return self._text != refused

    def _read(self) -> str:
        assert self._file is not None, "asked only if there is one"
        try:
            with self._file.open(encoding="ascii") as file:
                text = file.read(limits.TOKEN_FILE_MAX).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"token_file {self._file}: it cannot be read: {error}") from None
        if not text:
            raise UsageError(f"token_file {self._file}: it is empty")
        return _checked(text, f"token_file {self._file}")

    def __repr__(self) -> str:
        return "TokenSource(…)"


def _checked(text: str, what: str) -> str:
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise UsageError(f"{what}: expected one word of printable ASCII")
    return text
