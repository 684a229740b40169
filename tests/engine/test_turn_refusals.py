"""What a handler may not do, and that it is told so at once and by name."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure import limits
from perdure.conversations.events import StepCompleted, TimerFired
from perdure.engine.addressing import Address
from perdure.engine.loop import TurnLoop
from perdure.engine.process import Process
from perdure.errors import DeadlockedTurn, NotAwaited, NotInStep, NotInTurn, TurnTooLong, UsageError
from tests.engine.askers import child as leaf
from tests.engine.inputs import completed, fired
from tests.engine.programs import Note, draw, fetch
from tests.engine.turns import START, Diary, Life, World

Code = Callable[[Diary], Coroutine[Any, Any, Any]]


def error_of(code: Code) -> BaseException | None:
    life = Life(World(code)).run()
    assert life.over
    return life.error


# --- input and output --------------------------------------------------------------------------------


async def on_mail(p: Diary) -> Any:
    return await p.receive(Note)


def loop() -> Any:
    return asyncio.get_running_loop()


IO: dict[str, Callable[[], Any]] = {
    "open_connection": lambda: asyncio.open_connection("localhost", 1),
    "start_server": lambda: asyncio.start_server(lambda _reader, _writer: None, "localhost", 0),
    "to_thread": lambda: asyncio.to_thread(print),
    "subprocess": lambda: asyncio.create_subprocess_exec("true"),
    "shell": lambda: asyncio.create_subprocess_shell("true"),
    "run_in_executor": lambda: loop().run_in_executor(None, print),
    "call_soon_threadsafe": lambda: loop().call_soon_threadsafe(print),
    "getaddrinfo": lambda: loop().getaddrinfo("localhost", 1),
    "sock_recv": lambda: loop().sock_recv(None, 1),
    "sock_sendto": lambda: loop().sock_sendto(None, b"", "localhost"),
    "add_reader": lambda: loop().add_reader(0, print),
    "add_signal_handler": lambda: loop().add_signal_handler(signal.SIGTERM, print),
    "stop": lambda: loop().stop(),
    "close": lambda: loop().close(),
    "run_until_complete": lambda: loop().run_until_complete(None),
    "set_default_executor": lambda: loop().set_default_executor(None),
    "set_task_factory": lambda: loop().set_task_factory(None),
}


@pytest.mark.parametrize("name", IO)
def test_input_and_output_in_a_handler_belong_into_a_step(name: str) -> None:
    async def code(p: Diary) -> None:
        await IO[name]()

    error = error_of(code)
    assert type(error) is NotInStep
    assert "self.step" in str(error)


def test_a_loop_does_what_asyncio_needs_and_refuses_all_else() -> None:
    made = TurnLoop(Life(World(on_mail)).turn)  # type: ignore[abstract]  # as in the turn
    offered = {"call_soon", "call_later", "call_at", "time", "create_future", "create_task", "call_exception_handler"}
    states = {"get_debug", "get_task_factory", "is_running", "is_closed"}

    for name in dir(asyncio.AbstractEventLoop):
        if not name.startswith("_") and name not in offered | states:
            with pytest.raises(NotInStep):
                getattr(made, name)()


# --- verbs outside ------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[Diary], Any]] = {
    "step": lambda p: p.step(draw),
    "receive": lambda p: p.receive(Note),
    "sleep": lambda p: p.sleep(1),
    "bind": lambda p: p.bind("k"),
    "first": lambda p: p.first(),
    "send": lambda p: p.send(Note("n"), Address.key("k")),
    "spawn": lambda p: p.spawn(leaf, 1),
    "call": lambda p: p.call(leaf, 1),
    "ask": lambda p: p.ask(Address.key("k"), Note("n")),
    "awakeable": lambda p: p.awakeable(),
    "reply": lambda p: p.reply(Note("n"), 1),
    "gather_limited": lambda p: p.gather_limited(1),
    "until": lambda p: p.until(lambda: True),
    "tag": lambda p: p.tag("t"),
    "untag": lambda p: p.untag("t"),
    "unbind": lambda p: p.unbind("k"),
    "finish": lambda p: p.finish(None),
}


def tried(verb: Callable[[Any], Any], p: Process) -> str:
    """Use a verb where none may be used, and return what it raised."""
    try:
        call = verb(p)
        if asyncio.iscoroutine(call):
            with call_closed(call):
                call.send(None)
    except NotInTurn as error:
        return str(error)
    return "nothing"


class call_closed:  # noqa: N801  # used like a function
    def __init__(self, call: Any) -> None:
        self.call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.call.close()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_outside_its_handler_is_refused(verb: str) -> None:
    processes: list[Diary] = []

    async def code(p: Diary) -> list[str]:
        processes.append(p)

        async def inside() -> str:
            return tried(VERBS[verb], p)

        def on_a_thread() -> str:
            said: list[str] = []
            thread = threading.Thread(target=lambda: said.append(tried(VERBS[verb], p)))
            thread.start()
            thread.join()
            return said[0]

        return [await p.step(inside), await p.step(on_a_thread), on_a_thread()]

    life = Life(World(code)).run()
    [process] = processes
    for said in (*life.value, tried(VERBS[verb], process), tried(VERBS[verb], Diary())):
        assert "handler" in said, "in a step, on a thread, after the turn, without a turn"


async def test_a_verb_on_another_loop_is_refused() -> None:
    here = asyncio.get_running_loop()
    opened: asyncio.Future[Life] = here.create_future()
    here.call_soon(lambda: opened.set_result(Life(World(on_mail))))  # a turn is never driven from inside a task
    waiting = await opened

    for verb in VERBS.values():
        assert "handler" in tried(verb, waiting.process)

    here.call_soon(waiting.turn.leave)
    await asyncio.sleep(0)


def test_a_step_that_a_handler_made_cannot_be_awaited_by_another_step() -> None:
    async def code(p: Diary) -> str:
        made = p.step(draw)

        async def inside() -> str:
            return await made

        return await p.step(inside)

    assert type(error_of(code)) is NotInTurn


def test_what_belongs_to_the_process_can_be_read_in_the_handler_only() -> None:
    async def code(p: Diary) -> tuple[str, str]:
        return p.id, p.tenant

    assert Life(World(code)).run().value == ("p1", "acme")
    with pytest.raises(NotInTurn):
        _ = Process().id


# --- forgotten await ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["step", "receive", "sleep", "bind"])
def test_a_forgotten_await_is_named_and_nothing_of_its_quiescence_is_committed(verb: str) -> None:
    async def code(p: Diary) -> str:
        await p.step(draw, name="before")
        p.tag("half")
        VERBS[verb](p)
        return "done"

    life = Life(World(code)).run()
    assert type(life.error) is NotAwaited
    assert ("draw" if verb == "step" else verb) in str(life.error)
    assert "await" in str(life.error)
    assert not life.effects
    assert life.started == ["before"]


def test_what_first_would_have_awaited_is_named() -> None:
    async def code(p: Diary) -> None:
        p.first(p.step(draw), p.sleep(1)).close()

    error = error_of(code)
    assert type(error) is NotAwaited
    assert "draw, sleep" in str(error)


def test_a_task_nobody_awaits_is_not_forgotten() -> None:
    async def code(p: Diary) -> str:
        task = asyncio.create_task(p.step(draw))
        await p.step(fetch, "x")
        return str(task.done())

    assert error_of(code) is None


# --- asyncio.as_completed -----------------------------------------------------------------------------


def test_as_completed_over_coroutines_is_refused() -> None:
    async def code(p: Diary) -> list[str]:
        return [await end for end in asyncio.as_completed([p.step(draw), p.step(fetch, "x")])]

    error = error_of(code)
    assert type(error) is UsageError
    assert "make tasks of them first" in str(error)


def test_tasks_made_while_as_completed_is_used_are_no_offence() -> None:
    async def code(p: Diary) -> list[str]:
        tasks = [asyncio.create_task(p.step(fetch, name)) for name in "abc"]
        out = []
        for end in asyncio.as_completed(tasks):
            out.append(await asyncio.create_task(p.step(fetch, await end)))
        return out

    assert error_of(code) is None


# --- handlers that get nowhere ---------------------------------------------------------------------------


async def on_an_event(p: Diary) -> None:
    await asyncio.Event().wait()


async def on_a_queue(p: Diary) -> None:
    await p.step(draw)
    await asyncio.Queue[str]().get()


async def on_its_own_lock(p: Diary) -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def on_one_another(p: Diary) -> None:
    ready = [asyncio.Event(), asyncio.Event()]

    async def one(number: int) -> None:
        await ready[number].wait()
        ready[1 - number].set()

    await asyncio.gather(one(0), one(1))


async def on_a_foreign_future(p: Diary) -> None:
    await asyncio.wrap_future(FOREIGN)


FOREIGN: Any = __import__("concurrent.futures").futures.Future()


@pytest.mark.parametrize(
    "code", [on_an_event, on_a_queue, on_its_own_lock, on_one_another, on_a_foreign_future], ids=lambda code: code.__name__
)
def test_a_handler_that_waits_for_nothing_durable_is_found(code: Code) -> None:
    with pytest.raises(DeadlockedTurn, match=r"waits for something that is not durable.*wait for steps, messages and timers"):
        Life(World(code)).run()


def test_a_handler_that_polls_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TURN_CALLBACKS_MAX", 1_000)

    async def code(p: Diary) -> None:
        task = asyncio.create_task(p.step(draw))
        while not task.done():  # noqa: ASYNC110  # what is tested
            await asyncio.sleep(0)

    with pytest.raises(DeadlockedTurn, match="polls for something that is not durable"):
        Life(World(code)).run()


def test_a_turn_of_too_many_events_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TURN_EVENTS_MAX", 40)

    async def code(p: Diary) -> None:
        while True:
            await p.step(draw)

    with pytest.raises(TurnTooLong, match=r"more than 40 events.*spread the work over messages"):
        Life(World(code)).run()


def test_the_same_holds_for_what_was_recorded_and_what_is_new_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def code(p: Diary) -> None:
        while p.total < 50:
            await p.step(draw)
            p.total += 1

    world = World(code)
    life = Life(world).run()
    monkeypatch.setattr(limits, "TURN_EVENTS_MAX", 45)
    with pytest.raises(TurnTooLong):
        Life(world, life.commits[:30]).run()


# --- the engine's side ----------------------------------------------------------------------------------


def test_news_of_what_nobody_waits_for_leaves_no_trace() -> None:
    async def code(p: Diary) -> list[Any]:
        return [*await asyncio.gather(p.receive(Note, timeout=timedelta(seconds=1)), p.step(draw))]

    life = Life(World(code))
    turn, before = life.turn, len(life.events)
    for stale in (fired("receive#2"), completed("draw#2", b'"x"'), fired("draw")):
        turn.feed(stale)
    life.now += 1
    turn.advance()
    assert not turn.produced
    assert turn.now == START, "an input that does not count does not move the turn's time"
    assert len(life.events) == before
    assert not turn.expects("receive", START)
    assert life.run().value[0] is None
    assert {type(event) for _, event in life.events} == {StepCompleted, TimerFired}
