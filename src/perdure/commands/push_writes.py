"""Pure decisions about pushing: endpoints, what is given out to be sent, and what became of that.

Source: commands.md, "Push".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.commands.contract import CommandError
from perdure.commands.queueing import PUSH_TOPIC, Apart, Ended, noted, present, replace, save, settle
from perdure.commands.states import CommandState
from perdure.commands.tables import COMMAND, PUSH_QUEUE, CommandRow, PushEndpointRow, ReadyRow
from perdure.commands.writes import Complete, Ending, Leased, give_out
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.errors import PushEndpointNotFound
from perdure.sending.breaker import Breaker
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Refused

DELIVERY_FAILED: Final = "delivery-failed"
PUSHER: Final = "push"


def breaker_of(row: PushEndpointRow) -> Breaker:
    """Return the breaker of an endpoint."""
    return Breaker(failures=row.failures, openings=row.openings, open_until=row.open_until, probe_until=row.probe_until)


def _with_breaker(row: PushEndpointRow, breaker: Breaker) -> PushEndpointRow:
    return replace(
        row, failures=breaker.failures, openings=breaker.openings, open_until=breaker.open_until, probe_until=breaker.probe_until
    )


class _OnEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    key: Key[PushEndpointRow]

    def reads(self) -> Iterable[Read]:
        """Name the endpoint."""
        yield self.key

    def present(self, view: View) -> PushEndpointRow:
        """Return its row. Raises PushEndpointNotFound."""
        row = view.get(self.key)
        if row is None:
            _, deployment_id, target = self.key.parts
            where = f"{deployment_id!s}, target {target!s}" if target else f"{deployment_id!s}, without a target"
            raise PushEndpointNotFound(f"no endpoint for deployment {where}; `perdure push list` shows them")
        return row


class PutEndpoint(_OnEndpoint, frozen=True, kw_only=True):
    """Set an endpoint. `made` is a secret for one that has none; `secrets` are given ones, or empty."""

    url: str
    secrets: str
    made: str
    timeout: Micros
    result_within: Micros
    enabled: bool | None

    def __repr__(self) -> str:  # the generated one would show the secrets
        return f"PutEndpoint({self.key.parts})"

    def decide(self, view: View) -> bool:
        """Return whether the secret that was made is the endpoint's now."""
        view.signal(PUSH_TOPIC)
        before = view.get(self.key)
        kept = 1 if before is None else before.enabled
        row = PushEndpointRow(
            url=self.url,
            secrets=self.secrets or (self.made if before is None else before.secrets),
            timeout=self.timeout,
            result_within=self.result_within,
            enabled=kept if self.enabled is None else int(self.enabled),
            created_at=view.now if before is None else before.created_at,
            updated_at=view.now,
        )
        if before is None:
            view.insert(self.key, row)
        else:
            view.update(self.key, row)
        return before is None and not self.secrets


class AddSecret(_OnEndpoint, frozen=True, kw_only=True):
    """Let a new secret sign beside the newest one."""

    made: str

    def __repr__(self) -> str:  # as above
        return f"AddSecret({self.key.parts})"

    def decide(self, view: View) -> None:
        """Put it first."""
        row = self.present(view)
        view.update(self.key, replace(row, secrets=f"{self.made} {row.secrets.split()[0]}", updated_at=view.now))


class Enable(_OnEndpoint, frozen=True, kw_only=True):
    """Let an endpoint be sent to, or not."""

    enabled: bool

    def decide(self, view: View) -> bool:
        """Return whether that is new."""
        row = self.present(view)
        view.signal(PUSH_TOPIC)
        view.update(self.key, _with_breaker(replace(row, enabled=int(self.enabled), updated_at=view.now), Breaker()))
        return bool(row.enabled) != self.enabled


class RemoveEndpoint(_OnEndpoint, frozen=True, kw_only=True):
    """Remove an endpoint."""

    def decide(self, view: View) -> bool:
        """Return whether there was one."""
        if view.get(self.key) is None:
            return False
        view.delete(self.key)
        return True


# --- sending ----------------------------------------------------------------------------------------------


class Taken(msgspec.Struct, frozen=True):
    """What was given out to be sent, and to which endpoint."""

    endpoint: PushEndpointRow
    commands: list[Leased]


class TakePushed(_OnEndpoint, frozen=True, kw_only=True):
    """Give out the first commands of an endpoint's queue, so that nobody sends them a second time; one alone as a probe."""

    most: int
    ended: Ended
    hints: tuple[str, ...] = ()

    def reads(self) -> Iterable[Read]:
        """Name the endpoint, the head of its queue, and what was seen there."""
        yield self.key
        yield self._head(self.most)
        for command_id in self.hints:
            yield COMMAND.key(self.key.parts[0], command_id)

    def _head(self, most: int) -> Scan[ReadyRow]:
        return Scan(PUSH_QUEUE, self.key.parts, most)

    def decide(self, view: View) -> Taken | None:
        """Return what was given out; None when nothing is sent to this endpoint now."""
        row = view.get(self.key)
        if row is None or not row.enabled:
            return None
        breaker, allowed = breaker_of(row).asked(view.now)
        if not allowed:
            return None
        taken: list[Leased] = []
        for ready, _ in view.scan(self._head(1 if breaker.open_until is not None else self.most)):
            command = COMMAND.key(ready.parts[0], ready.parts[6])
            found = present(view, command)
            after = settle(view, command, found, ended=self.ended)
            if after is not None:  # its deadline has passed, and nobody has looked since
                save(view, command, found, after)
            else:
                taken.append(Leased(str(command.parts[1]), give_out(view, command, lease_for=row.result_within, worker=PUSHER)))
        if taken and breaker != breaker_of(row):
            view.update(self.key, _with_breaker(row, breaker))
        return Taken(row, taken)


class Tell(_OnEndpoint, frozen=True, kw_only=True):
    """Note what became of a command that was sent to an endpoint at `url`.

    `ending` is how it ended, if the answer said so. Without one, what was accepted and what may have been keeps its lease, and
    what was refused is a failed attempt.
    """

    command: Key[CommandRow]
    url: str
    token: int
    outcome: Outcome
    ending: Ending | None
    ended: Ended
    apart: Apart

    def reads(self) -> Iterable[Read]:
        """Name both."""
        yield self.key
        yield self.command

    def decide(self, view: View) -> bool:
        """Return whether it counts: not when the command is over, or somebody else has it."""
        self._count(view)
        row = view.get(self.command)
        if row is None or not row.holder or row.token != self.token:
            return False
        detail = _told(self.outcome)
        save(view, self.command, row, noted(view, self.command, row, self.outcome_kind, actor=PUSHER, detail=detail))
        ending, least = self.ending, 0
        if isinstance(self.outcome, Refused):
            ending = Ending(
                state=CommandState.FAILED,
                error=CommandError(code=DELIVERY_FAILED, message=detail),
                retryable=self.outcome.retryable,
            )
            least = self.outcome.retry_after or 0
        if ending is None:
            return True
        done = Complete(key=self.command, token=self.token, ending=ending, ended=self.ended, apart=self.apart, least=least)
        return done.decide(view)

    @property
    def outcome_kind(self) -> str:
        """The kind of what is noted in the command's history."""
        match self.outcome:
            case Accepted():
                return "sent"
            case Refused():
                return "send-refused"
            case Ambiguous():
                return "send-unknown"

    def _count(self, view: View) -> None:
        row = view.get(self.key)
        if row is None or row.url != self.url:  # what is at the new URL was not asked
            return
        breaker = breaker_of(row).after(self.outcome, view.now)
        if breaker != breaker_of(row):
            view.update(self.key, _with_breaker(row, breaker))


def _told(outcome: Outcome) -> str:
    return f"status {outcome.status}" if isinstance(outcome, Accepted) else outcome.detail[: limits.COMMAND_NOTE_MAX]
