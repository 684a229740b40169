"""A circuit breaker: a target that fails again and again is left alone for a while, and then asked once."""

from __future__ import annotations

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Refused

_OVERLOADED = frozenset({429, 503})


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one target's breaker; pure, and small enough for a row. A new one is closed.

    Closed, everything is sent. `limits.BREAKER_FAILURES` failures in a row open it until `open_until`; then one probe is let
    through: its success closes the breaker, its failure opens it for twice as long.

    Attributes:
        failures: in a row.
        openings: how often it was opened since it was last closed.
        open_until: nothing is sent before; None when it is closed.
        probe_until: one probe is under way until its outcome is told, or until then; None when there is none.
    """

    failures: int = 0
    openings: int = 0
    open_until: Micros | None = None
    probe_until: Micros | None = None

    def next_at(self, now: Micros) -> Micros:
        """Return when something may be sent: `now`, or the instant before which `asked` says no."""
        return max(now, self.open_until or now, self.probe_until or now)

    def asked(self, now: Micros) -> tuple[Breaker, bool]:
        """Return the breaker after somebody asked whether to send, and the answer. A yes is followed by an `after`."""
        if self.open_until is None:
            return self, True
        if self.next_at(now) > now:
            return self, False
        return msgspec.structs.replace(self, probe_until=now + limits.BREAKER_PROBE_US), True

    def after(self, outcome: Outcome, now: Micros) -> Breaker:
        """Return the breaker after an outcome.

        A target that answers works, also when it refuses a request. One that does not, answers with a status from 500 on, or says that it has
        too much to do, fails. A refusal of ours says nothing of it.
        """
        match outcome:
            case Accepted():
                return Breaker()
            case Refused(status=int(status)) if status not in _OVERLOADED:
                return Breaker()
            case Refused(reason="target"):
                return msgspec.structs.replace(self, probe_until=None)
            case Refused(retry_after=wait):
                return self._failed(now, wait or 0)
            case Ambiguous():
                return self._failed(now, 0)

    def _failed(self, now: Micros, wait: Micros) -> Breaker:
        if self.open_until is not None and now < self.open_until:
            # It was sent before the breaker opened: it says nothing new, but how long to wait.
            return msgspec.structs.replace(self, open_until=max(self.open_until, now + wait))
        failures = min(self.failures + 1, limits.BREAKER_FAILURES)
        if self.open_until is None and failures < limits.BREAKER_FAILURES and not wait:
            return msgspec.structs.replace(self, failures=failures)
        pause = limits.BREAKER_OPEN_US
        for _ in range(self.openings):
            pause = min(pause * 2, limits.BREAKER_OPEN_MAX_US)
        openings = self.openings + (pause < limits.BREAKER_OPEN_MAX_US)
        return Breaker(failures=failures, openings=openings, open_until=now + max(pause, wait))
