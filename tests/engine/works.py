"""A package that uses all that a turn has, as code that shares the engine's interpreter and as code with one of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure.packages.archive import Package
from tests.packages.built import built

FLOWS = '''\
import asyncio
import os
import sys
import threading
import time
from pathlib import Path

import msgspec
import perdure

app = perdure.App("works")
print("what code prints is no frame", flush=True)


class Start(msgspec.Struct):
    id: str
    folder: str = ""


class Word(msgspec.Struct):
    text: str


class Other(msgspec.Struct):
    text: str


class Odd(ValueError):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


async def noted(folder: str, what: str) -> int:
    return done(folder, what)


def place(folder: str) -> Path:
    return Path(os.environ["PLACE"] if folder == "place" else folder)


def done(folder: str, what: str) -> int:
    print("garbage", b"\\0" * 9, flush=True)
    with (place(folder) / "done").open("a") as file:
        file.write(what + chr(10))
    return len(what)


def fails(folder: str, times: int) -> str:
    done(folder, f"fails {perdure.step_info().attempt}")
    if perdure.step_info().attempt <= times:
        raise Odd(f"attempt {perdure.step_info().attempt}")
    return "came through"


def bad(what: str) -> None:
    raise Odd(what)


async def ends(folder: str, how: str) -> str:
    """End the interpreter in the middle of a step, when it runs for the first time."""
    first = not (place(folder) / f"ended {how}").exists()
    (place(folder) / f"ended {how}").touch()
    done(folder, f"ends by {how}")
    if first and how == "exit":
        os._exit(7)
    if first and how == "kill":
        os.kill(os.getpid(), 9)
    return f"survived {how}"


async def waits(folder: str, what: str) -> str:
    done(folder, f"began {what}")
    try:
        await asyncio.Event().wait()
    finally:
        done(folder, f"stopped {what}")
    return "never"


@app.process
async def child(p: perdure.Process, name: str) -> str:
    return f"child {name} of {p.id[:2] and 'somebody'}"


@app.process
class Works(perdure.Process):
    words: list[str] = []
    entries: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)

    @perdure.on(Start, start=True, key=lambda start: start.id)
    async def start(self, start: Start) -> list[str]:
        folder = start.folder
        await self.step(noted, folder, "async")
        self.words.append("one")
        await self.step(done, folder, "plain")
        self.words.append(await self.step(fails, folder, 2, retry=perdure.Retry(max_attempts=3, initial=5, factor=1, jitter=0)))
        try:
            await self.step(bad, "odd")
        except Odd as error:
            self.words.append(f"odd {error.what}")
        both = await asyncio.gather(self.step(noted, folder, "a", name="a"), self.step(noted, folder, "b", name="b"))
        word = await self.receive(Word, where=lambda word: word.text != "no")
        self.words.append(f"{word.text} {sum(both)}")
        await self.sleep(60)
        index, _ = await self.first(self.sleep(5), self.receive(Other))
        self.words.append(f"first {index}")
        self.words.append(await self.call(child, "c"))
        self.send(Word("to myself"), to=perdure.Address.process(self.id))
        self.words.append((await self.receive(Word)).text)
        self.words.append((await self.receive(Word)).text)
        await self.bind("another")
        try:
            await self.bind("taken")
        except perdure.PerdureError as error:
            self.words.append(type(error).__name__)
        self.tag("works")
        self.attributes["customer"] = "c-7"
        self.entries.append("first entry")
        self.entries.append("second entry")
        self.words += await self.entries.last(1)
        self.words.append(str(self.random().randint(0, 10**9)))
        self.words.append(str(self.uuid()))
        self.words.append(str(self.patched("newer")))
        async with asyncio.timeout(30):
            await self.sleep(10)
        self.words.append(self.now().isoformat())
        return self.words

    @perdure.on(Word)
    async def word(self, word: Word) -> None:
        if word.text == "boom":
            raise Odd("boom")
        self.words.append(f"later {word.text}")

    @perdure.query
    def count(self, times: int = 1) -> int:
        return len(self.words) * times

    @perdure.query
    def odd(self) -> int:
        raise ValueError("an odd query")


@app.process
class Holder(perdure.Process):
    @perdure.on(Word, start=True)
    async def hold(self, word: Word) -> None:
        pass


@app.process
async def steady(p: perdure.Process, folder: str, how: str) -> str:
    await p.step(noted, folder, "before")
    return await p.step(ends, folder, how)


@app.process
async def asleep(p: perdure.Process, seconds: float) -> str:
    await p.sleep(seconds)
    return "awake"


@app.process
async def lasting(p: perdure.Process, folder: str) -> str:
    try:
        return await p.step(waits, folder, "a step")
    except asyncio.CancelledError:
        await p.step(noted, folder, "cleaned up")
        raise


@app.process
async def late(p: perdure.Process, folder: str) -> str:
    try:
        return await p.step(waits, folder, "a late step", timeout=30)
    except perdure.errors.StepTimedOut as error:
        return "too late"


@app.process
async def once(p: perdure.Process, folder: str) -> str:
    try:
        return await p.step(ends, folder, "kill", at_most_once=True)
    except perdure.errors.StepOutcomeUnknown:
        return "nobody knows"


@app.process
async def hangs(p: perdure.Process, folder: str) -> str:
    path = place(folder) / "hung"
    if not path.exists():
        path.touch()
        time.sleep(3600)
    return "came through"


async def spins(folder: str) -> None:
    """Keep the loop of this interpreter for ever."""
    done(folder, "spins")
    while True:
        pass


@app.process
async def computes(p: perdure.Process, folder: str) -> None:
    await p.step(spins, folder)


@app.process
async def poison(p: perdure.Process) -> None:
    os._exit(9)


@app.process
async def deadlocked(p: perdure.Process) -> None:
    await asyncio.get_running_loop().create_future()


@app.process
async def where(p: perdure.Process) -> list[str]:
    import shop.flows

    return [__name__, shop.flows.__name__, str(os.getpid()), str(threading.active_count() > 0), sys.executable]
'''


def did(place: Path) -> list[str]:
    """Return what steps have done, in order."""
    return (place / "done").read_text().splitlines() if (place / "done").exists() else []


def works(*, apart: bool, more: str = "", lock: str = "# nothing\n", **given: Any) -> Package:
    """Return the package; `apart`: with an interpreter of its own. `given` is for its manifest."""
    files = {"requirements.lock": lock, "shop/__init__.py": "", "shop/flows.py": FLOWS + more}
    return built(files, isolation="process" if apart else "shared", **given)
