"""The engine's side of code that runs in a child: process types and turns, as the owner of a process uses them.

Source: docs/isolation.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from perdure.clock import Clock, Micros
from perdure.codec import JSON
from perdure.conversations.events import Event, encode_event
from perdure.engine.addressing import TurnId
from perdure.engine.apart.channel import ChildGone
from perdure.engine.apart.frames import (
    Advance,
    Advanced,
    Answer,
    Answered,
    Ask,
    Begin,
    Down,
    FrameTooLarge,
    Leave,
    Made,
    Moved,
    Open,
    Post,
    Question,
    SaysType,
    TakeBound,
    Taken,
    Up,
    effects_in,
)
from perdure.engine.app import HandlerOf, ProcessType
from perdure.engine.flow import FlowRule
from perdure.engine.operation import Input, Operation, Produced
from perdure.engine.outcomes import decode_error
from perdure.engine.process import OnError
from perdure.engine.turn import Turn
from perdure.engine.window import Window
from perdure.errors import DeadlockedTurn, NondeterministicTurn, PackageUnloaded, TurnFailed
from perdure.flows.tables import PlaceRow
from perdure.flows.writes import Limits
from perdure.messages.mail import Mail

if TYPE_CHECKING:
    from perdure.engine.flush import Finish
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
_STUCK = {kind.code: kind for kind in (NondeterministicTurn, DeadlockedTurn)}


class Home(Protocol):
    """What a turn needs of the child that it runs in."""

    turns: dict[int, RemoteTurn]
    clock: Clock

    def number(self) -> int:
        """Return a number that no turn of the child has had."""
        ...

    def send(self, frame: Down) -> None:
        """Send a frame, if the child is still there."""
        ...

    def call(self, frame: Down) -> Up:
        """Send a frame and return its reply. Raises ChildGone."""
        ...

    async def answer(self, question: Question) -> Answer:
        """Send a question and return its answer, while the loop goes on. Raises ChildGone, with the reason."""
        ...

    def give_up(self, reason: str) -> None:
        """Kill the child: it does not keep to what was agreed."""
        ...


class RemoteHandler(msgspec.Struct, frozen=True):
    """One handler of a process type."""

    kind: str
    on_error: OnError


class RemoteFields(msgspec.Struct, frozen=True):
    """The durable fields of a process, which only the child can read."""

    data: bytes | None


class FixedFlow(FlowRule):
    """Flow control without functions: those would run inside of the engine's transactions."""

    def __init__(self, name: str, bounds: Limits, priority: int) -> None:
        self._name = name
        self._priority = priority
        self.limits = bounds

    def place(self, kind: str, payload: bytes) -> PlaceRow:
        """Return the place of any start."""
        del kind, payload
        return PlaceRow(self._name, "", self._priority, 0, "")


class RemoteQuery:
    """One query of a process type."""

    function = None

    def __init__(self, home: Home, process_type: str, name: str) -> None:
        self._home = home
        self._type = process_type
        self.name = name

    def answer(self, process: RemoteFields, args: Sequence[Any]) -> Any:
        """Return what the method says, as plain data. Raises what the method raises, and PackageUnloaded when the child has ended."""
        arguments = [arg.data if isinstance(arg, _Text) else JSON.encode(arg) for arg in args]
        try:
            said = self._home.call(Ask(process_type=self._type, query=self.name, fields=process.data, arguments=arguments))
        except ChildGone:
            raise PackageUnloaded(self._type, "its interpreter has just ended; ask again") from None
        assert isinstance(said, Answered), "it is the reply to a query"
        if said.error is not None:
            raise decode_error(said.error, otherwise=TurnFailed, by=__name__)
        return msgspec.json.decode(said.data)

    def arguments(self, texts: Sequence[bytes]) -> list[Any]:
        """Return the arguments that were given as JSON; the child decodes them."""
        return [_Text(text) for text in texts]


class _Text(msgspec.Struct, frozen=True):
    data: bytes


class RemoteType:
    """One process type whose code is in a child; of the attributes of a `ProcessType`, those that the engine's side uses."""

    target = None

    def __init__(self, home: Home, says: SaysType) -> None:
        self.home = home
        self.name = says.name
        self.durable = says.durable
        self.initial = says.initial
        self.handlers: Mapping[str, RemoteHandler] = {
            handler.kind: RemoteHandler(handler.kind, msgspec.convert(handler.on_error, OnError)) for handler in says.handlers
        }
        self.queries = {name: RemoteQuery(home, says.name, name) for name in says.queries}
        self.flow = None if says.limits is None else FixedFlow(says.name, says.limits, says.priority)

    def load(self, fields: bytes | None) -> RemoteFields:
        """Return the fields of a process; whether they can be read is found out by the child."""
        return RemoteFields(fields)


class RemoteTurn:
    """A turn in a child: it takes what a `Turn` takes, and tells what a `Turn` tells, as of the last time that it was advanced.

    Args:
        home: the child.
        owner: of the process.
        opening: what the turn is opened with.
        window: the process's mailbox in memory.
        tasks: what runs for the process, by step.
        start: begins what may begin now.
        pump: lets the turn go on.
        may_begin: whether an effect may begin at this moment.
        unsure: takes in that one was not begun.
    """

    __slots__ = (
        "_cancel",
        "_due",
        "_gone",
        "_home",
        "_number",
        "_opening",
        "_owner",
        "_posted",
        "_pump",
        "_receiving",
        "_rung",
        "_start",
        "_starts",
        "_tasks",
        "_there",
        "_window",
        "armed",
        "attributes",
        "attributes_found",
        "awaited",
        "effects",
        "events",
        "fields",
        "finish",
        "id",
        "may_begin",
        "now",
        "outlived",
        "produced",
        "receives",
        "running",
        "steps",
        "takes_mail",
        "unsure",
        "waiting",
    )

    def __init__(
        self,
        home: Home,
        owner: Owner,
        opening: Open,
        *,
        window: Window,
        tasks: dict[str, asyncio.Future[Any]],
        start: Callable[[list[Operation]], None],
        pump: Callable[[], None],
        may_begin: Callable[[], bool],
        unsure: Callable[[], None],
    ) -> None:
        self._home = home
        self._owner = owner
        self._opening: Open | None = opening
        self._window = window
        self._tasks = tasks
        self._start = start
        self._pump = pump
        self.may_begin = may_begin
        self.unsure = unsure
        self._number = home.number()
        home.turns[self._number] = self
        self._cancel: str | None = None
        self._rung: list[str] = []
        self._posted: Post | None = None
        self._there: frozenset[int] = frozenset()
        self._gone: dict[int, Mail] = {}
        self._receiving: dict[str, Operation] = {}
        self._starts: list[Operation] = []
        self._due: dict[str, Micros] = {}
        self.id = TurnId(opening.tenant, opening.process, opening.ref)
        self.now = opening.at
        self.effects = self.steps = self.events = 0
        self.waiting = self.takes_mail = self.outlived = False
        self.finish: Finish | None = None
        self.fields: bytes | None = opening.saved
        self.attributes: dict[str, bool] | None = None
        self.attributes_found = frozenset(opening.attributes)
        self.receives: list[Operation] = []
        self.armed: list[str] = []
        self.awaited: list[tuple[str, str]] = []
        self.running: dict[str, Operation] = {}
        self.produced = Produced()

    # --- what happens to it ------------------------------------------------------------------------------

    def feed(self, given: Input) -> None:
        """Queue that a timer has rung: all else that can be fed comes from the child itself."""
        self._rung.append(given.operation_id)

    def cancel(self, reason: str) -> None:
        """Ask the code to stop."""
        self._cancel = reason

    def expects(self, timer_id: str, due: Micros) -> bool:
        """Return whether somebody waits for the timer that is due then."""
        return self._due.get(timer_id) == due

    def advance(self) -> Produced:
        """Let the child run the turn to its next quiescence, and return what has to be committed.

        When the child is gone nothing is committed, as for a turn that has outlived its handler: its process is read again.

        Raises:
            NondeterministicTurn, DeadlockedTurn: as of a `Turn`.
        """
        opening, cancel, rung = self._opening, self._cancel, self._rung
        frame = Advance(turn=self._number, now=self._home.clock.now(), opening=opening, cancel=cancel, post=self._post(), rung=rung)
        self._opening, self._cancel, self._rung = None, None, []
        try:
            said = self._home.call(frame)
        except ChildGone:
            self.outlived = True
            return self.produced
        except FrameTooLarge as error:
            raise NondeterministicTurn(
                f"{self.id}: its record and its mail cannot be told to an interpreter of its own: {error}"
            ) from error
        assert isinstance(said, Advanced), "it is the reply to an advance"
        if said.stuck is not None:
            code, text = said.stuck
            raise _STUCK.get(code, NondeterministicTurn)(text)
        try:
            self._stand(said)
        except (KeyError, StopIteration, msgspec.ValidationError) as error:
            self._home.give_up(f"it has said what cannot be of a turn: {error!r}")
            self.outlived = True
        return self.produced

    def _post(self) -> Post | None:
        """Return what the child has to know of the window; None when that is what it knows."""
        window = self._window
        letters, replies = [mail.number for mail in window.letters], [mail.number for mail in window.replies]
        passed_over, passed, absent = window.passes
        post = Post(letters, replies, [], passed_over, passed, absent)
        if post == self._posted:
            return None
        self._posted = post
        new = [mail for mail in (*window.letters, *window.replies) if mail.number not in self._there]
        self._there = frozenset((*letters, *replies))
        return msgspec.structs.replace(post, new=new)

    def _stand(self, said: Advanced) -> None:
        """Take in where the turn stands."""
        self.now, self.effects, self.steps, self.events = said.now, said.effects, said.steps, said.events
        self.waiting, self.takes_mail, self.outlived = said.waiting, said.takes_mail, said.outlived
        self.fields, self.finish, self.armed, self.awaited, self._due = said.fields, said.finish, said.armed, said.awaited, said.due
        if said.attributes is not None:
            self.attributes_found = frozenset(said.attributes)
        self._receiving = {
            id: self._receiving.get(id) or Operation(id, "receive", kinds=dict.fromkeys(kinds, bytes), where=bool if where else None)
            for id, kinds, where in said.receives
        }
        self.receives = list(self._receiving.values())
        if said.gone:
            self._take_out(set(said.gone))
        self._run(said.running)
        self._starts = [self.running[id] for id in said.starts]
        self._end(said.ended)
        if said.made is not None:
            self.produced = self._made(said.made)

    def _take_out(self, gone: set[int]) -> None:
        window = self._window
        for mails in (window.letters, window.replies):
            self._gone.update({mail.number: mail for mail in mails if mail.number in gone})
            mails[:] = [mail for mail in mails if mail.number not in gone]
        self._there -= gone
        assert self._posted is not None, "what it has taken was posted"
        left = [[number for number in numbers if number not in gone] for numbers in (self._posted.letters, self._posted.replies)]
        self._posted = msgspec.structs.replace(self._posted, letters=left[0], replies=left[1])

    def _run(self, running: Iterable[str]) -> None:
        before, self.running = self.running, {id: self.running.get(id) or Operation(id, "step") for id in running}
        for id, operation in before.items():
            if id not in self.running and id not in self._tasks:
                self._owner.dispatcher.drop_step(self.id.tenant, operation)

    def _end(self, ended: Iterable[str]) -> None:
        for id in ended:
            if self._tasks.pop(id, None) is not None:
                self._owner.dispatcher.step_over()

    def _made(self, made: Made) -> Produced:
        return Produced(
            events=made.events,
            effects=effects_in(made.effects),
            arm=made.arm,
            disarm=made.disarm,
            taken=[self._gone.pop(number) for number in made.taken],
            answers=made.answers,
            replies=[self._gone.pop(number) for number in made.replies],
            undecodable=[(self._gone.pop(number), text) for number, text in made.undecodable],
            binds=made.binds,
        )

    def bound(self, owners: Iterable[tuple[str, str, str]]) -> None:
        """Say how the committed requests for keys ended."""
        try:
            said = self._home.call(TakeBound(turn=self._number, now=self._home.clock.now(), owners=list(owners)))
        except ChildGone:
            return
        assert isinstance(said, Taken), "it is the reply to answers about keys"
        self._run(said.running)
        self._end(said.ended)

    def begin_step(self, operation: Operation) -> asyncio.Future[Any]:
        """Let the child begin a step; what is returned stands for it among what runs."""
        self._home.send(Begin(turn=self._number, step=operation.id, now=self._home.clock.now()))
        return self._owner.loop.create_future()

    def moved(self, frame: Moved) -> None:
        """Take in what has become of steps meanwhile."""
        self._end(frame.ended)
        self._start([self.running[id] for id in frame.again if id in self.running])
        if frame.pump:
            self._pump()

    def leave(self) -> None:
        """Leave memory, if it has not ended."""
        if self._home.turns.pop(self._number, None) is None:
            return
        if self.finish is None and self._opening is None:
            self._home.send(Leave(turn=self._number))
        self._end(list(self._tasks))
        self._receiving, self.receives = {}, []

    # --- what it says of itself --------------------------------------------------------------------------

    def take(self) -> Produced:
        """Hand over what has to be committed."""
        produced, self.produced = self.produced, Produced()
        produced.starts = self.take_starts()
        return produced

    def take_starts(self) -> list[Operation]:
        """Hand over the steps to begin."""
        starts, self._starts = self._starts, []
        return starts

    @property
    def done(self) -> bool:
        """Whether it has ended, with `finish`."""
        return self.finish is not None

    @property
    def awaits(self) -> tuple[str, ...]:
        """The kinds that it would take out of the mailbox now."""
        return tuple(kind for operation in self._receiving.values() for kind in operation.kinds)

    @property
    def steps_under_way(self) -> int:
        """The number of steps that were handed over and have not ended."""
        return len(self.running)


AnyTurn = Turn | RemoteTurn
AnyType = ProcessType | RemoteType
AnyHandler = HandlerOf | RemoteHandler


def opening_of(
    id: TurnId,
    process_type: str,
    *,
    kind: str,
    payload: bytes,
    recorded: Iterable[tuple[Micros, Event]],
    timers: Mapping[str, Micros] | None,
    **given: Any,
) -> Open:
    """Return what opens a turn in a child."""
    return Open(
        tenant=id.tenant,
        process=id.process,
        process_type=process_type,
        ref=id.message,
        kind=kind,
        payload=payload,
        recorded=[(at, encode_event(event)) for at, event in recorded],
        timers=None if timers is None else dict(timers),
        **given,
    )
