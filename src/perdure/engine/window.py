"""The part of a process's mailbox that its owner has in memory.

Source: engine.md, "Addressing and delivery", limits; "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol

from perdure import limits
from perdure.engine.operation import Operation
from perdure.messages.mail import Mail
from perdure.replies import REPLY_KIND

_NONE: Final[frozenset[str]] = frozenset()


class Waits(Protocol):
    """What a window asks of a turn."""

    receives: list[Operation]

    @property
    def takes_mail(self) -> bool:
        """Whether a message or a reply could move it."""
        ...


class Window:
    """At most `limits.MAIL_WINDOW` queued messages: the oldest, or later ones when a turn had no use for those.

    Replies, which turns take as they come, are kept apart. `seen` is the number up to which all mail was read or announced; with `more`, the store has some beyond it.
    A turn may say that it waits only if neither is so: there is more, or mail was passed over that it has not looked at.
    """

    __slots__ = ("_absent", "_newest", "_passed", "letters", "more", "passed_over", "reading", "replies", "seen")

    def __init__(self) -> None:
        self.letters: list[Mail] = []  # an empty deque has room for 64, and takes ten times as much
        self.replies: list[Mail] = []
        self.seen = 0
        self.more = False
        self.passed_over = False
        self.reading: object | None = None
        self._newest = 0
        self._absent = _NONE
        self._passed: list[Operation] = []

    @property
    def empty(self) -> bool:
        """Whether the mailbox is."""
        return not (self.letters or self.more or self.passed_over)

    @property
    def room(self) -> int:
        """How many more it may hold."""
        return limits.MAIL_WINDOW - len(self.letters)

    @property
    def low(self) -> bool:
        """Whether it is time to read more."""
        return self.more and self.room > limits.MAIL_WINDOW // 2

    @property
    def passes(self) -> tuple[bool, list[str], list[str]]:
        """Whether mail was passed over, who may take what is here all the same, and which kinds are surely not among it: what `gives_to` goes by."""
        if not self.passed_over:
            return False, [], []
        return True, [operation.id for operation in self._passed], sorted(self._absent)

    def announce(self, number: int) -> None:
        """Remember that there is mail up to this number, to be read later."""
        self._newest = max(self._newest, number)

    def post(self, mail: Mail) -> bool:
        """Take in a message that was queued just now. False: it has to be read, with those before it."""
        if mail.number <= self.seen:
            return True
        self.announce(mail.number)
        if self.more or mail.number > self.seen + 1 or not (self.room or mail.kind == REPLY_KIND):
            self.more = True
            return False
        self._keep(mail)
        return True

    def _keep(self, mail: Mail) -> None:
        (self.replies if mail.kind == REPLY_KIND else self.letters).append(mail)
        self.seen = mail.number

    def skip(self, number: int) -> None:
        """Take in a number of the mailbox's that no message has."""
        if number == self.seen + 1 and not self.more:
            self.seen = number
        elif number > self.seen:
            self.announce(number)
            self.more = True

    def put(self, letters: Iterable[Mail], *, last: int, whole: bool) -> None:
        """Take in what was read beyond `seen`; `whole`: there was no more, of mail up to the number `last`."""
        self.reading = None
        for letter in letters:
            if letter.number > self.seen:
                self._keep(letter)
        if whole:
            self.seen = max(self.seen, last)
        self.more = not whole or self._newest > self.seen

    def started(self, ref: str, *, seen: int, queued: int) -> None:
        """The store has opened a turn for `ref`; so many messages were left in the mailbox, whose last number was `seen`."""
        found = next((letter for letter in self.letters if letter.ref == ref), None)
        if found is not None:
            self.letters.remove(found)
        # A message that is not here was never in the mailbox, or it is among what was not read.
        known = found is not None if self.more else len(self.letters) + len(self.replies) == queued
        if self.passed_over or not known:
            self.rewind()
            self.more = queued > 0
        if not self.more:
            self.seen = max(self.seen, seen)

    def rewind(self) -> None:
        """Begin again with the oldest message. Only what is durable may be read again: what a commit under way takes is still there."""
        self.letters.clear()
        self.replies.clear()
        self.seen = 0
        self.more = True
        self.passed_over = False
        self.reading = None
        self._passed = []

    def shut(self) -> None:
        """Nothing is taken from here any more, and no commit may say that all mail was seen."""
        self.rewind()
        self.more = False

    # --- a turn that finds nothing here ---------------------------------------------------------------

    def gives_to(self, operation: Operation) -> bool:
        """Return whether this one may take what is here: an older message may be for it among those that were passed over."""
        return not self.passed_over or operation in self._passed or (operation.where is None and self._absent.issuperset(operation.kinds))

    def hides(self, turn: Waits) -> bool:
        """Return whether something outside of the window may be for a turn that waits."""
        return (self.more or self.passed_over) and turn.takes_mail and (self.more or not all(map(self.gives_to, turn.receives)))

    def move(self, receives: Collection[Operation]) -> None:
        """Nothing in the window is for those who wait: make room for what comes after it, or begin again for who waits only now."""
        if not all(map(self.gives_to, receives)):
            self.rewind()
        elif self.room <= limits.MAIL_WINDOW // 2:
            kinds = frozenset(kind for operation in receives if operation.where is None for kind in operation.kinds)
            self._absent = self._absent & kinds if self.passed_over else kinds
            self._passed = [one for one in receives if not self.passed_over or one in self._passed]
            self.letters.clear()
            self.passed_over = True
