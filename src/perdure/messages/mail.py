"""Messages as the owner of a mailbox holds them, and their names within a tenant."""

from __future__ import annotations

from typing import NamedTuple


class Mail(NamedTuple):
    """A message in the mailbox of a process, as its owner holds it."""

    number: int
    source: str
    message_id: str
    kind: str
    payload: bytes

    @property
    def ref(self) -> str:
        """The message's reference."""
        return reference(self.source, self.message_id)


def reference(source: str, message_id: str) -> str:
    """Return the name of a message within its tenant: unambiguous, because identifiers hold no line breaks."""
    return f"{source}\n{message_id}" if source else message_id


def in_words(ref: str) -> str:
    """Return a reference as people are shown it, on one line."""
    return ref.replace("\n", " of ")


def split_reference(ref: str) -> tuple[str, str]:
    """Return source and message id of a reference."""
    source, _, message_id = ref.rpartition("\n")
    return source, message_id
