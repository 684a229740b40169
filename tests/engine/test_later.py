"""Messages that are sent to be delivered later: once, when due, whatever becomes of their sender."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, on, open_store
from perdure.engine import inspection
from perdure.errors import UsageError
from tests.engine.conftest import Running
from tests.engine.orders import Ledger, crash, eventually, reaches

DAY = 86_400_000_000


class Remind(msgspec.Struct, tag="remind"):
    what: str


def make_app(ledger: Ledger) -> App:
    app = App("later")

    @app.process
    class Reminder(Process):
        heard: list[str] = []

        @on(Remind, start=True, key=lambda message: "reminder")
        async def hear(self, message: Remind) -> None:
            self.heard.append(message.what)
            await self.step(ledger.note, message.what)

    @app.process
    async def plan(p: Process) -> str:
        for days in (2, 1, 0):
            p.send(Remind(f"day {days}"), to=Address.start(Reminder, key="reminder"), after=timedelta(days=days))
        p.send(Remind("nobody"), to=Address.process("nobody"), after=3600)
        await p.step(ledger.note, "planned")
        return "planned"

    @app.process
    async def hasty(p: Process) -> None:
        p.send(Remind("never"), to=Address.process("x"), after=-1)

    return app


async def heard(ledger: Ledger, count: int) -> None:
    async def there() -> bool:
        return len(ledger.effects) == count

    await eventually(there)


async def test_each_is_delivered_when_it_is_due_after_its_sender_has_ended(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        await engine.call(engine.app.type_named("plan").target, id="plan")
        await heard(ledger, 2)
        waiting = [one for one in await inspection.messages(engine.store) if one.status == "delayed"]
        assert len(waiting) == 3
        assert all("it is delivered at" in one.text for one in waiting)
    clock.advance(DAY - 1)
    async with running(make_app(ledger)) as engine:
        await eventually(lambda: _dead(engine.store))
        assert ledger.effects == ["planned", "day 0"]
        clock.advance(1)
        await heard(ledger, 3)
        clock.advance(DAY)
        await heard(ledger, 4)
    assert ledger.effects == ["planned", "day 0", "day 1", "day 2"]


async def _dead(store: Store) -> bool:
    return [letter.reason for letter in await inspection.dead_letters(store)] == ["process-not-found"]


async def test_a_delay_before_now_is_refused(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        with pytest.raises(UsageError, match="a duration is"):
            await engine.call(engine.app.type_named("hasty").target)


async def test_a_crash_at_each_commit_delivers_each_once() -> None:
    async def outcome(crash_after: int | None) -> tuple[object, int]:
        clock, ledger = VirtualClock(), Ledger()
        async with open_store("sqlite:///:memory:", clock=clock) as store:
            engine = Engine(store, make_app(ledger))
            await engine.__aenter__()
            base = store.access.writer.commits

            async def drive() -> None:
                await engine.call(engine.app.type_named("plan").target, id="plan")
                clock.advance(3 * DAY)
                await eventually(lambda: _all_heard(store))

            work = asyncio.ensure_future(drive())
            while not work.done():
                if crash_after is not None and store.access.writer.commits - base >= crash_after:
                    work.cancel()
                    await crash(engine)
                    await asyncio.gather(work, return_exceptions=True)
                    engine = Engine(store, make_app(ledger))
                    await engine.__aenter__()
                    await drive()
                    break
                await asyncio.sleep(0)
            else:
                await work
            [reminder] = [one for one in await inspection.processes(store) if one.process_type == "Reminder"]
            await reaches(engine, reminder.process_id, "idle")
            fields = (await inspection.process(store, reminder.process_id)).fields
            commits = store.access.writer.commits - base
            await engine.close()
            return (sorted(fields["heard"]), sorted(set(ledger.effects))), commits

    expected, commits = await outcome(None)
    for crash_after in range(1, commits + 1):
        assert (await outcome(crash_after))[0] == expected, f"crash after commit {crash_after}"


async def _all_heard(store: Store) -> bool:
    reminders = [one for one in await inspection.processes(store) if one.process_type == "Reminder"]
    return bool(reminders) and len((await inspection.process(store, reminders[0].process_id)).fields["heard"]) == 3
