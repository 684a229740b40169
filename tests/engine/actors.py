"""Processes that do what their messages tell them, for random runs of the engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from random import Random

import msgspec

from perdure import Address, App, Process, Retry, on, step_info
from perdure.errors import KeyTaken

ACTORS = 4
TAGS = ("red", "blue")
ALIASES = ("x", "y")
RETRY = Retry(max_attempts=3, initial=2.0, jitter=0.0)
Script = list[tuple[str, str]]


class Do(msgspec.Struct, tag="do"):
    actor: str
    script: Script


class Note(msgspec.Struct, tag="note"):
    text: str


class Word(msgspec.Struct, tag="word"):
    text: str


class Refused(Exception):
    """What a script asks to raise."""


class Effects:
    """What steps did, by idempotency key."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    async def work(self, text: str) -> str:
        self.done[step_info().idempotency_key] += 1
        for _ in range(len(text) % 4):
            await asyncio.sleep(0)
        return text

    async def flaky(self, text: str) -> str:
        self.done[step_info().idempotency_key] += 1
        if step_info().attempt == 1:
            raise ConnectionError(text)
        return text


def actors(effects: Effects) -> App:
    """Return the app."""
    app = App("actors")

    @app.process
    class Actor(Process):
        heard: list[str] = []

        @on(Do, start=True, key=lambda message: message.actor, on_error="fail_turn")
        async def do(self, message: Do) -> int:
            for verb, text in message.script:
                await self.obey(verb, text)
            return len(self.heard)

        @on(Note, on_error="fail_turn")
        async def note(self, message: Note) -> str:
            self.heard.append(message.text)
            if len(message.text) % 3:
                await self.step(effects.work, message.text)
            return message.text

        async def obey(self, verb: str, text: str) -> None:
            match verb:
                case "step":
                    await self.step(effects.work, text)
                case "flaky":
                    await self.step(effects.flaky, text, retry=RETRY)
                case "both":
                    await asyncio.gather(self.step(effects.work, text), self.sleep(3), self.step(effects.flaky, text, retry=RETRY))
                case "race":
                    await self.first(self.receive(Word, timeout=timedelta(seconds=5)), self.step(effects.work, text))
                case "wait":
                    self.heard.append(str(await self.receive(Word, timeout=timedelta(seconds=7))))
                case "where":
                    await self.receive(Word, timeout=timedelta(seconds=7), where=lambda word: word.text.endswith("5"))
                case "ever":
                    self.heard.append((await self.receive(Word)).text)
                case "sleep":
                    await self.sleep(4)
                case "send":
                    self.send(Note(text), to=Address.key(f"actor {len(text) % ACTORS}"))
                case "self":
                    self.send(Note(text), to=Address.process(self.id))
                case "fan":
                    self.send(Note(text), to=Address.tag(TAGS[len(text) % 2]))
                case "tag":
                    self.tag(TAGS[len(text) % 2])
                case "untag":
                    self.untag(TAGS[len(text) % 2])
                case "bind":
                    try:
                        await self.bind(ALIASES[len(text) % 2])
                    except KeyTaken as error:
                        self.heard.append(type(error).__name__)
                case "unbind":
                    self.unbind(ALIASES[len(text) % 2])
                case "spawn":
                    self.spawn(helper, text)
                case "fail":
                    raise Refused(text)
                case _:
                    self.finish(None)

    @app.process
    async def helper(p: Process, text: str) -> str:
        await p.step(effects.work, text)
        p.send(Note(text), to=Address.key(f"actor {len(text) % ACTORS}"))
        return text

    return app


CALM = ("step", "flaky", "both", "sleep", "send", "self", "spawn")
WILD = (*CALM, "race", "wait", "where", "ever", "fan", "tag", "untag", "bind", "unbind", "fail", "tag", "bind", "finish")


def script(random: Random, verbs: tuple[str, ...]) -> Script:
    """Return what one message asks for."""
    return [(random.choice(verbs), "t" * random.randrange(12) + str(random.randrange(10))) for _ in range(random.randrange(5))]
