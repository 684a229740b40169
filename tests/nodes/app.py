"""What the nodes run: accounts that all of them write to, jobs with a timer, and talks that wait for an answer."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec

import perdure
from perdure import Address, App, Process, StepInfo, on, step_info

PAUSE = 0.2  # seconds that a job sleeps between its steps
AGAIN = 0.05  # seconds until an effect that could not be noted is noted again
PATIENCE = timedelta(minutes=10)


class Add(msgspec.Struct, tag="add"):
    """Something for an account, which sends, spawns or calls `more`."""

    account: str
    id: str
    more: str = ""
    other: str = ""


class Note(msgspec.Struct, tag="note"):
    account: str
    id: str


class Begin(msgspec.Struct, tag="begin"):
    id: str


class Answer(msgspec.Struct, tag="answer"):
    id: str


class Effects:
    """A ledger outside of the store: one row for each effect that began, with who began it and when."""

    def __init__(self, node: str, pool: asyncpg.Pool[Any]) -> None:
        self._node = node
        self._pool = pool

    async def note(self, what: str) -> str:
        at, info = time.time(), step_info()
        while True:
            try:
                await self._insert(at, info)
            except (
                OSError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ):  # the server is restarted under it
                await asyncio.sleep(AGAIN)
            else:
                return what

    async def _insert(self, at: float, info: StepInfo) -> None:
        await self._pool.execute(
            "insert into proof.effect (at, node, process_id, ref, step_id, key, attempt, recorded) values ($1, $2, $3, $4, $5, $6, $7, false)",
            at,
            self._node,
            info.process_id,
            info.message_ref,
            info.step_id,
            info.idempotency_key,
            info.attempt,
        )


class Account(Process):
    """It remembers each message that it has handled."""

    seen: list[str] = []

    @perdure.query
    def all(self) -> list[str]:
        return self.seen


def make_app(effects: Effects | None) -> App:
    app = App("nodes")

    async def note(what: str) -> str:
        assert effects is not None, "who runs processes has a ledger"
        return await effects.note(what)

    @app.process
    async def job(p: Process, id: str) -> str:
        await p.step(note, f"{id} one", name="step-one")
        await p.sleep(PAUSE)
        await p.step(note, f"{id} two", name="step-two")
        return id

    @app.process
    class Shared(Account):
        @on(Add, start=True, key=lambda message: f"account:{message.account}")
        async def add(self, message: Add) -> int:
            self.seen.append(message.id)
            await self.step(note, message.id, name="step-add")
            if message.more == "send":
                self.send(Note(message.other, f"{message.id}/sent"), to=Address.key(f"account:{message.other}"))
            elif message.more == "spawn":
                self.spawn(job, f"{message.id}/spawned")
            elif message.more == "call":
                await self.call(job, f"{message.id}/called")
            return len(self.seen)

        @on(Note, key=lambda message: f"account:{message.account}")
        async def hear(self, message: Note) -> int:
            self.seen.append(message.id)
            await self.step(note, message.id, name="step-hear")
            return len(self.seen)

    @app.process
    class Talk(Process):
        @on(Begin, start=True, key=lambda message: f"talk:{message.id}")
        async def begin(self, message: Begin) -> str:
            await self.step(note, message.id, name="step-ask")
            answer = await self.receive(Answer, timeout=PATIENCE)
            await self.step(note, message.id, name="step-hang-up")
            return "nobody answered" if answer is None else answer.id

    app.extras = {"job": job, "Shared": Shared}  # type: ignore[attr-defined]  # handed to the nodes
    return app
