"""What the first release has left in its stores, and what has to come of it. It stays as it is: later releases keep this promise."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from perdure import App, Between, Process, Retention, VirtualClock, on, open_store
from perdure.engine import inspection, sweeper
from perdure.errors import MessageExpired, PoisonMessage
from perdure.identity import TenantId
from perdure.limits import POISON_ATTEMPTS, POISON_SOLO_AFTER
from perdure.operations.contract import OperationId, Policy, Replay, SealedResponse, Started
from perdure.schemas import schema_of
from perdure.testing import VirtualEngine, engine

BEGUN = datetime(2026, 1, 1, 12, tzinfo=UTC)
MADE = BEGUN + timedelta(days=30)
LATER = MADE + timedelta(hours=2)
KEPT = Retention(
    messages=timedelta(days=5), turns=timedelta(days=5), finished_processes=timedelta(days=10), tombstones=timedelta(days=3_650)
)


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int


class Comment(msgspec.Struct, tag="comment"):
    order_id: str
    text: str


class Close(msgspec.Struct, tag="close"):
    order_id: str


class Payment(msgspec.Struct):
    number: str
    amount: int


OPERATION = OperationId(tenant_id=TenantId("acme"), scope="checkout", value="payment-1")
ANSWER = b'{"number":"R-1","amount":100}'
PAYMENT, SCHEMAS = schema_of(Payment)


def make_app(effects: list[str]) -> App:
    """Return the app, whose steps note what they do."""
    app = App("shop")

    async def note(what: str) -> str:
        effects.append(what)
        return what.upper()

    async def never(what: str) -> None:
        effects.append(what)
        await asyncio.Event().wait()

    def key(message: Place | Comment | Close) -> str:
        return f"order:{message.order_id}"

    @app.process
    class Order(Process):
        comments: int = 0

        @on(Place, start=True, key=key)
        async def place(self, message: Place) -> str:
            self.attributes["total"] = message.total
            charged = await self.step(note, f"charge {message.order_id}", name="charge")
            if message.total > 100:
                await asyncio.sleep(86_400)
            shipped = await self.step(note, f"ship {message.order_id}", name="ship")
            return f"{charged}, {shipped}"

        @on(Comment, key=key)
        async def comment(self, message: Comment) -> str:
            self.comments += 1
            return f"{self.comments}: {message.text}"

        @on(Close, key=key)
        async def close(self, message: Close) -> str:
            return self.finish(f"{message.order_id} is closed")

    @app.process
    async def hello(p: Process, name: str) -> str:
        return f"Hello, {await p.step(note, name, name='greet')}!"

    @app.process
    async def crashing(p: Process) -> None:
        await p.step(never, "crash", name="crash")

    @app.schedule("0 3 * * *", id="nightly")
    @app.process
    async def report(p: Process) -> None:
        await p.step(note, "report", name="report")

    app.extras = {"hello": hello, "crashing": crashing}  # type: ignore[attr-defined]  # for `fill` and `check`
    return app


async def fill(url: str) -> None:
    """Make the store, as its users do in a month."""
    effects: list[str] = []
    app = make_app(effects)
    async with engine(app, start=BEGUN, store=url) as shop:
        await shop.call(app.extras["hello"], "old", id="hello-old")  # type: ignore[attr-defined]
        await _say(shop, Place("old", 1), Comment("old", "soon gone"), Close("old"))
        await _say(shop, Place("lasting", 70), Comment("lasting", "its turns were removed"))
    async with open_store(url, clock=VirtualClock(_micros(MADE))) as store:
        await sweeper.sweep(store, KEPT, archive=None)
        await _operate(store)
        await store.streams.append_batch("log", [b"one", b"two", b"three"], 0)
        await store.streams.truncate("log", 1)
        await store.streams.cas("value", None, 7)
    async with engine(app, start=MADE, store=url, auto_advance=False) as shop:
        await shop.call(app.extras["hello"], "world", id="hello-1")  # type: ignore[attr-defined]
        await _say(shop, Place("small", 5), Comment("small", "thanks"), Comment("small", "again"))
        await _say(shop, Place("closed", 50), Close("closed"))
        await shop.deliver(Place("big", 500), id="place big")
        for number in range(3):
            await shop.deliver(Comment("big", f"number {number}"), id=f"comment big {number}")
        await shop.deliver(Comment("later", "before its order"), id="parked")
        await shop.settled()
        await _poison(shop, effects)
    assert effects.count("ship big") == 0


async def check(url: str) -> None:
    """See that a store of this release is read and goes on."""
    effects: list[str] = []
    app = make_app(effects)
    hello, crashing = app.extras["hello"], app.extras["crashing"]  # type: ignore[attr-defined]
    async with engine(app, start=LATER, store=url, auto_advance=False) as shop:
        # What was done is not done again.
        assert await shop.call(hello, "world", id="hello-1") == "Hello, WORLD!"
        assert await _say(shop, Place("small", 5), Comment("small", "thanks"), Comment("small", "again")) == [
            "CHARGE SMALL, SHIP SMALL",
            "1: thanks",
            "2: again",
        ]
        assert await _say(shop, Place("closed", 50), Close("closed")) == ["CHARGE CLOSED, SHIP CLOSED", "closed is closed"]
        assert await _expired(shop, Place("old", 1))
        assert await _expired(shop, Place("lasting", 70))
        assert await _is_poison(shop, crashing)
        assert [letter.reason for letter in await inspection.dead_letters(shop.store)] == ["poison-message"]
        await _operated(shop.store)
        assert [entry.payload for entry in await shop.store.streams.read_from("log", 1)] == [b"two", b"three"]
        assert await shop.store.streams.read_value("value") == 7
        page = await shop.processes(attributes={"total": Between(1, 60)}, type="Order")
        found = [await shop.process(one.process_id) for one in page]
        assert sorted((one.status, one.attributes["total"]) for one in found) == [("ended", 50), ("idle", 5)]
        assert effects == []

        # What was begun goes on.
        await _say(shop, Place("later", 1), Comment("lasting", "goes on"))
        await shop.settled()
        assert (await shop.explain("parked")).status == "done"
        assert (await shop.explain("comment big 0")).status == "queued"
        await shop.advance(timedelta(days=2))
        assert await shop.deliver(Place("big", 500), id="place big", wait=True) == "CHARGE BIG, SHIP BIG"
        told = [await shop.deliver(Comment("big", f"number {number}"), id=f"comment big {number}", wait=True) for number in range(3)]
        assert told == ["1: number 0", "2: number 1", "3: number 2"]
        assert Counter(effects) == {"charge later": 1, "ship later": 1, "ship big": 1, "report": 2}


async def _say(shop: VirtualEngine, *messages: Any) -> list[Any]:
    said = []
    for message in messages:
        id = " ".join([type(message).__name__.lower(), message.order_id, getattr(message, "text", "")]).strip()
        said.append(await shop.deliver(message, id=id, wait=True))
    return said


async def _poison(shop: VirtualEngine, effects: list[str]) -> None:
    crashing = shop.app.extras["crashing"]  # type: ignore[attr-defined]
    call = asyncio.ensure_future(shop.call(crashing, id="crashing"))
    for number in range(POISON_SOLO_AFTER + POISON_ATTEMPTS):
        while effects.count("crash") <= number:  # noqa: ASYNC110  # on purpose, only the step itself tells
            await asyncio.sleep(0)
        await shop.crash()
    await asyncio.gather(call, return_exceptions=True)
    assert await _is_poison(shop, crashing)


async def _is_poison(shop: VirtualEngine, crashing: Any) -> bool:
    try:
        await shop.call(crashing, id="crashing")
    except PoisonMessage:
        return True
    return False


async def _expired(shop: VirtualEngine, message: Place) -> bool:
    try:
        await _say(shop, message)
    except MessageExpired:
        return True
    return False


async def _begin(store: Any) -> Any:
    return await store.operations.begin(
        OPERATION, method="charge", request_digest=b"d" * 32, policy=Policy.PERSISTENT, lease_for=30_000_000, retain=3_650 * 86_400_000_000
    )


async def _operate(store: Any) -> None:
    verdict = await _begin(store)
    assert isinstance(verdict, Started)
    await store.operations.seal(OPERATION, ANSWER, PAYMENT, SCHEMAS, token=verdict.token)


async def _operated(store: Any) -> None:
    assert await _begin(store) == Replay(SealedResponse(response=ANSWER, root_type=PAYMENT, codec="json"))


def _micros(moment: datetime) -> int:
    return round(moment.timestamp()) * 1_000_000
