"""An app for the command line: processes that can be asked."""

from __future__ import annotations

import msgspec

import perdure

app = perdure.App("asked")
no_app = 7


class Open(msgspec.Struct, tag="open"):
    name: str
    size: int = 0


class Summary(msgspec.Struct):
    name: str
    pages: list[int]


@app.process
class Book(perdure.Process):
    """A book with pages."""

    name: str = ""
    size: int = 0

    @perdure.on(Open, start=True, key=lambda message: f"book:{message.name}")
    async def open(self, message: Open) -> None:
        self.name, self.size = message.name, message.size
        self.attributes["name"] = message.name
        self.attributes["size"] = message.size

    @perdure.query
    def summary(self) -> Summary:
        return Summary(self.name, list(range(self.size)))

    @perdure.query
    def pages(self, first: int, last: int = 9) -> list[int]:
        return list(range(self.size))[first:last]

    @perdure.query
    def title(self) -> str:
        return self.name

    @perdure.query
    def broken(self) -> str:
        raise LookupError("no such page")
