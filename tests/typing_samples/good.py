"""A program whose results are typed: mypy has to accept each `assert_type`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

import msgspec

import perdure
import perdure.testing
from perdure.commands.contract import CommandRetry

app = perdure.App("typed")


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int


class Approve(msgspec.Struct, tag="approve"):
    by: str


class Reject(msgspec.Struct, tag="reject"):
    reason: str


class Receipt(msgspec.Struct):
    order_id: str


async def charge(order_id: str, total: int) -> Receipt:
    return Receipt(f"{order_id}:{total}")


def weigh(order_id: str) -> float:
    return float(len(order_id))


async def was_charged(order_id: str, total: int) -> Receipt | perdure.NotDone:
    return Receipt(order_id) if total else perdure.NotDone()


def was_weighed(order_id: str) -> float | type[perdure.NotDone]:
    return 1.5 if order_id else perdure.NotDone


@app.process
class Order(perdure.Process):
    """One order."""

    status: str = "new"
    history: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)

    @perdure.on(Place, start=True, key=lambda message: f"order:{message.order_id}")
    async def place(self, message: Place) -> Receipt:
        charged = await self.step(charge, message.order_id, message.total, retry=perdure.Retry(max_attempts=5))
        assert_type(charged, Receipt)
        assert_type(await self.step(weigh, message.order_id, name="weigh again"), float)
        assert_type(await self.step(charge, "7", 1, at_most_once=True, probe=was_charged, timeout=timedelta(seconds=9)), Receipt)
        assert_type(await self.step(weigh, "7", at_most_once=True, probe=was_weighed, abandon=True, timeout=2.5), float)
        assert_type(await self.step(weigh, "7", at_most_once=True, probe=weigh), float)
        assert_type(self.now(), datetime)
        assert_type(self.random().random(), float)
        assert_type(self.uuid(), UUID)
        assert_type(self.patched("weigh twice"), bool)
        assert_type(await self.receive(Approve), Approve)
        assert_type(await self.receive(Approve, Reject), Approve | Reject)
        answer = await self.receive(Approve, Reject, timeout=timedelta(days=3), where=bool)
        assert_type(answer, Approve | Reject | None)
        match answer:
            case Approve(by=by):
                assert_type(by, str)
            case Reject() | None:
                self.status = "rejected"
        assert_type(await self.sleep(1), None)
        self.send(Approve("me"), to=perdure.Address.key("order:1"))
        self.send(Approve("me"), to=perdure.Address.key("order:1"), after=timedelta(hours=1))
        assert_type(await self.call(hello, "world", 2), list[float])
        assert_type(await self.call(Order.place, Place("8", 1), id="order 8"), Receipt)
        assert_type(await self.ask(perdure.Address.key("order:1"), Approve("me"), result=Receipt), Receipt)
        assert_type(self.spawn(hello, "world", 2, detached=True), perdure.ProcessId)
        token, paid = self.awakeable(Receipt)
        assert_type(token, str)
        assert_type(await paid, Receipt)
        picked = self.command(
            "site", "pick", message, result=Receipt, target="arm", deadline=timedelta(hours=1), retry=CommandRetry(max_attempts=3)
        )
        assert_type(await picked, Receipt)
        assert_type(await self.command("site", "weigh", {"order": "7"}, priority=-1, delay=timedelta(seconds=5)), Any)
        command_id, packed = self.command_async("site", "pack", result=list[Receipt])
        assert_type(command_id, str)
        assert_type(await packed, list[Receipt])
        assert_type(await self.command_async("site", "pack")[1], Any)
        assert_type(await self.first(self.command("site", "pack", result=int), self.sleep(5)), tuple[int, int | None])
        assert_type(await self.gather_limited(2, self.step(weigh, "1"), self.step(weigh, "2")), list[float])
        async for weight in self.as_completed([self.step(weigh, "1"), self.step(weigh, "2")]):
            assert_type(weight, float)
        await self.until(lambda: self.status == "new")
        self.history.append("placed")
        assert_type(await self.history.last(2), list[str])
        self.reply(answer, 1)
        self.log.info("placed %s", message.order_id)
        self.tag("customer:1")
        await self.bind("invoice:1")
        self.attributes["customer"] = "c-1"
        self.attributes["total"] = message.total
        del self.attributes["customer"]
        return charged

    @perdure.query
    def summary(self) -> Receipt:
        return Receipt(self.status)

    @perdure.query
    def line(self, number: int, text: str = "") -> list[str]:
        return [self.status, str(number), text]


@app.process
async def hello(p: perdure.Process, name: str, times: int) -> list[float]:
    return [await p.step(weigh, name) for _ in range(times)]


@app.schedule("30 2 * * *", tz="Europe/Berlin", overlap="queue", catch_up="all", jitter=timedelta(minutes=5))
@app.process
async def nightly(p: perdure.Process, slot: datetime) -> float:
    return slot.timestamp()


assert_type(app.schedule(interval=60, message=Approve("clock"), to=perdure.Address.key("order:1"), id="approve"), None)


async def put_away(record: perdure.ArchiveRecord) -> None:
    assert_type(record.fields, str | None)


async def main() -> None:
    async with perdure.open_store("sqlite:///:memory:") as store, perdure.Engine(store, app) as engine:
        assert_type(await engine.call(hello, "world", 2, id="h-1"), list[float])
        assert_type(await engine.call(Order.place, Place("7", 100), id="o-1", tenant="acme"), Receipt)
        assert_type(await engine.query(Order.summary, "o-1"), Receipt)
        assert_type(await engine.query(Order.line, "o-1", 7, "x", tenant="acme"), list[str])
        assert_type(await engine.query(Order.summary, key="order:7"), Receipt)
        assert_type(await engine.query(Order.line, 7, "x", key="order:7"), list[str])
        assert_type(await engine.call(nightly, datetime(2026, 1, 1, tzinfo=UTC)), float)
        info = await engine.schedules.create("report", hello, "world", 2, cron="0 7 * * *", tz="UTC")
        assert_type(info.next, list[int])
        assert_type(await engine.schedules.trigger("report"), perdure.MessageId)
    keep = perdure.Retention(messages=timedelta(days=30))
    async with perdure.open_store("sqlite:///:memory:") as store, perdure.Engine(store, app, retention=keep, archive=put_away) as engine:
        assert_type(await engine.sweep(), perdure.Swept)
    assert_type([event.seq for record in perdure.read_archive("folder") for event in record.events], list[int])


async def elsewhere(client: perdure.Client) -> None:
    assert_type(await client.call(Place("7", 100), id="o-1", result=Receipt), Receipt)
    assert_type(await client.command("acme", "pick", {"order": "7"}, result=Receipt, target="w7"), Receipt)
    assert_type(await client.command("acme", "count", result=int), int)
    sent = await client.send_command("acme", "pick", key="k", deadline=timedelta(hours=1))
    assert_type((await client.wait_command(sent.command_id)).state == "SUCCEEDED", bool)
    async for chunk in client.download_result(sent.command_id):
        assert_type(chunk, bytes)


def elsewhere_without_a_loop() -> None:
    with perdure.SyncClient("https://hub.example", token_file="token") as client:
        assert_type(client.call(Place("7", 100), id="o-1", result=Receipt), Receipt)
        assert_type(client.command("acme", "pick", Place("7", 100), result=Receipt), Receipt)
        assert_type(client.cancel_command("cmd_7"), str)
        for chunk in client.download_result("cmd_7"):
            assert_type(chunk, bytes)


worker = perdure.Worker("https://hub.example", deployment="acme", target="w7", max_concurrency=8)


@worker.command("pick")
async def pick(context: perdure.CommandContext, params: Place) -> Receipt:
    assert_type(context.remaining, float | None)
    context.progress(0.5, "half of it")
    return Receipt(params.order_id)


@worker.command("weigh")
def weigh_it(_context: perdure.CommandContext) -> float:
    return 1.5


async def tested() -> None:
    context: perdure.CommandContext
    for context in ():
        assert_type(await pick(context, Place("7", 100)), Receipt)
        assert_type(weigh_it(context), float)
    async with perdure.testing.engine(app, start=datetime(2030, 1, 1, tzinfo=UTC)) as engine:
        assert_type(await engine.call(hello, "world", 2, id="h-1"), list[float])
        assert_type(engine.clock, perdure.VirtualClock)
        await engine.advance(timedelta(days=3))
        exported = await engine.export_process("h-1")
        assert_type(perdure.testing.replay(exported, app).ok, bool)
    report = await perdure.testing.crashes(app, scenario, ledger=perdure.testing.EffectLedger())
    assert_type(report, perdure.testing.CrashReport)


async def scenario(engine: perdure.testing.VirtualEngine) -> list[float]:
    return await engine.call(hello, "world", 2, id="h-1")


assert_type(perdure.run(app, hello, "world", 2, id="h-1"), list[float])
