"""A process with a long life: it counts ticks, and waits when it is told to. The benchmark of long lives runs it, too."""

from __future__ import annotations

import msgspec

from perdure import App, Process, on


class Tick(msgspec.Struct, tag="tick"):
    n: int


class Wait(msgspec.Struct, tag="wait"):
    pass


class Go(msgspec.Struct, tag="go"):
    pass


async def number(n: int) -> int:
    return n


def meter() -> App:
    app = App("meters")

    @app.process
    class Meter(Process):
        total: int = 0

        @on(Tick, start=True, key=lambda _message: "meter")
        async def tick(self, message: Tick) -> int:
            self.total += message.n
            return self.total

        @on(Wait, key=lambda _message: "meter")
        async def wait(self, _message: Wait) -> int:
            self.total += await self.step(number, 1)
            await self.receive(Go)
            return self.total

    return app
