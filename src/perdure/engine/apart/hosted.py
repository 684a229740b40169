"""The child's side of one turn: the code runs here, and what it makes is told to the engine.

Source: docs/isolation.md.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from perdure.clock import Micros
from perdure.conversations.events import Event, TimerFired, decode_event
from perdure.engine.apart.frames import Advance, Advanced, Made, Moved, Open, Post, Unsure, effects_out
from perdure.engine.app import HandlerOf, ProcessType
from perdure.engine.attributes import attributes_after
from perdure.engine.endings import ending
from perdure.engine.operation import Input, Operation, Produced
from perdure.engine.stage import Stage
from perdure.engine.turn import Turn
from perdure.errors import DeadlockedTurn, NondeterministicTurn, PerdureError
from perdure.messages.mail import Mail

if TYPE_CHECKING:
    from perdure.engine.apart.child import Child
    from perdure.engine.owner import Owner
    from perdure.engine.process_log import LogType


class _Mailbox:
    """What the engine has in its window, and who may take it; of a `Window`, what a turn uses."""

    def __init__(self) -> None:
        self.letters: list[Mail] = []
        self.replies: list[Mail] = []
        self._passed_over = False
        self._passed: frozenset[str] = frozenset()
        self._absent: frozenset[str] = frozenset()

    def put(self, post: Post) -> None:
        """Have what the engine has."""
        known = {mail.number: mail for mail in (*self.letters, *self.replies, *post.new)}
        self.letters[:] = [known[number] for number in post.letters]
        self.replies[:] = [known[number] for number in post.replies]
        self._passed_over, self._passed, self._absent = post.passed_over, frozenset(post.passed), frozenset(post.absent)

    def gives_to(self, operation: Operation) -> bool:
        """Return whether this one may take what is here, as `Window.gives_to` does."""
        if not self._passed_over or operation.id in self._passed:
            return True
        return operation.where is None and self._absent.issuperset(operation.kinds)

    @property
    def numbers(self) -> list[int]:
        """What is here."""
        return [mail.number for mail in (*self.letters, *self.replies)]


class Hosted(Stage):
    """One turn in a child.

    Args:
        child: where it is.
        number: that the engine calls it by.
        made: its process type.
        opening: what it is opened with.
    """

    held = False

    def __init__(self, child: Child, number: int, made: ProcessType, opening: Open) -> None:
        self.owner = cast("Owner", child)  # of an owner, a child has what a stage uses
        self._child = child
        self._number = number
        self.tenant_id, self.process_id, self.ref = opening.tenant, opening.process, opening.ref
        self.type = made
        self.turn = None
        self.left = False
        self.mailbox = _Mailbox()
        self.window = cast("Any", self.mailbox)
        self._handler = made.handlers[opening.kind]
        self._process = None
        self._found, self._saved = opening.found, opening.saved
        self._tasks = {}
        self._begun: set[str] = set()
        self._again: list[str] = []
        self._outcomes: list[tuple[Turn, Operation, Any, BaseException | None]] = []
        self._telling = False
        self._moves = False
        self._stuck: Exception | None = None
        self._open(opening)

    def _open(self, opening: Open) -> None:
        recorded: list[tuple[Micros, Event]] = [(at, decode_event(data, stream=self.process_id, seq=0)) for at, data in opening.recorded]
        turn = self._enact(
            opening.payload,
            frozenset(opening.attributes),
            at=opening.at,
            recorded=recorded,
            effects_done=opening.effects_done,
            more=opening.more,
            timers=opening.timers,
        )
        if turn is None:
            return
        assert isinstance(turn, Turn), "it is here"
        turn.read_log = self._read_log
        self.turn = turn

    async def _read_log(self, of: LogType, after: int, length: int, limit: int) -> list[Any]:
        return [of.decode(data) for data in await self._child.read_log(self._number, of.name, after, length=length, limit=limit)]

    # --- what the engine asks ---------------------------------------------------------------------------

    def advance(self, frame: Advance) -> Advanced:
        """Let the turn go on, and say where it stands."""
        if frame.post is not None:
            self.mailbox.put(frame.post)
        turn, before = self.turn, self.mailbox.numbers
        failure: BaseException | None = None
        try:
            self._feed(frame)
            assert isinstance(turn, Turn), "it is not stuck"
            turn.advance()
        except (NondeterministicTurn, DeadlockedTurn) as error:
            return Advanced(stuck=(error.code, str(error)), ended=self._told())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a limit or a predicate of the user's: this turn has failed, others go on
            failure = error
        assert isinstance(turn, Turn), "it is not stuck"
        left = set(self.mailbox.numbers)
        gone = [number for number in before if number not in left]
        if turn.outlived and failure is None:
            return Advanced(outlived=True, gone=gone, running=[*turn.running], ended=self._told(), now=turn.now, due=turn.due)
        return self._stands(turn, failure, gone)

    def _feed(self, frame: Advance) -> None:
        if self._stuck is not None:
            raise self._stuck
        turn = self.turn
        assert isinstance(turn, Turn), "it is here"
        if frame.cancel is not None:
            turn.cancel(frame.cancel)
        outcomes, self._outcomes = self._outcomes, []
        for outcome in outcomes:
            super()._stepped(*outcome)
        self._moves = False  # it goes on now
        for timer in frame.rung:
            turn.feed(_rung(timer))

    def _stands(self, turn: Turn, failure: BaseException | None, gone: list[int]) -> Advanced:
        assert isinstance(self.type, ProcessType), "it is here"
        assert isinstance(self._handler, HandlerOf), "so is its handler"
        fields: bytes | None = None
        if self.type.durable and failure is None:
            try:
                fields = self._fields()
            except PerdureError as error:
                failure = error
        finish = ending(turn, self._handler, self.type, failure) if failure is not None or turn.done else None
        waiting, takes_mail = finish is None and turn.waiting, turn.takes_mail
        armed, awaited = (turn.armed, turn.awaited) if finish is not None else ([], [])
        receives = [(one.id, [*one.kinds], one.where is not None) for one in turn.receives]
        if finish is not None:
            turn.leave()
        produced = turn.take()
        answer = Advanced(
            now=turn.now,
            effects=turn.effects,
            steps=turn.steps,
            events=turn.events,
            waiting=waiting,
            takes_mail=takes_mail,
            fields=fields,
            finish=finish,
            attributes=None if finish is None else sorted(attributes_after(turn, ok=finish.outcome == "ok")),
            armed=armed,
            awaited=awaited,
            receives=receives,
            due=turn.due,
            running=[*turn.running],
            gone=gone,
            made=_made(produced) if produced else None,
            starts=[operation.id for operation in produced.starts],
            ended=self._told(),
        )
        if finish is not None:
            self.leave()
        return answer

    def begin(self, step: str) -> None:
        """Run a step that was handed over."""
        turn = self.turn
        assert isinstance(turn, Turn), "it is here"
        operation = turn.running.get(step)
        self._begun.add(step)
        if operation is None:  # it was called off meanwhile
            self._moved()
        else:
            self._begin_step(turn, operation)

    def bound(self, owners: list[tuple[str, str, str]]) -> tuple[list[str], list[str]]:
        """Take in answers about keys; return what runs and what has ended."""
        turn = self.turn
        assert isinstance(turn, Turn), "it is here"
        turn.bound(owners)
        return [*turn.running], self._told()

    def leave(self) -> None:
        """Drop it from memory."""
        self.left = True
        self._child.turns.pop(self._number, None)
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.leave()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    # --- what a stage asks ------------------------------------------------------------------------------

    def stuck(self, error: Exception) -> None:
        """Say so when the turn is to advance."""
        self._stuck = error

    def unsure(self) -> None:
        """Let the engine read the process again."""
        self._child.tell(Unsure(turn=self._number))

    def pump(self) -> None:
        """Let the engine know that the turn can go on: it advances when the engine says so."""
        self._moves = True
        self._moved()

    proceed = pump

    def _start(self, starts: list[Operation]) -> None:
        self._again += [operation.id for operation in starts]
        self._moved()

    def _stepped(self, turn: Turn, operation: Operation, result: Any, error: BaseException | None) -> None:
        """Keep an outcome until the turn is to advance: then it is known how late it is."""
        if not self.left:
            self._outcomes.append((turn, operation, result, error))
            self.pump()

    def _may_begin(self) -> bool:
        if not self._child.asks or threading.get_ident() == self._child.thread:
            return True
        return self._child.may_begin(self._number)

    # --- what the engine is told --------------------------------------------------------------------------

    def _moved(self) -> None:
        """Tell what has become of steps, in a moment: more may have."""
        if not self._telling:
            self._telling = True
            self._child.loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        moves, self._moves = self._moves, False
        again, self._again = self._again, []
        ended = self._told()
        if not self.left and (moves or again or ended):
            self._child.tell(Moved(turn=self._number, ended=ended, again=again, pump=moves))

    def _told(self) -> list[str]:
        """Return the steps that run no more, each once."""
        ended = [step for step in self._begun if step not in self._tasks]
        self._begun.difference_update(ended)
        return ended


def _rung(timer: str) -> Input:
    return Input(timer, lambda turn, operation: TimerFired(turn.id.message, operation.id))


def _made(produced: Produced) -> Made:
    return Made(
        produced.events,
        effects_out(produced.effects),
        produced.arm,
        produced.disarm,
        [mail.number for mail in produced.taken],
        produced.answers,
        [mail.number for mail in produced.replies],
        [(mail.number, text) for mail, text in produced.undecodable],
        produced.binds,
    )
