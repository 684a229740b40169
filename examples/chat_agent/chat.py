"""The conversation process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

import perdure
from examples.chat_agent import outside
from examples.chat_agent.outside import Line, ModelBusy, ToolCall, ToolFailed
from perdure import Retry

SHOWN: Final = 20  # lines of the transcript that the model is shown: what a message costs does not grow with the conversation
TOOLS_MAX: Final = 8  # calls of tools for one message; the message itself is still among the lines shown
APPROVED_WITHIN: Final = timedelta(minutes=15)
MODEL_RETRY: Final = Retry(max_attempts=4, initial=1.0, factor=4.0, retry_on=(ModelBusy,))
TOOLS: Final[dict[str, Callable[[str], Coroutine[Any, Any, str]]]] = {"weather": outside.weather, "mail": outside.mail, "pay": outside.pay}
DANGEROUS: Final = frozenset({"pay"})

app = perdure.App("chat")


class Say(msgspec.Struct, tag="say"):
    """A message of the user."""

    chat: str
    text: str


class Read(msgspec.Struct, tag="read"):
    """A wish to read the transcript: at most `lines`, the last ones."""

    chat: str
    lines: int


class Decision(msgspec.Struct):
    """What a person says about a dangerous call."""

    approved: bool
    by: str


class Request(msgspec.Struct):
    """A dangerous call that waits for a person; `token` is what to answer to."""

    call: ToolCall
    token: str
    until: datetime


class State(msgspec.Struct):
    """What a conversation is doing now."""

    answered: int
    lines: int
    tools: dict[str, int]
    waits_for: Request | None


@app.process(on_error="fail_turn")
class Chat(perdure.Process):
    """One conversation, from its first message on, for as long as anybody writes.

    The fields are small and stay so: they are written whole with each commit. What grows is the transcript, which has rows of
    its own and is read by its end.
    """

    answered: int = 0
    tools: dict[str, int] = {}
    waits_for: Request | None = None
    transcript: perdure.Log[Line] = msgspec.field(default_factory=perdure.Log)

    @perdure.on(Say, start=True, key=lambda message: f"chat:{message.chat}")
    async def say(self, message: Say) -> str:
        """Answer a message. Those that come meanwhile queue, in order."""
        self.transcript.append(Line("user", message.text))
        reply = await self._answer()
        self.transcript.append(Line("model", reply))
        self.answered += 1
        return reply

    @perdure.on(Read, key=lambda message: f"chat:{message.chat}")
    async def read(self, message: Read) -> list[Line]:
        """Return the end of the transcript."""
        return await self.transcript.last(message.lines)

    async def _answer(self) -> str:
        for _ in range(TOOLS_MAX):
            shown = await self.transcript.last(SHOWN)
            try:
                thought = await self.step(outside.think, shown, retry=MODEL_RETRY)
            except ModelBusy:
                return "The model is busy; say it again later."
            if thought.call is None:
                return thought.text
            self.transcript.append(Line("tool", await self._use(thought.call)))
        return "That takes more tools than one message may use."

    async def _use(self, call: ToolCall) -> str:
        tool = TOOLS.get(call.tool)
        if tool is None:  # models make tools up
            return f"there is no tool {call.tool}"
        if call.tool in DANGEROUS:
            decision = await self._decision(call)
            if decision is None:
                return f"not done: nobody has approved {call} in time"
            if not decision.approved:
                return f"not done: {decision.by} says no to {call}"
        self.tools[call.tool] = self.tools.get(call.tool, 0) + 1
        try:
            return await self.step(tool, call.argument)
        except ToolFailed as error:
            return f"{call.tool} has failed: {error}"

    async def _decision(self, call: ToolCall) -> Decision | None:
        """Ask a person, and wait for the answer; None when there is none in time. No memory is needed meanwhile."""
        token, decided = self.awakeable(Decision)
        self.waits_for = Request(call, token, self.now() + APPROVED_WITHIN)
        self.attributes["waits_for"] = call.tool
        await self.step(outside.ask_person, call, token)
        try:
            async with asyncio.timeout(APPROVED_WITHIN.total_seconds()):
                decision = await decided
        except TimeoutError:
            decision = None
        self.waits_for = None
        del self.attributes["waits_for"]
        return decision

    @perdure.query
    def state(self) -> State:
        """Return what the conversation is doing; asking disturbs nothing and works at any time."""
        return State(self.answered, len(self.transcript), self.tools, self.waits_for)
