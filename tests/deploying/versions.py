"""A shop, and edits of its code: those that break what is stored, and those that do not."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from perdure.engine.packaged import apps_in, defined_by
from perdure.packages.archive import pack
from perdure.packages.loading import PackageCode, load, unload
from perdure.packages.manifest import Isolation, describe
from perdure.packages.paths import top_level_names

FLOWS: Final = """\
import enum
from datetime import timedelta

import msgspec
import perdure
from tests.deploying import marks

app = perdure.App("shop")


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int
    size: Size


class Approve(msgspec.Struct, tag="approve"):
    by: str


class Note(msgspec.Struct, tag="note"):
    text: str


class Receipt(msgspec.Struct):
    order_id: str
    status: str


class Charge(msgspec.Struct):
    id: str
    amount: int


def reserve(order_id: str) -> str:
    marks.ran.append("reserve")
    return f"shelf of {order_id}"


async def charge_card(order_id: str, total: int) -> Charge:
    marks.ran.append("charge_card")
    return Charge(f"c{order_id}", total)


def ship(order_id: str) -> None:
    marks.ran.append("ship")


def label(order_id: str) -> str:
    marks.ran.append("label")
    return order_id


@app.process
class Order(perdure.Process):
    status: str = "new"
    total: int = 0
    notes: list[str] = []

    @perdure.on(Place, start=True, key=lambda message: f"order:{message.order_id}")
    async def place(self, message: Place) -> Receipt:
        self.total = message.total
        shelf = await self.step(reserve, message.order_id)
        charge = await self.step(charge_card, message.order_id, message.total)
        self.tag(f"customer:{charge.id}")
        await self.bind(f"charge:{charge.id}")
        self.status = "waiting"
        answer = await self.receive(Approve, timeout=timedelta(days=3))
        self.status = "expired"
        if answer is not None:
            await self.step(ship, message.order_id)
            self.status = f"shipped from {shelf}"
        return Receipt(message.order_id, self.status)

    @perdure.on(Note)
    async def note(self, message: Note) -> int:
        self.notes.append(message.text)
        return len(self.notes)


@app.process
async def pick(p: perdure.Process, order_id: str) -> str:
    await p.sleep(60)
    picked = await p.step(label, order_id)
    await p.receive(Approve)
    return picked
"""


class Edit(NamedTuple):
    """A change of the code: `old` becomes `new`, each time; and what is found of it, in what words."""

    name: str
    old: str
    new: str
    what: str = ""
    result: str = ""
    text: str = ""


STEP: Final = "        shelf = await self.step(reserve, message.order_id)\n"
CHARGE: Final = "        charge = await self.step(charge_card, message.order_id, message.total)\n"
NOTED: Final = FLOWS[FLOWS.index("    @perdure.on(Note)\n") : FLOWS.index("@app.process\nasync def pick")]
PICK: Final = FLOWS[FLOWS.index("@app.process\nasync def pick") :]

INCOMPATIBLE: Final = (
    Edit("a step is renamed", STEP, STEP.replace("order_id)", 'order_id, name="book")'), "turn", "diverges at step reserve", "['book']"),
    Edit("a step is removed", STEP, '        shelf = ""\n', "turn", "diverges at step reserve", "['charge_card']"),
    Edit("a step comes before", STEP, "        await self.step(label, message.order_id)\n" + STEP, "turn", "diverges at step reserve", "['label']"),
    Edit("two steps change places", STEP + CHARGE, CHARGE + STEP, "turn", "diverges at step reserve", "['charge_card']"),
    Edit("a step has other arguments", CHARGE, CHARGE.replace("message.total", "message.total * 100"), "turn", "diverges at step charge_card", "was recorded for"),
    Edit("a step has another function", "self.step(reserve, message.order_id)", 'self.step(label, message.order_id, name="reserve")', "turn", "diverges at step reserve", "the code calls label("),
    Edit("another verb", "p.sleep(60)", 'p.step(label, order_id, name="sleep")', "turn", "diverges at step sleep", ""),
    Edit("no timer any more", "    await p.sleep(60)\n", "", "turn", "diverges at step sleep", "was not reached"),
    Edit("another key is bound", "charge:{charge.id}", "payment:{charge.id}", "turn", "diverges at step bind", "'payment:c1'"),
    Edit("one tag more", "        await self.bind(", '        self.tag("orders")\n        await self.bind(', "turn", "diverges at step", "the code asks for 2"),
    Edit("a field has another value", 'self.status = "waiting"', 'self.status = "asked"', "turn", "diverges at step", "the durable fields were committed"),
    Edit("what waited raises", 'self.status = "waiting"', 'self.status = "waiting"; raise ValueError(shelf)', "turn", "diverges", "it waits, and this code raises where it did: ValueError: shelf of 1"),
    Edit("it waits for nothing", "await self.receive(Approve, timeout=timedelta(days=3))", "await perdure_forever()", "turn", "diverges", "not durable"),
    Edit("the output of a step is another type", "    id: str\n    amount", "    id: int\n    amount", "turn", "undecodable at $.id of step charge_card", ""),
    Edit("an enum loses a member", '    SMALL = "small"\n', "", "turn", "undecodable at $.size", "message cannot be read"),
    Edit("a field is narrowed", "    total: int = 0", "    total: str = ''", "fields", "undecodable at $.total", "Expected `str`"),
    Edit("a durable field is renamed", "self.total", "self.cents", "turn", "diverges at step", "the durable fields were committed"),
    Edit("a message needs one field more", "    text: str\n", "    text: str\n    author: str\n", "message", "undecodable at $", "author"),
    Edit("the field of a message is renamed", "order_id: str\n    total", "number: str\n    total", "schema", "undecodable at $.number", "field-required"),
    Edit("a bound is tightened", "    total: int\n", "    total: __import__('typing').Annotated[int, msgspec.Meta(ge=10)]\n", "schema", "undecodable at $.total", ""),
    Edit("a message has another kind", 'tag="place"', 'tag="order"', "schema", "no handler", "'place' any more"),
    Edit("a kind is not handled any more", NOTED, "", "message", "no handler", "any more"),
    Edit("a reply is another type", "    status: str\n\n", "    status: int\n\n", "schema", "undecodable at $.status", "the reply to 'place'"),
    Edit("a function has other arguments", "order_id: str) -> str:\n    await", "order_id: int) -> str:\n    await", "turn", "undecodable at $[0]", "the arguments of pick"),
    Edit("a process type is gone", PICK, "", "schema", "no handler", "'pick'"),
)  # fmt: skip

COMPATIBLE: Final = (
    Edit("nothing", "", ""),
    Edit("a docstring and comments", "        self.total = message", '        """Place it."""\n        # The total.\n        self.total = message'),
    Edit("a message has one field more, with a default", "    text: str\n", '    text: str\n    author: str = "nobody"\n'),
    Edit("a durable field more", '    status: str = "new"', '    status: str = "new"\n    paid: bool = False'),
    Edit("a step behind the record", "            await self.step(ship,", "            await self.step(label, shelf)\n            await self.step(ship,"),
    Edit("a local variable is renamed", "shelf", "place_in_store"),
    Edit("a part of the code is a method", '        self.tag(f"customer:{charge.id}")', "        await self.claim(charge)"),
    Edit("a wider field of a message", "    total: int\n", "    total: int | None\n"),
    Edit("a wider durable field", '    status: str = "new"', '    status: str | None = "new"'),
    Edit("one member more", '    LARGE = "large"', '    LARGE = "large"\n    HUGE = "huge"'),
    Edit("one kind more", NOTED, NOTED + "    @perdure.on(Approve)\n    async def late(self, message: Approve) -> None:\n        pass\n\n\n"),
    Edit("one type more", PICK, PICK + "\n\n@app.process\nasync def pack(p: perdure.Process) -> None:\n    pass\n"),
    Edit("a step before, patched", STEP, '        if self.patched("label first"):\n            await self.step(label, message.order_id)\n' + STEP),
    Edit("the function of a step does other things", 'marks.ran.append("reserve")', "raise RuntimeError(order_id)"),
    Edit("a query", NOTED, NOTED.rstrip() + "\n\n    @perdure.query\n    def count(self) -> int:\n        return len(self.notes)\n\n\n"),
    Edit("lines of a log", "        self.total = message", '        self.log.info("%s", message)\n        self.total = message'),
    Edit("what does not depend on another is in another order", "        self.total = message.total\n" + STEP, STEP + "        self.total = message.total\n"),
    Edit("a step is tried again", "message.order_id, message.total)", "message.order_id, message.total, retry=perdure.Retry(max_attempts=5))"),
    Edit("a reply and an output have more fields", "    status: str\n\n", '    status: str\n    carrier: str = ""\n\n'),
    Edit("it waits longer, and for more", "self.receive(Approve, timeout=timedelta(days=3))", "self.receive(Approve, Note, timeout=timedelta(days=9))"),
    Edit("the field of a message is renamed, with an upcaster", "    text: str\n", "    body: str\n"),
    Edit("durable fields are renamed, with an upcaster", "total: int = 0", "cents: int = 0"),
    Edit("the output of a step is another type, with an upcaster", "    id: str\n    amount: int\n", "    id: str\n    cents: int\n"),
)  # fmt: skip

METHOD: Final = """
    async def claim(self, charge: Charge) -> None:
        self.tag(f"customer:{charge.id}")

"""
OLD_NOTE: Final = """

class OldNote(msgspec.Struct, tag="note"):
    text: str


app.upcast(OldNote, Note)(lambda old: {"type": "note", "body": old["text"]})
"""
OLD_ORDER: Final = """

class OldOrder(msgspec.Struct):
    status: str = "new"
    total: int = 0
    notes: list[str] = []


app.upcast(OldOrder, Order)(lambda old: {"status": old["status"], "cents": old["total"], "notes": old["notes"]})
"""
OLD_CHARGE: Final = """

class OldCharge(msgspec.Struct):
    id: str
    amount: int


@app.upcast(OldCharge, Charge)
def in_cents(old):
    return {"id": old["id"], "cents": 100 * old["amount"]}
"""


def edited(edit: Edit) -> str:
    """Return the code after an edit, and after what belongs to it elsewhere."""
    assert edit.old in FLOWS, edit.name
    code = FLOWS.replace(edit.old, edit.new) if edit.old else FLOWS
    match edit.name:
        case "it waits for nothing":
            code = code.replace("import enum\n", "import asyncio\nimport enum\n").replace("perdure_forever()", "asyncio.Event().wait()")
        case "a durable field is renamed":
            code = code.replace("    total: int = 0", "    cents: int = 0")
        case "the field of a message is renamed":
            code = code.replace("message.order_id", "message.number")
        case "a part of the code is a method":
            code = code.replace("    @perdure.on(Note)\n", METHOD.lstrip("\n") + "    @perdure.on(Note)\n")
        case "an enum loses a member" | "one kind more":
            pass
        case "the field of a message is renamed, with an upcaster":
            code = code.replace("message.text", "message.body") + OLD_NOTE
        case "durable fields are renamed, with an upcaster":
            code = code.replace("self.total", "self.cents") + OLD_ORDER
        case "the output of a step is another type, with an upcaster":
            code += OLD_CHARGE
    return code


MARKS: Final = """
import os


class Ran:
    def append(self, what):
        with open(os.environ["RAN"], "a") as file:
            file.write(what)


ran = Ran()
"""
APART: Final = {
    "requirements.lock": "# nothing\n",
    "tests/__init__.py": "",
    "tests/deploying/__init__.py": "",
    "tests/deploying/marks.py": MARKS,
}
"""What belongs to the shop in an interpreter of its own: its marks are in the file that `RAN` names."""


def archive_of(flows: str, *, name: str = "shop", apart: bool = False) -> bytes:
    """Return the archive of a package with this code; `apart`: with an interpreter of its own."""
    files = {"shop/__init__.py": b"", "shop/flows.py": flows.encode()}
    files |= {path: text.encode() for path, text in APART.items()} if apart else {}
    code = PackageCode(name=name, content_hash=hashlib.sha256(flows.encode()).hexdigest(), files=files, top_levels=top_level_names(files))
    loaded = load(code)
    try:
        loaded.module("shop.flows")
        defined = defined_by(apps_in(loaded.modules()))
    finally:
        unload(loaded)
    isolation: Isolation = "process" if apart else "shared"
    described = describe(files, name=name, python=">=3.11", processes=defined.processes, schemas=defined.schemas, isolation=isolation)
    return pack(described, files)
