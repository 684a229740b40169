"""Contract 3 against a model: random histories, with a clock that the test moves and restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.clock import VirtualClock
from perdure.errors import AlreadySealed, LeaseLost, OperationExpired, OperationNotFound, PerdureError, SchemaMissing
from perdure.operations.contract import (
    Attached,
    Conflict,
    Expired,
    Failed,
    Indeterminate,
    OperationId,
    OperationState,
    Policy,
    Replay,
    Resolution,
    Retry,
    Sealed,
    SealedResponse,
    Started,
    Verdict,
)
from perdure.operations.store import Operations
from perdure.schemas import SchemaRegistry, TypeRef, references, schema_of
from perdure.store import Store, open_store
from tests.contracts.operations import NO_SCHEMAS, OTHER_REQUEST, REQUEST, Folder, Payment, Receipt, named

T = TypeVar("T")
UNKNOWN, ADMITTED, SEALED, EXPIRED = OperationState
STEP = 10  # microseconds; leases and retentions are a few of them
IDS = [named("1"), named("1", scope="other"), named("1", tenant_id="other")]
TYPES = [schema_of(kind) for kind in (Receipt, Payment, Folder, int)]
DOCUMENTS = SchemaRegistry({name: document for _, registry in TYPES for name, document in registry.items()})
ANSWERS = st.tuples(st.sampled_from([b"1", b"2"]), st.sampled_from([root for root, _ in TYPES]), st.sampled_from(["json", "msgpack"]))
TOKENS = st.sampled_from(["none", "last", "stale", "wrong"])


class Known(msgspec.Struct):
    """What the model knows of one operation. `effects` are the tokens under which it was begun since nobody had done anything."""

    state: OperationState = UNKNOWN
    request: tuple[str, bytes] | None = None
    policy: Policy | None = None
    retain: int | None = None
    tokens: list[int] = []
    token: int = 0
    attempts: int = 0
    lease: int | None = None
    marked: bool = False
    effects: set[int] = set()
    answer: SealedResponse | None = None
    due: int | None = None

    def held(self, now: int) -> bool:
        return self.state is ADMITTED and self.lease is not None and now < self.lease


class OperationMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model, and compares what they answer."""

    url = "sqlite:///:memory:"
    reopens = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = VirtualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.known: dict[OperationId, Known] = {}
        self.stored: dict[str, bytes] = {}
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
        self.operations = Operations(self.store.access)

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())
        self.known = {operation_id: Known() for operation_id in IDS}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    # --- what the seed has ---------------------------------------------------------------------------

    @rule(operation_id=st.sampled_from(IDS))
    def admit(self, operation_id: OperationId) -> None:
        known = self.known[operation_id]
        expected = OperationExpired if known.state is EXPIRED else None
        if known.state is UNKNOWN:
            self.known[operation_id] = Known(state=ADMITTED, tokens=known.tokens, marked=True, effects={0})

        assert self.run(self.operations.admit(operation_id)) is expected

    @rule(operation_id=st.sampled_from(IDS), answer=ANSWERS, token=TOKENS, given=st.sampled_from(["all", "own", "root", "none"]))
    def seal(self, operation_id: OperationId, answer: tuple[bytes, TypeRef, str], token: str, given: str) -> None:
        response, root, codec = answer
        known, number = self.known[operation_id], self.token(operation_id, token)
        sealed = SealedResponse(response=response, root_type=root, codec=codec)
        registry = self.registry(root, given)

        found = self.run(self.operations.seal(operation_id, response, root, registry, codec=codec, token=number))

        refusal = self.refusal(known, number)
        assert found is (self.settle(known, sealed, root, registry) if refusal is None else refusal)

    @rule(operation_id=st.sampled_from(IDS), token=TOKENS)
    def remove(self, operation_id: OperationId, token: str) -> None:
        known, number = self.known[operation_id], self.token(operation_id, token)

        found = self.run(self.operations.remove(operation_id, token=number))

        refusal = self.refusal(known, number) if known.state is ADMITTED else None
        assert found is refusal
        if known.state is ADMITTED and refusal is None:
            self.known[operation_id] = Known(tokens=known.tokens)

    # --- beyond ----------------------------------------------------------------------------------------

    @rule(
        operation_id=st.sampled_from(IDS),
        request=st.sampled_from(
            [("charge", REQUEST), ("charge", REQUEST), ("charge", REQUEST), ("refund", REQUEST), ("charge", OTHER_REQUEST)]
        ),
        policy=st.sampled_from(Policy),
        lease_for=st.sampled_from([STEP, 2 * STEP]),
        retain=st.sampled_from([0, STEP, 2 * STEP]),
    )
    def begin(self, operation_id: OperationId, request: tuple[str, bytes], policy: Policy, lease_for: int, retain: int) -> None:
        known, now = self.known[operation_id], self.clock.now()
        method, request_digest = request

        verdict = self.run(
            self.operations.begin(
                operation_id, method=method, request_digest=request_digest, policy=policy, lease_for=lease_for, retain=retain
            )
        )

        expected = self.expected(known, request, policy, now)
        if expected is Started or (expected == Indeterminate() and known.request is None):
            known.request, known.policy, known.retain = (
                known.request or request,
                known.policy or policy,
                retain if known.retain is None else known.retain,
            )
        if expected is not Started:
            assert verdict == expected
            return
        assert isinstance(verdict, Started)
        assert verdict.token > self.last_token, "tokens grow"
        self.last_token = known.token = verdict.token
        known.tokens.append(verdict.token)
        known.attempts += 1
        known.state, known.lease = ADMITTED, now + lease_for

    def expected(self, known: Known, request: tuple[str, bytes], policy: Policy, now: int) -> Verdict | type[Started]:
        if known.request not in (None, request):
            return Conflict()
        if known.state is EXPIRED:
            return Expired()
        if known.state is SEALED:
            assert known.answer is not None
            return Replay(known.answer)
        if known.held(now):
            return Attached()
        unsure = known.marked and (known.policy or policy) is not Policy.IDEMPOTENT
        return Indeterminate() if unsure else Started

    @rule(operation_id=st.sampled_from(IDS), token=st.sampled_from(["last", "last", "stale", "wrong"]))
    def effect(self, operation_id: OperationId, token: str) -> None:
        """Mark, and if that is allowed, do it."""
        known, number = self.known[operation_id], self.token(operation_id, token)
        assert number is not None

        found = self.run(self.operations.mark_started(operation_id, number))

        if known.state in (SEALED, EXPIRED):
            assert found is (AlreadySealed if known.state is SEALED else OperationExpired)
        elif known.held(self.clock.now()) and number == known.token:
            assert found is None
            known.effects.add(number)
            known.marked = True
        else:
            assert found is LeaseLost

    @rule(operation_id=st.sampled_from(IDS), answer=ANSWERS, how=st.sampled_from(["sealed", "failed", "retry"]))
    def resolve(self, operation_id: OperationId, answer: tuple[bytes, TypeRef, str], how: str) -> None:
        response, root, codec = answer
        known, registry = self.known[operation_id], self.registry(root, "own")
        outcome: Resolution = Retry()
        sealed: SealedResponse | None = None
        if how == "sealed":
            outcome = Sealed(response=response, root_type=root, registry=registry, codec=codec)
            sealed = SealedResponse(response=response, root_type=root, codec=codec)
        elif how == "failed":
            outcome = Failed(response=response, codec=codec)
            sealed = SealedResponse(response=response, root_type=None, codec=codec, outcome="error")

        found = self.run(self.operations.resolve(operation_id, outcome, "ann"))

        if known.state is UNKNOWN:
            assert found is OperationNotFound
        elif known.held(self.clock.now()):
            assert found is LeaseLost
        elif sealed is not None or known.state is not ADMITTED:
            assert found is self.settle(known, sealed, root if how == "sealed" else None, registry)
        else:
            assert found is None
            known.token, known.lease, known.marked, known.effects = 0, None, False, set()

    @rule(ahead=st.sampled_from([-STEP, -1, 0, STEP]))
    def sweep(self, ahead: int) -> None:
        now = self.clock.now() + ahead
        due = [known for known in self.known.values() if known.state is SEALED and known.due is not None and known.due <= now]

        assert self.run(self.operations.sweep(now)) == len(due)
        for known in due:
            known.state, known.answer, known.due = EXPIRED, None, None

    @rule(duration=st.sampled_from([1, STEP - 1, STEP]))
    def wait(self, duration: int) -> None:
        self.clock.advance(duration)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self._open())

    # --- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def states_and_answers_are_the_models(self) -> None:
        for operation_id, known in self.known.items():
            assert self.run(self.operations.lookup(operation_id)) is known.state
            assert self.run(self.operations.get_sealed(operation_id)) == known.answer

    @invariant()
    def nothing_that_may_happen_once_happened_twice(self) -> None:
        assert all(len(known.effects) <= 1 for known in self.known.values() if known.policy is not Policy.IDEMPOTENT)

    @invariant()
    def whoever_is_gone_is_listed(self) -> None:
        now = self.clock.now()
        for tenant_id in ("acme", "other"):
            expected = {
                (operation_id.scope, operation_id.value, known.attempts, known.marked and known.policy is not Policy.IDEMPOTENT)
                for operation_id, known in self.known.items()
                if operation_id.tenant_id == tenant_id and known.state is ADMITTED and known.lease is not None and known.lease <= now
            }
            found: Any = self.run(self.operations.list_elapsed(tenant_id))
            assert {(info.scope, info.value, info.attempts, info.indeterminate) for info in found} == expected

    @invariant()
    def no_schema_dangles_and_none_goes(self) -> None:
        source = self.operations.schema_source()
        for name in DOCUMENTS:
            found: Any = self.run(source.get_schema(name))
            assert (found.document if found else None) == self.stored.get(name)
        for name, document in self.stored.items():
            assert set(references(document)) <= self.stored.keys()
            assert self.run(source.closure(name)) is not SchemaMissing

    # --- inside ------------------------------------------------------------------------------------------------

    def token(self, operation_id: OperationId, which: str) -> int | None:
        tokens = self.known[operation_id].tokens or [1]
        return {"none": None, "last": tokens[-1], "stale": tokens[0], "wrong": 7}[which]

    def registry(self, root: TypeRef, given: str) -> SchemaRegistry:
        own = next(registry for other, registry in TYPES if other == root)
        return {"all": DOCUMENTS, "own": own, "root": SchemaRegistry({root.hash: own[root.hash]}), "none": NO_SCHEMAS}[given]

    def refusal(self, known: Known, token: int | None) -> type[PerdureError] | None:
        """Say whether the token is no right to an operation that is not final."""
        if known.state is UNKNOWN:
            return None if token is None else LeaseLost
        if known.state is not ADMITTED:
            return None
        lost = known.held(self.clock.now()) if token is None else token != known.token
        return LeaseLost if lost else None

    def settle(
        self, known: Known, sealed: SealedResponse | None, root: TypeRef | None, registry: SchemaRegistry
    ) -> type[PerdureError] | None:
        """Seal in the model; return what the store has to answer."""
        if known.state is EXPIRED:
            return OperationExpired
        if known.state is SEALED:
            return None if known.answer == sealed else AlreadySealed
        if root is not None:
            needed = next(closed for other, closed in TYPES if other == root)
            if not needed.keys() <= {*registry, *self.stored}:
                return SchemaMissing
            self.stored |= needed
        known.state, known.answer, known.lease = SEALED, sealed, None
        known.due = None if known.retain is None else self.clock.now() + known.retain
        return None


class FileMachine(OperationMachine):
    """The same on a file, with restarts."""

    url = "sqlite:///{}"
    reopens = True


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
TestInMemory = OperationMachine.TestCase
TestInMemory.settings = settings(max_examples=40, stateful_step_count=40, **COMMON)
TestInFile = FileMachine.TestCase
TestInFile.settings = settings(max_examples=8, stateful_step_count=40, **COMMON)
