"""How often a failing step is tried again, and when."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.errors import UsageError


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A policy. Waiting between attempts is durable: it survives a restart.

    Args:
        max_attempts: how often the step runs at most, the first time included.
        initial: seconds before the second attempt.
        factor: by which each wait is longer than the one before.
        maximum: seconds, the longest wait.
        jitter: 0..1, how much of each wait is random.
        retry_on: only these exceptions are tried again.
        give_up_on: these are not.

    Source: engine.md, "Verbs of a turn".
    """

    max_attempts: int = 3
    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 60.0
    jitter: float = 0.1
    retry_on: tuple[type[Exception], ...] = (Exception,)
    give_up_on: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be meant."""
        if not 1 <= self.max_attempts <= limits.RETRY_ATTEMPTS_MAX:
            raise UsageError(f"Retry: max_attempts is 1 to {limits.RETRY_ATTEMPTS_MAX}, found {self.max_attempts}")
        numbers = (self.initial, self.factor, self.maximum, self.jitter)
        if not all(isinstance(one, int | float) for one in numbers):
            raise UsageError(f"Retry: initial and maximum are seconds, factor and jitter numbers, found {self}")
        waits = 0 <= self.initial <= limits.SECONDS_MAX and 0 <= self.maximum <= limits.SECONDS_MAX
        if not (waits and 1 <= self.factor < math.inf and 0 <= self.jitter <= 1):  # in this form, NaN is refused
            raise UsageError(
                f"Retry: initial and maximum are 0 to {limits.SECONDS_MAX:,} seconds, factor 1 or more, jitter 0 to 1, found {self}"
            )

    def allows(self, error: BaseException, attempt: int) -> bool:
        """Return whether attempt number `attempt`, which failed with `error`, is followed by another."""
        return attempt < self.max_attempts and isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)

    def delay(self, attempt: int, random: Callable[[], float]) -> Micros:
        """Return the microseconds to wait after attempt number `attempt`. `random` gives 0..1."""
        try:
            wait = min(self.maximum, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            wait = self.maximum
        return round(wait * (1 - self.jitter * random()) * SECOND)
