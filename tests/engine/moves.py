"""Versions of one process type that differ in what they do, and an engine that has moved one."""

from __future__ import annotations

from typing import Any

from perdure import Address, Engine
from perdure.packages.archive import Package
from tests.engine.shop import Paid
from tests.packages.built import built

TICKET = """\
import msgspec
import perdure

app = perdure.App("tickets")


class Opened(msgspec.Struct):
    id: str


class Paid(msgspec.Struct):
    id: str


async def note(text: str) -> str:
    return text


{extra}

@app.process
class Ticket(perdure.Process):
{fields}

    @perdure.on(Opened, start=True, key=lambda opened: opened.id)
    async def opened(self, opened: Opened) -> str:
        self.tag("tickets")
        await self.step(note, "opened", name={step!r})
        {before}
        paid = await self.receive(Paid)
        {after}
        return f"paid {{paid.id}} on version {version}"

    @perdure.on(Paid)
    async def paid(self, paid: Paid) -> str:
        return f"later {{paid.id}} on version {version}"
{more}
"""


def ticket(
    version: int,
    *,
    fields: str = "count: int = 0",
    step: str = "note",
    before: str = "self.count += 1",
    after: str = "",
    extra: str = "",
    more: str = "",
    apart: bool = False,
) -> Package:
    """Return a version of the tickets; `apart`: with an interpreter of its own."""
    body = "\n".join(f"    {line}" for line in fields.splitlines())
    text = TICKET.format(version=version, fields=body, step=step, before=before, after=after or "pass", extra=extra, more=more)
    return _packed(text, apart=apart)


def _packed(text: str, *, apart: bool) -> Package:
    files = {"tickets.py": text, **({"requirements.lock": "# nothing\n"} if apart else {})}
    return built(files, entry="tickets", name="tickets", isolation="process" if apart else "shared")


RENAMED = """
class Counted(msgspec.Struct):
    count: int


def renamed(old):
    return {"total": 10 * old["count"]}
"""

FIRST, SECOND = ticket(1), ticket(2)
OTHER_STEP = ticket(3, step="noted")
UPCAST, UPCAST_APART = (
    _packed(
        TICKET.format(version=4, fields="    total: int = 0", step="note", before="self.total += 10", after="pass", extra=RENAMED, more="")
        + "\n\napp.upcast(Counted, Ticket)(renamed)\n",
        apart=apart,
    )
    for apart in (False, True)
)
ENDS = ticket(6, before="self.count += 1; return 'closed on version 6'")
RAISES = ticket(7, after="", before="self.count += 1; raise ValueError('no')")
FAILS = ticket(8, before="raise ValueError('no')")
MORE_KINDS = ticket(
    9,
    extra="""
class Extra(msgspec.Struct):
    id: str
""",
    more="""
    @perdure.on(Extra)
    async def extra(self, extra: Extra) -> str:
        return f"extra {extra.id}"
""",
)
GATED = """
import asyncio

gate, begun, over = asyncio.Event(), [], []


async def slow() -> str:
    begun.append(1)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        over.append("called off")
        raise
    over.append("done")
    return "slow"
"""
SLOW = [ticket(number, extra=GATED, before="await self.step(slow, name='slow')") for number in (1, 2)]
CAREFUL = [ticket(number, extra=GATED, before="await self.step(slow, name='slow', at_most_once=True)") for number in (1, 2)]
LATER = [
    ticket(
        number,
        extra=GATED + "async def quick() -> str:\n    return 'quick'\n",
        before="await self.step(quick, name='quick', at_most_once=True); await self.step(slow, name='slow')",
    )
    for number in (1, 2)
]
OTHER_FIELDS = ticket(10, before="self.count += 7")
NARROWER = ticket(5, fields="count: str = ''", before="self.count += '1'")


async def open_ticket(engine: Engine, name: str, **more: Any) -> None:
    """Start a ticket of this id and key, which then waits to be paid."""
    await engine.deliver_encoded(
        "Opened", b'{"id":"%s"}' % name.encode(), id=f"opened {name}", to=Address.start("Ticket", key=name, id=name), **more
    )


async def pay(engine: Engine, name: str, *, id: str = "") -> None:
    """Let it go on."""
    await engine.deliver(Paid(name), id=id or f"paid {name}", to=Address.key(name))


async def record(engine: Engine, name: str) -> list[str]:
    """Return what the timeline says, without what is said of messages and handlers."""
    return [entry.text for entry in await engine.timeline(name) if entry.event not in {"MessageReceived", "ProcessingStarted"}]
