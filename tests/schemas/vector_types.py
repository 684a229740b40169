"""The types of the published vectors."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import msgspec

from perdure.schemas.grammar import WIDTHS


def wire(name: str) -> msgspec.Meta:
    least, greatest = WIDTHS[name]
    return msgspec.Meta(extra={"wire": name}, ge=least, le=greatest)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Perm(enum.Flag):
    R = 1
    W = 2


class Point(msgspec.Struct, frozen=True):
    x: Annotated[int, wire("i32")]
    y: Annotated[int, wire("i32")]


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int


class Approve(msgspec.Struct, tag="approve"):
    by: str


class Reject(msgspec.Struct, tag="reject"):
    reason: str = ""


class Config(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    max_attempts: int = 5
    ratio: float = 0.5
    labels: dict[str, str] = {}
    parent_id: str | None = None
    token: bytes = b"\xde\xad"
    color: Color = Color.RED
    since: dt.datetime = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)  # noqa: UP017  # as published
    price: decimal.Decimal = decimal.Decimal("1.10")
    origin: Point = Point(x=0, y=-1)
    made: uuid.UUID = msgspec.field(default_factory=uuid.uuid4)
    note: str | msgspec.UnsetType = msgspec.UNSET
    big: int = 2**64


class Row(msgspec.Struct, array_like=True, tag=3):
    id: int
    when: dt.date
    rest: tuple[int, str] = (0, "")


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1
    tags: tuple[str, ...] = ()


class Coordinates(NamedTuple):
    lat: float
    lon: float = 0.0


class Partial(TypedDict, total=False):
    id: typing.Required[int]
    name: str


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: str | None = None


class Tree(msgspec.Struct):
    label: str
    children: list[Tree] = []


class LinkedA(msgspec.Struct, tag="a"):
    b: LinkedB | None = None


class LinkedB(msgspec.Struct, tag="b"):
    c: LinkedC


class LinkedC(msgspec.Struct, tag="c"):
    back: LinkedA | LinkedB | None = None
    x: int = 0


class Holder(msgspec.Struct):
    a: LinkedA
    tree: Tree


class GTree(msgspec.Struct, Generic[T]):
    value: T
    kids: list[GTree[T]] = []


UserId = NewType("UserId", str)
Age = Annotated[int, msgspec.Meta(ge=0, le=150, description="years")]


class Person(msgspec.Struct):
    id: UserId
    age: Age
    name: Annotated[str, msgspec.Meta(min_length=1, pattern="^[A-Z]")]
    state: Literal["on", "off", None] = None  # noqa: PYI061  # as published


TYPES: dict[str, Any] = {
    "None": None,
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "Any": Any,
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "u32": Annotated[int, wire("u32")],
    "list[int]": list[int],
    "set[str]": set[str],
    "tuple[int, ...]": tuple[int, ...],
    "tuple[int, str]": tuple[int, str],
    "dict[str, int]": dict[str, int],
    "Optional[int]": Optional[int],  # noqa: UP045  # as published
    "Union[str, int]": Union[str, int],  # noqa: UP007  # as published
    "Annotated[int, ge=0, le=150]": Age,
    "NewType UserId": UserId,
    "Color": Color,
    "Level": Level,
    "Point": Point,
    "Place": Place,
    "Approve | Reject": Approve | Reject,
    "Config": Config,
    "Row": Row,
    "Line": Line,
    "Page[int]": Page[int],
    "Page[Point]": Page[Point],
    "Tree": Tree,
    "LinkedA": LinkedA,
    "LinkedB": LinkedB,
    "LinkedC": LinkedC,
    "LinkedA | LinkedB": LinkedA | LinkedB,
    "Approve": Approve,
    "Reject": Reject,
}
"""Every type of `vectors.txt`, by its name there."""
