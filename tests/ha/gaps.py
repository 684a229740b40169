"""The arithmetic of a failover: how long there was no service, seen from those who send."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Failover(NamedTuple):
    """One failover as it was measured; times in seconds, from the disaster on.

    `leader` is when another node was seen to lead, `gap` the longest time between two acknowledgements, `mended` when all
    three nodes were there again.
    """

    disaster: str
    old: str
    new: str
    leader: float
    gap: float
    mended: float
    accepted: int

    def line(self, number: int) -> str:
        """Return it for people."""
        return (
            f"failover {number}: {self.disaster:<10} {self.old} -> {self.new}  another leads after {self.leader:4.1f} s  "
            f"without service {self.gap:4.1f} s  all nodes back after {self.mended:4.1f} s  {self.accepted:,} webhooks acknowledged"
        )


def longest_gap(times: Sequence[float], since: float, until: float) -> float:
    """Return the longest time without an acknowledgement that overlaps `since` to `until`.

    Args:
        times: of the acknowledgements, in order.
        since: when it began; the gap may have begun with the last acknowledgement before.
        until: when it was over; so is a gap that lasts on.
    """
    first, end = bisect_right(times, since), bisect_left(times, until)
    inside = [times[first - 1] if first else since, *times[first:end], times[end] if end < len(times) else until]
    return max(later - earlier for earlier, later in pairwise(inside))
