"""The services that the conversation calls, simulated: a model, a weather service, a post office, a bank, and a person who is asked.

Each function here runs as a step, and says the same to the same question, which a real model does not: what the process goes on
with is what was recorded of it.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

import perdure
from examples.world import act

_LARGEST_PAYMENT: Final = 1_000
_WISH: Final = re.compile(r"weather in (?P<weather>\w+)|mail (?P<mail>\w+)|pay (?P<pay>\d+ to \w+)|dance (?P<dance>\w+)")


class Line(msgspec.Struct, frozen=True):
    """One line of a transcript."""

    by: Literal["user", "tool", "model"]
    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """What the model wants to be done."""

    tool: str
    argument: str

    def __str__(self) -> str:
        return f"{self.tool} {self.argument}"


class Thought(msgspec.Struct, frozen=True):
    """What the model says: its answer, or, before that, a tool that it needs."""

    text: str = ""
    call: ToolCall | None = None


class ModelBusy(Exception):
    """The model has no time now."""


class ToolFailed(Exception):
    """A tool says no; asking again would not help."""


async def think(shown: list[Line]) -> Thought:
    """Ask the model what to do about the last user's message in what it is shown.

    It finds wishes in the text, asks for one tool after another, and then answers with what the tools have said.
    """
    asked = max(place for place, line in enumerate(shown) if line.by == "user")
    question, results = shown[asked].text, [line.text for line in shown[asked + 1 :]]
    attempt = perdure.step_info().attempt
    if "unanswerable" in question or ("riddle" in question and attempt == 1):
        raise ModelBusy(f"attempt {attempt}")
    act(f"think about {question!r} and {len(results)} results")
    calls = [ToolCall(wish.lastgroup, wish[wish.lastgroup]) for wish in _WISH.finditer(question) if wish.lastgroup]
    if len(results) < len(calls):
        return Thought(call=calls[len(results)])
    return Thought("; ".join(results) or f"I have read {len(question.split())} words, and {asked} lines before them")


async def weather(place: str) -> str:
    """Return what the weather is like."""
    act(f"weather {place}")
    return f"it rains in {place}" if len(place) % 2 else f"the sun shines in {place}"


async def mail(person: str) -> str:
    """Send a mail."""
    act(f"mail {person}")
    return f"{person} has mail"


async def pay(payment: str) -> str:
    """Pay an amount to somebody: `30 to ann`."""
    amount, _, person = payment.partition(" to ")
    if int(amount) > _LARGEST_PAYMENT:
        raise ToolFailed(f"the account has less than {amount}")
    act(f"pay {payment}")
    return f"{person} has {amount} more"


async def ask_person(call: ToolCall, token: str) -> None:
    """Send a person what the model wants, with a link that has the token in it."""
    assert token, "the link leads to this very request"
    act(f"ask about {call}")
