"""What a scalar type allows, and whether another type allows as much."""

from __future__ import annotations

import functools
import math
import operator
import re
import struct
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.schemas.canonical import Json
from perdure.schemas.grammar import WIDTHS, literal_kind
from perdure.schemas.values import plain

_PYTHON: Final[dict[str, tuple[type, ...]]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}

Bound = tuple[float, int]
"""A bound that sorts by what it allows: the number, and 1 for `more than`, -1 for `less than`, 0 when the number itself is in."""


class Lengths(msgspec.Struct, frozen=True):
    """How many characters, bytes or items there may be."""

    least: int = 0
    most: float = math.inf

    def tighter_than(self, other: Lengths) -> list[str]:
        """Return the constraints of mine that `other` does not keep."""
        return ["min_length"] * (self.least > other.least) + ["max_length"] * (self.most < other.most)


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one kind that a type allows.

    Attributes:
        kind: the scalar without its width: `int`, `float`, `str`, `bool`, `none`, `bytes`, `datetime` …
        values: all of them, when the type lists them.
        mask: the bits that a combination of flags may have.
        single: whether floats have 32 bits.
    """

    kind: str
    values: tuple[Any, ...] | None = None
    mask: int | None = None
    least: Bound = (-math.inf, 0)
    greatest: Bound = (math.inf, 0)
    lengths: Lengths = Lengths()
    multiple_of: float | None = None
    pattern: str | None = None
    tz: bool | None = None
    single: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether the type lists its values or bits."""
        return self.values is not None or self.mask is not None

    def accepts(self, value: Any) -> bool:
        """Tell whether a value in its encoded form is one of these. What has a text form only is left to the conversion."""
        if self.kind == "none" or self.kind not in _PYTHON:
            return (value is None) == (self.kind == "none")
        of_kind = isinstance(value, _PYTHON[self.kind]) and isinstance(value, bool) == (self.kind == "bool")
        if not of_kind:
            return False
        if self.values is not None:
            return value in self.values
        if self.mask is not None:
            return bool(value >= 0 and value & ~self.mask == 0)
        return self._fits_text(value) if isinstance(value, str) else self._fits_number(value)

    def refusal(self, other: Scalar) -> str | None:
        """Return why not every value of `other`, which is of the same kind, is accepted; None when each is."""
        values = other.listed()
        if values is not None:
            refused = [value for value in values if not self.accepts(value)]
            return f"{refused[0]!r:.40} is not allowed" if refused else None
        if other.mask is not None and self.mask is not None:
            return f"flags {other.mask & ~self.mask} are not allowed" if other.mask & ~self.mask else None
        if self.is_listed:
            return "only some values are allowed"
        tighter = self._tighter_than(other)
        return f"{', '.join(tighter)} is tighter" if tighter else None

    def listed(self) -> tuple[Any, ...] | None:
        """Return every value, if those are few; else None."""
        if self.values is not None or self.kind != "int":
            return self.values
        least, greatest = (0.0, self.mask) if self.mask is not None else (self.least[0], self.greatest[0])
        if not greatest - least < limits.PLAN_VALUES_MAX:
            return None
        return tuple(filter(self.accepts, range(int(least), int(greatest) + 1)))

    def _fits_number(self, value: float) -> bool:
        # Written with `not`, because what is no number is neither below nor above a bound.
        inside = not ((value, 0) < self.least or (value, 0) > self.greatest)
        # What it takes for a float to be a multiple is for the conversion to say.
        multiple = self.multiple_of is None or self.kind == "float" or value % self.multiple_of == 0
        return inside and multiple and not (self.single and not _is_single(value))

    def _fits_text(self, value: str) -> bool:
        inside = self.lengths.least <= len(value) <= self.lengths.most
        return inside and (self.pattern is None or re.search(self.pattern, value) is not None)

    def _tighter_than(self, other: Scalar) -> list[str]:
        least, greatest = (other.least, other.greatest) if other.mask is None else ((0, 0), (other.mask, 0))
        return [
            *["lower bound"] * (self.least > least),
            *["upper bound"] * (self.greatest < greatest),
            *["multiple_of"] * (not self._keeps_multiple_of(other)),
            *self.lengths.tighter_than(other.lengths),
            *["pattern"] * (self.pattern not in {None, other.pattern}),
            *["tz"] * (self.tz not in {None, other.tz}),
            *["f32"] * (self.single and not other.single),
        ]

    def _keeps_multiple_of(self, other: Scalar) -> bool:
        if self.multiple_of is None or other.multiple_of is None:
            return self.multiple_of is None
        return self.multiple_of == other.multiple_of or (self.kind == "int" and other.multiple_of % self.multiple_of == 0)


def scalar_of(word: str, where: dict[str, Json]) -> Scalar:
    """Return the scalar that `{"of": word, "where": where}` stands for."""
    bounds = {name: plain(bound) for name, bound in where.items()}
    least, greatest = WIDTHS.get(word, (-math.inf, math.inf))
    kind = "int" if word in WIDTHS else {"f32": "float", "char": "str"}.get(word, word)
    above, below = bounds.get("gt", -math.inf), bounds.get("lt", math.inf)
    # There is an integer next to each, so `gt` and `ge` of integers are one.
    is_int = kind == "int"
    return Scalar(
        kind=kind,
        values=(False, True) if word == "bool" else None,
        least=max((least, 0), (bounds.get("ge", -math.inf), 0), (above + 1, 0) if is_int else (above, 1)),
        greatest=min((greatest, 0), (bounds.get("le", math.inf), 0), (below - 1, 0) if is_int else (below, -1)),
        lengths=lengths_of({"min_length": 1, "max_length": 1} if word == "char" else bounds),
        multiple_of=bounds.get("multiple_of"),
        pattern=bounds.get("pattern"),
        tz=bounds.get("tz"),
        single=word == "f32",
    )


def listed_scalar(values: list[Json], *, flags: bool = False) -> Scalar:
    """Return the scalar that a literal or an enum of these values stands for."""
    listed = tuple(plain(value) for value in values)
    if flags:
        return Scalar(kind="int", mask=functools.reduce(operator.or_, listed))
    return Scalar(kind=literal_kind(values[0]), values=listed)


def lengths_of(where: dict[str, Json]) -> Lengths:
    """Return the lengths that these constraints allow."""
    return Lengths(where.get("min_length", 0), where.get("max_length", math.inf))


def _is_single(value: float) -> bool:
    try:
        return math.isnan(value) or struct.unpack("<f", struct.pack("<f", value))[0] == value
    except OverflowError:
        return False
