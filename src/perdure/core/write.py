"""A write: one pure decision. A transaction: writes that commit together or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from perdure.core.ownership import Lease
    from perdure.core.table import Read
    from perdure.core.view import View

R_co = TypeVar("R_co", covariant=True)


class Write(Protocol[R_co]):
    """One decision: pure, no I/O, no clock, no randomness, no state of its own; it may run many times before it counts."""

    def reads(self) -> Iterable[Read]:
        """Say what it will surely look at, so that it is loaded with the batch. A hint for speed: `decide` may look at more."""
        ...

    def decide(self, view: View) -> R_co:
        """Read and change the view; return the result, or raise RejectedError, which undoes this transaction alone."""
        ...


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """Writes that commit together or not at all.

    `size` is the payload in bytes, for the limits of a batch. With a `lease` they are refused with LeaseLost once it is not held
    any more.
    """

    writes: tuple[Write[Any], ...]
    size: int = 0
    lease: Lease | None = None
