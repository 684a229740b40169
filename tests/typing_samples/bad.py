"""Wrong uses of the API: mypy has to refuse each line that is marked so, and no other."""

from __future__ import annotations

from datetime import timedelta

import msgspec

import perdure
import perdure.testing

app = perdure.App("wrong")


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int


class Approve(msgspec.Struct, tag="approve"):
    by: str


async def charge(order_id: str, total: int) -> int:
    return total + len(order_id)


async def was_named(order_id: str, total: int) -> str:
    return f"{order_id}{total}"


@app.process
class Order(perdure.Process):
    """One order."""

    status: str = "new"
    history: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)

    @perdure.on(Place, start=True, key=lambda message: message.customer)  # error: a Place has no customer
    async def place(self, message: Place) -> int:
        await self.step(charge, message.order_id)  # error: one argument too few
        await self.step(charge, message.total, message.order_id)  # error: the wrong way round
        await self.step(charge, message.order_id, total=message.total)  # error: arguments are positional
        self.step(charge, message.order_id, message.total)  # error: never awaited
        await self.step(charge, message.order_id, message.total, at_most_once=True, probe=was_named)  # error: the probe answers with text
        await self.step(charge, message.order_id, message.total, at_most_once=True, probe=len)  # error: the probe takes other arguments
        await self.step(charge, message.order_id, message.total, timeout="5 s")  # error: a duration, not text
        self.patched(message.total)  # error: a patch has a name
        text: str = await self.step(charge, message.order_id, message.total)  # error: the step returns a number
        answer: Approve = await self.receive(Approve, timeout=timedelta(1))  # error: None after the timeout
        self.status = self.state  # error: no such field
        self.status = 3  # error: a field of text
        self.sned(answer, to=text)  # error: no such verb
        self.send(answer, to="order:1")  # error: an address, not text
        await self.call(hello, 7)  # error: a name is text
        number: str = await self.call(hello, "x")  # error: the process returns a number
        self.call(hello, "x")  # error: never awaited
        self.spawn(hello)  # error: no name
        self.command("site", "pick")  # error: never awaited
        text = await self.command("site", "pick", result=int)  # error: its result is a number
        await self.command("site")  # error: what is to be done?
        await self.command("site", "pick", deadline=5)  # error: a timedelta, not a number
        await self.command("site", "pick", retry=3)  # error: a policy, not a number
        self.history.append(7)  # error: a log of text
        await self.until(lambda: self.state)  # error: no such field
        return len(number)

    @perdure.query
    def line(self, number: int) -> str:
        self.attributes["lines"] = [number]  # error: no attribute is a list
        return self.status

    @perdure.on(Approve)  # error: the handler takes another message
    async def approve(self, message: Place) -> int:
        return message.total


@app.process
async def hello(p: perdure.Process, name: str) -> int:
    return await p.step(charge, name, 1)


@app.schedule("30 2 * * *", overlap="both")  # error: no such policy
@app.process
async def nightly(p: perdure.Process) -> None: ...


app.schedule("30 2 * * *", message=Approve("clock"), to="order:1", id="approve")  # error: an address, not text


async def main() -> None:
    async with perdure.open_store("sqlite:///:memory:") as store, perdure.Engine(store, app) as engine:
        await engine.call(hello, 7, id="h-1")  # error: a name is text
        await engine.call(hello, id="h-1")  # error: no name
        await engine.call(Order.place, Approve("me"), id="o-1")  # error: the message of another handler
        answer: str = await engine.call(hello, "world", id="h-1")  # error: the process returns a number
        print(answer)  # noqa: T201
        number: int = await engine.query(Order.line, "o-1", 7)  # error: the query returns text
        await engine.query(Order.line, "o-1", "seven")  # error: a number is asked for
        await engine.query(Order.line, key="order:7")  # error: no number
        print(number)  # noqa: T201
    await perdure.testing.crashes(app, perdure.testing.engine(app))  # error: a scenario is a function of the engine
    perdure.testing.replay(b"{}", app)  # error: an export, not its bytes
    perdure.Retention(messages=30)  # error: an age is a timedelta
    async with perdure.open_store("sqlite:///:memory:") as store, perdure.Engine(store, app, archive=print):  # error: an archive is awaited
        pass


async def elsewhere(client: perdure.Client, waiting: perdure.SyncClient) -> None:
    number: int = await client.command("acme", "pick", result=str)  # error: the result is text
    number = waiting.command("acme", "pick", result=str)  # error: the result is text
    print(number)  # noqa: T201
    await client.send_command("acme")  # error: which command
    await client.send_command("acme", "pick", deadline=30)  # error: a duration is a timedelta
    waiting.call(Approve("me"))  # error: a message has an id
    perdure.Worker("https://hub.example")  # error: whose commands
    perdure.Worker("https://hub.example", deployment="acme", lease=60)  # error: a duration is a timedelta
