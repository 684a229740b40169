"""Contract 4 against a model: random histories of two handles; live equals cold equals snapshot and tail equals a double replay."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from perdure.clock import VirtualClock
from perdure.conversations.contract import Decision, OpenMessage, ResumeFrom, Skip, Start
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import CallerEvent, decode_event
from perdure.conversations.state import Memory
from perdure.conversations.tables import EVENTS, PROCESS
from perdure.core.table import Scan
from perdure.errors import IllegalTransition, PerdureError, SequenceConflict
from perdure.store import Store, open_store
from tests.contracts.conversations import ChangeSnapshot, CountingReader, SeenThrough

T = TypeVar("T")
HANDLES = st.integers(0, 1)
MESSAGES = st.sampled_from(["a", "b", "c"])
OUTPUTS = st.sampled_from([b"", b"x", b"y"])


class Message(msgspec.Struct):
    """One message in the model. `attempting` says that a start was recorded, and no error since."""

    received: tuple[int, int]
    started: bool = False
    attempting: bool = False
    failed: bool = False
    attempts: int = 0
    steps: list[tuple[int, bytes]] = []
    error: str | None = None
    finished: bool = False
    result: bytes | None = None

    def open(self) -> OpenMessage:
        return OpenMessage(
            received_at=self.received[0],
            received_seq=self.received[1],
            started=self.started,
            failed=self.failed,
            attempts=self.attempts,
            steps=tuple(seq for seq, _ in self.steps),
            error=self.error,
        )


class ConversationMachine(RuleBasedStateMachine):
    """Each rule does the same to a handle and to the model, and compares what they answer."""

    url = "sqlite:///:memory:"
    reopens = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.head = 0
        self.seen = [0, 0]
        self.snapshot_at = 0
        self.messages: dict[str, Message] = {}
        self.store: Store

    def run(self, call: Coroutine[Any, Any, T]) -> T | type[PerdureError]:
        async def attempt() -> T | type[PerdureError]:
            try:
                return await call
            except PerdureError as error:
                return type(error)

        return self.runner.run(attempt())

    async def _open(self) -> None:
        self.store = await open_store(self.url.format(Path(self.folder.name) / "store.db"), clock=VirtualClock())
        self.handles = [await DurableConversation.recover("conv-1", self.store) for _ in range(2)]

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.runner.run(self.check())
        finally:
            if hasattr(self, "store"):
                self.runner.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    # --- recording -------------------------------------------------------------------------------------

    def expect(self, handle: int, found: object, *, allowed: bool) -> bool:
        """Compare the outcome of a record; return whether it was appended."""
        if self.seen[handle] != self.head:
            assert found is SequenceConflict
            return False
        if not allowed:
            assert found is IllegalTransition
            return False
        assert found == self.head
        self.head += 1
        self.seen[handle] = self.head
        return True

    @rule(handle=HANDLES, message_id=MESSAGES, at=st.integers(0, 9))
    def receive(self, handle: int, message_id: str, at: int) -> None:
        message = self.messages.get(message_id)
        expected: Decision | type[PerdureError]
        if message is not None and message.finished:
            expected = Skip(result=message.result)
        elif self.seen[handle] != self.head:
            expected = SequenceConflict
        elif message is not None:
            expected = ResumeFrom(step_index=len(message.steps), outputs=tuple(output for _, output in message.steps))
        else:
            expected = Start()
            self.messages[message_id] = Message(received=(at, self.head))
            self.head += 1
            self.seen[handle] = self.head

        assert self.run(self.handles[handle].receive_message(message_id, at)) == expected

    @rule(handle=HANDLES, message_id=MESSAGES, at=st.integers(0, 9))
    def record_received(self, handle: int, message_id: str, at: int) -> None:
        found = self.run(self.handles[handle].record_message_received(message_id, at))

        if self.expect(handle, found, allowed=message_id not in self.messages):
            self.messages[message_id] = Message(received=(at, self.head - 1))

    @rule(handle=HANDLES, message_id=MESSAGES)
    def start(self, handle: int, message_id: str) -> None:
        message = self.messages.get(message_id)
        found = self.run(self.handles[handle].record_processing_started(message_id))

        if self.expect(handle, found, allowed=message is not None and not message.finished):
            assert message is not None
            message.started, message.attempting, message.failed = True, True, False
            message.attempts += 1

    @rule(handle=HANDLES, message_id=MESSAGES, ahead=st.sampled_from([0, 0, 0, 0, -1, 1]), output=OUTPUTS)
    def step(self, handle: int, message_id: str, ahead: int, output: bytes) -> None:
        message = self.messages.get(message_id)
        steps = [] if message is None else message.steps
        index = max(0, len(steps) + ahead)
        found = self.run(self.handles[handle].record_step_completed(message_id, index, output))

        open_now = message is not None and message.started and not message.finished
        if self.seen[handle] == self.head and open_now and index < len(steps) and steps[index][1] == output:
            assert found == steps[index][0]
        elif self.expect(handle, found, allowed=open_now and index == len(steps)):
            steps.append((self.head - 1, output))

    @rule(handle=HANDLES, message_id=MESSAGES, text=st.sampled_from(["no", ""]))
    def fail(self, handle: int, message_id: str, text: str) -> None:
        message = self.messages.get(message_id)
        found = self.run(self.handles[handle].record_error(message_id, text))

        if self.expect(handle, found, allowed=message is not None and not message.finished):
            assert message is not None
            message.attempts += not message.attempting
            message.attempting, message.failed, message.error = False, True, text

    @rule(handle=HANDLES, message_id=MESSAGES, result=st.none() | OUTPUTS)
    def finish(self, handle: int, message_id: str, result: bytes | None) -> None:
        message = self.messages.get(message_id)
        found = self.run(self.handles[handle].record_processing_finished(message_id, result))

        if self.expect(handle, found, allowed=message is not None and message.started and not message.finished):
            assert message is not None
            message.finished, message.result = True, result

    # --- reading ---------------------------------------------------------------------------------------

    @rule(handle=HANDLES)
    def refresh(self, handle: int) -> None:
        assert self.run(self.handles[handle].refresh()) is None
        self.seen[handle] = self.head

    @rule(handle=HANDLES)
    def recover(self, handle: int) -> None:
        self.handles[handle] = self.runner.run(DurableConversation.recover("conv-1", self.store))
        self.seen[handle] = self.head

    @rule(handle=HANDLES)
    def snapshot(self, handle: int) -> None:
        self.snapshot_at = max(self.snapshot_at, self.seen[handle])

        assert self.run(self.handles[handle].snapshot()) == (self.snapshot_at if self.seen[handle] else 0)

    @rule()
    def delete_snapshot(self) -> None:
        self.run(self.store.commit(ChangeSnapshot("conv-1")))
        self.snapshot_at = 0

    @rule()
    def reopen(self) -> None:
        if self.reopens:
            self.runner.run(self.store.close())
            self.runner.run(self._open())
            self.seen = [self.head, self.head]

    @rule()
    def compare(self) -> None:
        self.runner.run(self.check())

    async def check(self) -> None:
        expected = {message_id: message.open() for message_id, message in self.messages.items() if not message.finished}
        counting = CountingReader(self.store.access.reader, page=3)
        cold = await DurableConversation.recover("conv-1", SeenThrough(self.store, counting))
        for handle, seen in zip(self.handles, self.seen, strict=True):
            assert handle.expected_seq == seen
            assert seen != self.head or handle.state == cold.state
        assert cold.state.open == expected
        assert cold.expected_seq == self.head
        assert counting.rows.get("event", 0) == self.head - self.snapshot_at
        await self.check_replay(cold)

    async def check_replay(self, cold: DurableConversation) -> None:
        """Fold all events twice by hand: once in a row, once with a snapshot in the middle."""
        process = await self.store.access.reader.get(PROCESS.key("default", "conv-1"))
        rows = [] if process is None else await self.store.access.reader.scan(Scan(EVENTS, ("default", process.stream_no), 10_000))
        events = [decode_event(row.data, stream="conv-1", seq=seq) for seq, (_, row) in enumerate(rows)]
        assert all(isinstance(event, CallerEvent) for event in events)
        whole, halved = Memory("conv-1"), Memory("conv-1")
        for seq, event in enumerate(events):
            whole.apply(seq, event)
            halved.apply(seq, event)
            if seq == len(events) // 2:
                data = halved.snapshot()
                halved = Memory("conv-1")
                halved.restore(data)
        assert whole.state == halved.state == cold.state


class FileMachine(ConversationMachine):
    """The same on a file, with restarts."""

    url = "sqlite:///{}"
    reopens = True


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
TestInMemory = ConversationMachine.TestCase
TestInMemory.settings = settings(max_examples=40, stateful_step_count=40, **COMMON)
TestInFile = FileMachine.TestCase
TestInFile.settings = settings(max_examples=8, stateful_step_count=40, **COMMON)
