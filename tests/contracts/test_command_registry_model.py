"""Contract 2 against a model: random histories, with a clock that the test moves and restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandError, CommandOutcome, CommandRetry, Failed, Renewal, Stopped, Succeeded
from perdure.commands.states import TERMINAL, CommandState, can_transition
from perdure.errors import CommandNotFound, IdempotencyConflict, IllegalTransition, PerdureError, StaleLease
from perdure.store import Store, open_store
from tests.contracts.commands import CANCELLED, DISPATCHED, EXPIRED, FAILED, HOPELESS, OOPS, PENDING, PENDING_UPLOAD, SUCCEEDED, check
from tests.stores import store_url

T = TypeVar("T")
RETRY = CommandRetry(max_attempts=2, initial=1.0, jitter=0.0, give_up_on=("never",))
NEVER = Failed(code="never", retryable=True)
OUTCOMES: list[CommandOutcome] = [Succeeded(result=b"1"), Succeeded(result=b"2"), OOPS, OOPS, HOPELESS, NEVER, Stopped()]
TARGETS = [None, "arm"]
NAMES = ["pick", "pack"]
TOKENS = st.sampled_from(["last", "last", "last", "stale", "wrong"])
PICKS = st.integers(0, 99)


class Known(msgspec.Struct):
    """What the model knows of one command; `place` is the order of creation, `ready` that its time has been noticed."""

    command_id: str
    name: str
    target: str | None
    priority: int
    place: int
    available_at: int
    deadline: int | None
    state: CommandState
    params: bytes | None
    ready: bool = False
    attempt: int = 1
    failures: int = 0
    tokens: list[int] = []
    held: bool = False
    lease: int | None = None
    said_by: int = 0
    cancel: bool = False
    error: str | None = None
    result: bytes | None = None
    dead: bool = False
    redriven: str | None = None

    @property
    def over(self) -> bool:
        return self.state in TERMINAL

    def has(self, token: int) -> bool:
        return self.held and self.tokens[-1] == token

    def wait(self, at: int, now: int) -> None:
        self.state, self.held, self.lease, self.available_at, self.ready = PENDING, False, None, at, at <= now

    def end(self, state: CommandState, error: str | None) -> None:
        self.state, self.held, self.lease, self.ready = state, False, None, False
        self.error = error

    def fail(self, code: str, at: int, now: int, *, retryable: bool = True) -> None:
        self.failures += 1
        if retryable and self.failures < RETRY.max_attempts and code not in RETRY.give_up_on:
            self.wait(at, now)
            self.attempt, self.error = self.attempt + 1, code
        else:
            self.end(FAILED, code)
            self.dead = retryable

    def settle(self, now: int) -> bool:
        """Do what is due; return whether anything was."""
        if self.over:
            return False
        if self.deadline is not None and now >= self.deadline:
            self.end(EXPIRED, "command-expired")
        elif self.lease is not None and now >= self.lease:
            if self.cancel:
                self.end(CANCELLED, "command-cancelled")
            else:
                self.fail("lease-expired", now, now)
        elif self.state == PENDING and not self.ready and now >= self.available_at:
            self.ready = True
        else:
            return False
        return True


class CommandMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model, and compares what they answer."""

    url = "sqlite:///:memory:"
    reopens = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = VirtualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.known: list[Known] = []
        self.keys: dict[tuple[str, str | None, str], tuple[bytes | None, str]] = {}
        self.last_token = 0
        self.store: Store

    def run(self, step: Awaitable[T]) -> T | type[PerdureError]:
        async def attempt() -> T | type[PerdureError]:
            try:
                return await step
            except PerdureError as error:
                return type(error)

        return self.runner.run(attempt())

    async def _open(self) -> None:
        self.store = await open_store(self.url.format(Path(self.folder.name) / "store.db"), clock=self.clock)
        self.commands = self.store.commands

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @property
    def now(self) -> int:
        return self.clock.now()

    def one(self, pick: int) -> Known | None:
        return self.known[pick % len(self.known)] if self.known else None

    def token(self, known: Known, which: str) -> int:
        tokens = known.tokens or [1]
        return {"last": tokens[-1], "stale": tokens[0], "wrong": 7}[which]

    # --- rules -------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        whom=st.sampled_from(TARGETS),
        priority=st.sampled_from([0, 0, 1]),
        delay=st.sampled_from([0, 0, SECOND, 2 * SECOND]),
        deadline=st.sampled_from([None, None, SECOND, 4 * SECOND]),
        params=st.sampled_from([b"1", b"2", None]),
        key=st.sampled_from([None, None, "k"]),
    )
    def create(
        self, name: str, whom: str | None, priority: int, delay: int, deadline: int | None, params: bytes | None, key: str | None
    ) -> None:
        state = PENDING_UPLOAD if params is None else PENDING
        until = None if deadline is None else self.now + deadline
        made: Any = self.run(
            self.commands.create_command(
                "site", name, state, until, target=whom, params=params, idempotency_key=key, retry=RETRY, priority=priority, delay=delay
            )
        )
        before = self.keys.get((name, whom, key)) if key else None
        if before is not None:
            assert made is IdempotencyConflict if before[0] != params else made.command_id == before[1]
            return
        assert made.duplicate is False
        if key:
            self.keys[name, whom, key] = params, made.command_id
        ready, place = state == PENDING and not delay, len(self.known)
        self.known.append(Known(made.command_id, name, whom, priority, place, self.now + delay, until, state, params, ready, tokens=[]))

    @rule(pick=PICKS, params=st.sampled_from([b"1", b"2"]))
    def set_params(self, pick: int, params: bytes) -> None:
        if known := self.one(pick):
            found = self.run(self.commands.set_params(known.command_id, params))
            if known.state == PENDING_UPLOAD:
                assert found is None
                known.params = params
                known.wait(max(known.available_at, self.now), self.now)
            else:
                assert found is (None if known.params == params else IllegalTransition)

    @rule(
        whom=st.sampled_from(TARGETS),
        names=st.sampled_from([None, None, NAMES, NAMES[:1]]),
        most=st.sampled_from([1, 2, 5]),
        lease_for=st.sampled_from([SECOND, 2 * SECOND]),
    )
    def lease(self, whom: str | None, names: list[str] | None, most: int, lease_for: int) -> None:
        found: Any = self.run(self.commands.lease("site", target=whom, names=names, max_leases=most, lease_for=lease_for, worker="w"))

        queue = [known for known in self.known if known.target == whom]
        for known in queue:
            known.settle(self.now)
        waiting = [known for known in queue if known.ready and (names is None or known.name in names)]
        waiting.sort(key=lambda known: (known.priority, known.available_at, known.place))
        assert [one.command_id for one in found] == [known.command_id for known in waiting[:most]]
        for one, known in zip(found, waiting, strict=False):
            assert one.token > self.last_token, "tokens grow"
            self.last_token = one.token
            assert (one.attempt, one.params, one.command) == (known.attempt, known.params, known.name)
            known.tokens.append(one.token)
            known.state, known.ready, known.held, known.lease = DISPATCHED, False, True, self.now + lease_for

    @rule(pick=PICKS, which=TOKENS, lease_for=st.sampled_from([SECOND, 2 * SECOND]))
    def renew(self, pick: int, which: str, lease_for: int) -> None:
        if known := self.one(pick):
            token = self.token(known, which)
            found = self.run(self.commands.renew(known.command_id, token, lease_for=lease_for))
            if known.has(token) and (known.deadline is None or self.now < known.deadline):
                known.lease = self.now + lease_for
                assert found == Renewal(lease_expires_at=known.lease, deadline=known.deadline, cancel_requested=known.cancel)
            else:
                assert found is StaleLease

    @rule(pick=PICKS, which=TOKENS, delay=st.sampled_from([0, SECOND]))
    def release(self, pick: int, which: str, delay: int) -> None:
        if known := self.one(pick):
            token = self.token(known, which)
            found = self.run(self.commands.release(known.command_id, token, delay=delay))
            if not known.has(token):
                assert found is StaleLease
                return
            assert found is None
            if known.cancel:
                known.end(CANCELLED, "command-cancelled")
            else:
                known.wait(self.now + delay, self.now)
                known.attempt += 1

    @rule(pick=PICKS, which=TOKENS, outcome=st.sampled_from(OUTCOMES))
    def complete(self, pick: int, which: str, outcome: CommandOutcome) -> None:
        if known := self.one(pick):
            token = self.token(known, which)
            found = self.run(self.commands.complete(known.command_id, token, outcome))
            assert found is self.completed(known, token, outcome)

    def completed(self, known: Known, token: int, outcome: CommandOutcome) -> bool | type[PerdureError]:
        if not known.held and known.said_by == token == (known.tokens or [0])[-1]:
            return self.said_before(known, outcome)
        if known.over:
            return False
        if not known.has(token):
            return StaleLease
        if known.deadline is not None and self.now >= known.deadline:
            known.end(EXPIRED, "command-expired")
            return False
        if isinstance(outcome, Stopped) and not known.cancel:
            return IllegalTransition
        known.said_by = token
        if isinstance(outcome, Succeeded):
            known.end(SUCCEEDED, None)
            assert isinstance(outcome.result, bytes)
            known.result = outcome.result
        elif isinstance(outcome, Stopped) or (outcome.retryable and known.cancel):
            known.end(CANCELLED, "command-cancelled")
        else:
            known.fail(outcome.code, self.now + SECOND, self.now, retryable=outcome.retryable)
        return True

    def said_before(self, known: Known, outcome: CommandOutcome) -> bool:
        if isinstance(outcome, Succeeded):
            return known.state == SUCCEEDED and known.result == outcome.result
        if isinstance(outcome, Stopped):
            return known.state == CANCELLED
        return known.error == outcome.code or (outcome.retryable and known.state == CANCELLED)

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        if known := self.one(pick):
            found = self.run(self.commands.cancel(known.command_id))
            if not known.over:
                known.cancel = True
                if not known.held:
                    known.end(CANCELLED, "command-cancelled")
            assert found is known.state

    @rule(pick=PICKS, state=st.sampled_from(CommandState))
    def set_state(self, pick: int, state: CommandState) -> None:
        if known := self.one(pick):
            found = self.run(self.commands.update_command_state(known.command_id, state))
            assert found is (None if can_transition(known.state, state) else IllegalTransition)
            if found is not None or state == known.state:
                return
            if state in TERMINAL:
                known.end(state, known.error)
            elif state == PENDING:
                known.wait(max(known.available_at, self.now), self.now)
            else:
                known.state, known.ready = state, False

    @rule(pick=PICKS)
    def raise_attempt(self, pick: int) -> None:
        if known := self.one(pick):
            known.attempt += 0 if known.over else 1
            expected = IllegalTransition if known.over else known.attempt
            assert self.run(self.commands.increment_attempt(known.command_id)) == expected

    @rule(pick=PICKS)
    def redrive(self, pick: int) -> None:
        if known := self.one(pick):
            found = self.run(self.commands.redrive(known.command_id))
            if known.redriven is None and known.over and known.state != SUCCEEDED:
                assert isinstance(found, str)
                known.redriven = found
                place = len(self.known)
                new = Known(found, known.name, known.target, known.priority, place, self.now, None, PENDING, known.params, True, tokens=[])
                self.known.append(new)
            else:
                assert found == (known.redriven or IllegalTransition)

    @rule()
    def nobodys(self) -> None:
        assert self.run(self.commands.cancel("cmd_none")) is CommandNotFound

    @rule(ahead=st.sampled_from([-1, 0, SECOND]))
    def expire(self, ahead: int) -> None:
        now = self.now + min(ahead, 0)
        due = [known for known in self.known if not known.over and self.due(known) <= now]

        assert self.run(self.commands.expire_due(self.now + ahead)) == len(due)
        for known in due:
            assert known.settle(self.now)

    def due(self, known: Known) -> float:
        waits = known.state == PENDING and not known.ready
        times = [known.deadline, known.lease, known.available_at if waits else None]
        return min((at for at in times if at is not None), default=float("inf"))

    @rule(duration=st.sampled_from([1, SECOND - 1, SECOND, 2 * SECOND]))
    def wait(self, duration: int) -> None:
        self.clock.advance(duration)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self._open())

    # --- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def every_command_is_the_models(self) -> None:
        for known in self.known:
            found: Any = self.run(self.commands.get_command_status(known.command_id))
            error = None if found.error is None else msgspec.json.decode(found.error, type=CommandError).code
            assert (found.state, found.attempt, found.failures) == (known.state, known.attempt, known.failures)
            assert (found.lease_expires_at, found.available_at) == (known.lease, known.available_at)
            assert (error, found.dead, found.redriven_as) == (known.error, known.dead, known.redriven)
            assert (found.cancel_requested, found.completed_at is not None) == (known.cancel, known.over)
            assert self.run(self.commands.get_result(known.command_id)) == known.result

    @invariant()
    def what_follows_from_the_commands_is_there(self) -> None:
        self.runner.run(check(self.store))


class FileMachine(CommandMachine):
    """The same on a file, with restarts."""

    url = "sqlite:///{}"
    reopens = True


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
TestInMemory = CommandMachine.TestCase
TestInMemory.settings = settings(max_examples=40, stateful_step_count=40, **COMMON)
TestInFile = FileMachine.TestCase
TestInFile.settings = settings(max_examples=8, stateful_step_count=40, **COMMON)


def test_on_a_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    class ServerMachine(CommandMachine):
        """The same on a server, each history in a database of its own."""

        reopens = True

        @initialize()
        def open(self) -> None:
            self.url = store_url(request, "postgres", tmp_path)
            super().open()

    run_state_machine_as_test(ServerMachine, settings=settings(max_examples=3, stateful_step_count=25, **COMMON))
