"""What runs in the interpreter of a version: it hosts turns and runs steps, as the engine that has started it says.

It is started by `children.py` with the number of its socket. It ends when that is closed.

Source: docs/isolation.md.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NoReturn

from perdure import limits
from perdure.clock import Micros, boottime
from perdure.codec import JSON
from perdure.engine.apart.extracted import check_flows, import_extracted
from perdure.engine.apart.frames import (
    Advance,
    Advanced,
    Allowed,
    Answer,
    Answered,
    Ask,
    Begin,
    Down,
    DropAlarm,
    Entries,
    Leave,
    MayBegin,
    MessageRead,
    Parts,
    ProcessTried,
    Question,
    ReadLog,
    ReadMessage,
    Ready,
    Refused,
    Ring,
    SayLeads,
    SaysHandler,
    SaysLeads,
    SaysType,
    SetAlarm,
    Stop,
    TakeBound,
    Taken,
    TryFailed,
    TryProcess,
    Up,
    Welcome,
    framed,
    read_down,
)
from perdure.engine.apart.hosted import Hosted
from perdure.engine.app import ProcessType
from perdure.engine.outcomes import encode_error, error_text
from perdure.engine.packaged import code_of, types_of
from perdure.engine.refusals import Failed
from perdure.engine.trying import CodeFailed, LocalCode
from perdure.errors import PerdureError, StoreUnavailable
from perdure.packages.archive import Package
from perdure.packages.manifest import decode_manifest

logger = logging.getLogger("perdure.engine")
_DIES_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG


def main() -> NoReturn:
    """Serve the engine at the other end of a socket until that ends."""
    sock = socket.socket(fileno=int(sys.argv.pop(1)))
    sock.set_inheritable(False)  # programs that steps start do not keep it open
    end = os._exit  # as it is before the package can replace it
    try:
        _serve(sock)
    finally:
        end(1)  # without waiting for threads


def _serve(sock: socket.socket) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    parts = Parts()
    welcome = _first(sock, parts)
    _end_with(welcome.parent)
    loop.run_until_complete(_host(sock, parts, welcome))


def _first(sock: socket.socket, parts: Parts) -> Welcome:
    while True:
        for part in parts.frames():
            frame = read_down(part)
            assert isinstance(frame, Welcome), "an engine begins with it"
            return frame
        data = sock.recv(limits.APART_READ)
        if not data:
            raise SystemExit(1)
        parts.put(data)


def _end_with(parent: int) -> None:
    """Let the system end this process when the engine's ends, also while code keeps the loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


async def _host(sock: socket.socket, parts: Parts, welcome: Welcome) -> None:
    child = Child(sock, parts, welcome)
    # Code is imported on a thread, without an event loop, as in an engine; frames come only when it is ready.
    try:
        types = await asyncio.to_thread(_imported, welcome)
    except PerdureError as error:
        child.tell(Refused(failed=Failed.by(error)))
        return
    child.types.update(types[0])
    child.tell(Ready(perdure=importlib.metadata.version("perdure"), found=types[1], types=[_says(made) for made in types[0].values()]))
    await child.serve()


def _imported(welcome: Welcome) -> tuple[dict[str, ProcessType], dict[str, str]]:
    manifest = decode_manifest(welcome.manifest)
    # The files are in the folder already; of the package, only their names are needed.
    package = Package(manifest=manifest, identity=manifest.identity, files=dict.fromkeys((file.path for file in manifest.files), b""))
    code = code_of(package)
    extracted = import_extracted(code, Path(welcome.folder))
    types = types_of(extracted, manifest)
    check_flows(types.values())
    return types, extracted.found


def _says(made: ProcessType) -> SaysType:
    return SaysType(
        name=made.name,
        durable=made.durable,
        initial=made.initial,
        handlers=[SaysHandler(kind=kind, on_error=handler.on_error) for kind, handler in made.handlers.items()],
        queries=[*made.queries],
        limits=None if made.flow is None else made.flow.limits,
        priority=0 if made.flow is None else made.flow.priority,
    )


class _Clock:
    """The engine's clock, as far as it is known here: told with each frame, and going on by itself if the engine's does."""

    def __init__(self, child: Child, now: Micros, *, runs: bool) -> None:
        self._child = child
        self._runs = runs
        self._alarms: dict[int, Callable[[], None]] = {}
        self._made = 0
        self.tell(now)

    def tell(self, now: Micros) -> None:
        self._now, self._at = now, boottime()

    def now(self) -> Micros:
        return self._now + (boottime() - self._at if self._runs else 0)

    def call_at(self, when: Micros, callback: Callable[[], None]) -> SimpleNamespace:
        self._made += 1
        number = self._made
        self._alarms[number] = callback
        self._child.tell(SetAlarm(alarm=number, when=when))
        return SimpleNamespace(cancel=partial(self._cancel, number))

    def _cancel(self, number: int) -> None:
        if self._alarms.pop(number, None) is not None:
            self._child.tell(DropAlarm(alarm=number))

    def ring(self, number: int) -> None:
        callback = self._alarms.pop(number, None)
        if callback is not None:
            callback()


class Child:
    """Everything in a child: its turns, and of what an owner is to a resident process that which a `Stage` uses.

    Args:
        sock: to the engine.
        parts: what has come of it and was not read.
        welcome: the first frame.

    Attributes:
        turns: by the engine's numbers.
        types: by name.
        asks: whether the engine is asked before each plain function.
        thread: that the loop runs on.
    """

    def __init__(self, sock: socket.socket, parts: Parts, welcome: Welcome) -> None:
        self._sock = sock
        self._parts = parts
        self._writing = threading.Lock()
        self._questions: dict[int, Any] = {}
        self._asked = 0
        self._stopped = asyncio.Event()
        self._trying: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.asks = welcome.asks
        self.turns: dict[int, Hosted] = {}
        self.types: dict[str, ProcessType] = {}
        self._code = LocalCode(self.types)
        self.clock = _Clock(self, welcome.now, runs=welcome.runs)
        self.threads = ThreadPoolExecutor(welcome.threads, thread_name_prefix="perdure-step")
        self.random = random.Random(welcome.seed).random  # noqa: S311  # for jitter only
        self.dispatcher = SimpleNamespace(step_over=_nothing, drop_step=_nothing)  # slots are the engine's affair
        self.store = SimpleNamespace(access=SimpleNamespace(reader=None))

    async def serve(self) -> None:
        """Do what the engine says until it says stop."""
        self._take()
        self.loop.add_reader(self._sock.fileno(), self._readable)
        await self._stopped.wait()
        for turn in list(self.turns.values()):
            turn.leave()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=limits.APART_END_SECONDS / 2)

    def later(self, callback: Callable[..., object], /, *args: Any) -> None:
        """Run a callback on the loop, outside of any task."""
        self.loop.call_soon(callback, *args)

    def tell(self, frame: Up) -> None:
        """Send a frame; from any thread."""
        with self._writing:
            self._sock.sendall(framed(frame))

    # --- asking the engine --------------------------------------------------------------------------------

    def may_begin(self, turn: int) -> bool:
        """Return whether an effect may begin at this moment; for a thread of a step, which waits for the answer."""
        answer: SimpleNamespace = SimpleNamespace(came=threading.Event(), allowed=False)
        with self._writing:
            self._asked += 1
            number = self._asked
            self._questions[number] = answer
        self.tell(MayBegin(question=number, turn=turn))
        return bool(answer.came.wait(limits.APART_CALL_SECONDS) and answer.allowed)

    async def read_log(self, turn: int, name: str, after: int, *, length: int, limit: int) -> list[bytes]:
        """Return entries of a log of a turn's process. Raises StoreUnavailable when the engine cannot read them."""
        answer: asyncio.Future[Entries] = self.loop.create_future()
        with self._writing:
            self._asked += 1
            number = self._asked
            self._questions[number] = answer
        self.tell(ReadLog(question=number, turn=turn, name=name, after=after, length=length, limit=limit))
        entries = await answer
        if entries.failed:
            raise StoreUnavailable(entries.failed)
        return entries.rows

    # --- what the engine says -----------------------------------------------------------------------------

    def _readable(self) -> None:
        data = self._sock.recv(limits.APART_READ)
        if not data:  # the engine has ended, and did not say stop: it was killed
            os._exit(1)
        self._parts.put(data)
        self._take()

    def _take(self) -> None:
        for part in self._parts.frames():
            self._do(read_down(part))

    def _do(self, frame: Down) -> None:
        if isinstance(frame, Advance | TakeBound | Begin | Ring):
            self.clock.tell(frame.now)
        match frame:
            case Advance():
                self.tell(self._advanced(frame))
            case Ask():
                self.tell(self._answered(frame))
            case Ring():
                self.clock.ring(frame.alarm)
            case Allowed() | Entries():
                self._answer(frame)
            case TryProcess() | ReadMessage() | SayLeads():
                self._trying.add(task := self.loop.create_task(self._try(frame)))
                task.add_done_callback(self._trying.discard)
            case Stop():
                self._stopped.set()
            case TakeBound() | Begin() | Leave():
                self._do_at(self.turns.get(frame.turn), frame)
            case Welcome():
                raise AssertionError("it comes once")

    def _do_at(self, turn: Hosted | None, frame: TakeBound | Begin | Leave) -> None:
        match frame:
            case TakeBound():
                running, ended = ([], []) if turn is None else turn.bound(frame.owners)
                self.tell(Taken(running=running, ended=ended))
            case Begin() if turn is not None:
                turn.begin(frame.step)
            case Leave() if turn is not None:
                turn.leave()

    def _advanced(self, frame: Advance) -> Advanced:
        turn = self.turns.get(frame.turn)
        if turn is None:
            assert frame.opening is not None, "a turn is opened before it goes on"
            turn = self.turns[frame.turn] = Hosted(self, frame.turn, self.types[frame.opening.process_type], frame.opening)
        return turn.advance(frame)

    def _answered(self, asked: Ask) -> Answered:
        made = self.types[asked.process_type]
        query = made.queries[asked.query]
        try:
            answer = query.answer(made.load(asked.fields), query.arguments(asked.arguments))
            return Answered(data=JSON.encode(answer))
        except Exception as error:  # noqa: BLE001  # whatever the query raises is what it says
            return Answered(error=encode_error(error))

    async def _try(self, frame: Question) -> None:
        try:
            self.tell(await self._tried(frame))
        except CodeFailed as error:
            self.tell(TryFailed(question=frame.question, text=str(error)))
        except Exception as error:  # an edge: who asks would wait for it, and then give up all that runs here
            logger.exception("a question about this version cannot be answered")
            self.tell(TryFailed(question=frame.question, text=f"it cannot answer: {error_text(encode_error(error))}"))

    async def _tried(self, frame: Question) -> Answer:
        match frame:
            case TryProcess():
                tried = await self._code.try_process(frame.exported, rewrites=frame.rewrites)
                return ProcessTried(question=frame.question, tried=tried)
            case ReadMessage():
                unreadable = await self._code.read(frame.process_type, frame.kind, frame.payload, awaited=frame.awaited)
                return MessageRead(question=frame.question, unreadable=unreadable)
            case SayLeads():
                return SaysLeads(question=frame.question, leads=await self._code.leads())

    def _answer(self, frame: Allowed | Entries) -> None:
        with self._writing:
            question = self._questions.pop(frame.question, None)
        if question is None:
            return
        if isinstance(frame, Entries):
            if not question.done():
                question.set_result(frame)
        else:
            question.allowed = frame.allowed
            question.came.set()


def _nothing(*_: object) -> None:
    """Take in that a slot is free."""
