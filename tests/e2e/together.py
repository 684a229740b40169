"""An app for the command line: processes with children, awakeables and logs."""

from __future__ import annotations

import msgspec

import perdure
from perdure.errors import AwakeableFailed

app = perdure.App("together")


class Say(msgspec.Struct, tag="say"):
    text: str
    fails: bool = False


@app.process
async def signs(p: perdure.Process, name: str) -> str:
    _, by_mail = p.awakeable(str)
    _, by_phone = p.awakeable(str)
    try:
        return f"{name}: {await by_mail}, {await by_phone}"
    except AwakeableFailed as error:
        return f"{name}: {error}"


@app.process
async def contract(p: perdure.Process, names: list[str]) -> list[str]:
    return await p.gather_limited(10, *(p.call(signs, name) for name in names))


@app.process
class Diary(perdure.Process):
    """What was said, and when it was not."""

    said: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)
    whole: perdure.Log[Say] = msgspec.field(default_factory=perdure.Log)
    never: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)

    @perdure.on(Say, start=True, key=lambda _message: "diary", on_error="fail_turn")
    async def say(self, message: Say) -> int:
        self.said.append(message.text)
        self.whole.append(message)
        if message.fails:
            await self.sleep(1)  # what was appended is committed, and goes with the turn
            raise LookupError(message.text)
        return len(self.said)
