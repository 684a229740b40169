"""One process in its owner's memory: its open turn, the commits under way, and the steps that run.

Source: engine.md, "Ahead of the disk"; "States, memory, recovery".
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.attributes import names_found
from perdure.conversations.events import Event, ProcessingFinished, TimerFired, encode_event
from perdure.conversations.tables import ProcessStatus
from perdure.engine.apart.remote import AnyTurn, RemoteTurn
from perdure.engine.attributes import attributes_after
from perdure.engine.endings import ending, runs_already
from perdure.engine.flush import Finish, Flush, Flushed, TurnKeys, chunks, may_come_later, turn_keys
from perdure.engine.operation import Input, Operation
from perdure.engine.stage import Stage
from perdure.engine.window import Window
from perdure.errors import (
    DeadlockedTurn,
    NondeterministicTurn,
    PerdureError,
    SequenceConflict,
)
from perdure.messages.mail import Mail
from perdure.messages.tables import MailboxRow

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


class Resident(Stage):
    """The owner's side of one process while it has a turn or a commit under way."""

    # What most never have: with more than 30 attributes of its own, each would have a dictionary of 1.5 kB.
    alone = False
    _cancel: str | None = None
    _refused = 0
    _looks_on = False
    _looked_at: tuple[str, int] | None = None
    package: str | None = None  # it has its code from `Versions.take`

    def __init__(self, owner: Owner, tenant_id: str, process_id: str) -> None:
        self.owner = owner
        self.tenant_id = tenant_id
        self.process_id = process_id
        self.lease = owner.shards.lease_of(tenant_id, process_id)
        self.turn = None
        self.window = Window()
        self.head = 0
        self.has_slot = False  # a slot of the dispatcher's
        self.rests_until: Micros = 0
        self.replayed_in: Micros = 0
        self.loading = False
        self.left = False
        self.resumed = False
        self.missed = False
        self.held = False
        self._process = None
        self._handler = None
        self._found = None
        self._saved = None
        self.ref = ""
        self._keys: TurnKeys | None = None
        self._stored_waiting = False
        self._tasks = {}
        # Commits that are not durable yet, in order: the first ones are with the writer, or were refused by a full disk.
        self._unsaved: list[tuple[Flush, list[Operation]]] = []
        self._submitted = 0

    # --- opening a turn ----------------------------------------------------------------------------

    def open(
        self,
        ref: str,
        kind: str,
        payload: bytes,
        *,
        head: int,
        at: Micros,
        found: bytes | None,
        attributes: frozenset[str] | str = "",
        saved: bytes | None = None,
        recorded: Iterable[tuple[Micros, Event]] = (),
        timers: Mapping[str, Micros] | None = None,
        effects_done: int = 0,
        more: bool = False,
        waiting: bool = False,
    ) -> None:
        """Run the handler of a message from its beginning; what was recorded is replayed."""
        self.ref, self._keys, self.head, self._found = ref, None, head, found
        self._saved = found if saved is None else saved
        self._stored_waiting = waiting
        self.resumed = False  # the turn itself tells now that it has to be left
        self._handler = self.type.handlers[kind]
        names = names_found(attributes) if isinstance(attributes, str) else attributes
        turn = self._enact(payload, names, at=at, recorded=recorded, effects_done=effects_done, more=more, timers=timers)
        if turn is None:
            return
        self.turn = turn
        if self._cancel is not None:
            turn.cancel(self._cancel)
        self.pump()

    # --- inputs ----------------------------------------------------------------------------------------

    def post(self, mail: Mail, *, wakes: bool = False) -> None:
        """Take in a message that was queued; `wakes`: the commit that queued it has made the process runnable."""
        if self.held:  # it stays in the store until the process goes on
            return
        if self.loading:
            self.window.announce(mail.number)
            self.missed = self.missed or wakes
            return
        if wakes:
            self._stored_waiting = False
        gap = mail.number > self.window.seen + 1 and not self.window.more
        if self.window.post(mail) or wakes or gap:  # beside a gap, a process without an app, a command line, say, has queued some
            self.proceed()

    def read(self, reading: object, letters: Iterable[Mail], *, mailbox: MailboxRow, whole: bool) -> None:
        """Take in what was read of the mailbox, unless the window has moved meanwhile."""
        if self.left or self.held or self.window.reading is not reading:
            return
        self.window.put(letters, last=mailbox.last, whole=whole)
        if mailbox.cancelled is not None and self._cancel is None:
            self.cancel(mailbox.cancelled, mailbox.last)
        self.proceed()

    def cancel(self, reason: str, number: int) -> None:
        """Take in that somebody asked the process to stop, with the number of that request among the mail."""
        self._cancel = reason
        if self.loading:
            self.missed = True
            return
        self.window.skip(number)
        self._stored_waiting = False
        if self.turn is not None:
            self.turn.cancel(reason)
        self.proceed()

    def roused(self) -> None:
        """Take in that another has made the process runnable: that it waits has to be stored again."""
        if self.left or self.held or self.loading:
            return
        self._stored_waiting = False
        self.window.more = True
        self.window.reading = None  # that may have begun too early
        self.owner.read_on(self)

    def hold(self) -> None:
        """Begin nothing more: the process is paused."""
        self._keep_still()
        if self.owner.dispatcher.waits(self.tenant_id, self.process_id):
            self.pump()  # what its steps have done is recorded all the same
        self.owner.settled(self)

    def _keep_still(self) -> None:
        # What has come stays in the store, too, and no commit may say that its owner has seen it: the process is read again.
        self.held = True
        self.window.shut()

    def due(self, timer_id: str, when: Micros) -> None:
        """Take in that a timer is due, unless that is known already."""
        self.missed = self.missed or self.loading
        if self.turn is not None and not self.loading and not self.held and self.turn.expects(timer_id, when):
            self.turn.feed(Input(timer_id, lambda turn, operation: TimerFired(turn.id.message, operation.id)))
            self.proceed(timer=True)

    def proceed(self, *, timer: bool = False) -> None:
        """Go on with the turn, now or when there is a slot for it; `timer`: because one is due."""
        if self.turn is None or self.left or self.loading:
            return
        if self.has_slot or self.held or self.owner.dispatcher.admits(self, timer=timer):
            self.pump()

    def stuck(self, error: Exception) -> None:
        """Leave memory for good: the code does not fit the record."""
        self.owner.stuck(self, error)

    def unsure(self) -> None:
        """Leave memory, and be read again when it is sure whose the process is."""
        self.owner.unsure(self)

    def pump(self) -> None:
        """Run the turn to its next quiescence, and commit what it has made."""
        turn = self.turn
        if turn is None or self.left or self.loading:
            return
        try:
            turn.advance()
            if turn.outlived:
                return
        except (NondeterministicTurn, DeadlockedTurn) as error:
            self.stuck(error)
            return
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a limit or a predicate of the user's: this turn has failed, others go on
            self._commit(turn, error)
            return
        self._commit(turn, None)

    # --- committing -----------------------------------------------------------------------------------

    def _commit(self, turn: AnyTurn, failure: BaseException | None) -> None:
        fields: bytes | None = None
        if self.type.durable and failure is None:
            try:
                fields = turn.fields if isinstance(turn, RemoteTurn) else self._fields()
            except PerdureError as error:
                failure = error
        finish = ending(turn, self._handler, self.type, failure) if failure is not None or turn.done else None
        changed = fields if fields != self._saved else None
        waiting = finish is None and turn.waiting
        hidden = waiting and self.window.hides(turn)
        if finish is None and not turn.produced and changed is None and (hidden or waiting == self._stored_waiting):
            self._start_after_commits(turn.take_starts())
            self._rest(turn, hidden=hidden)
            return
        waiting = waiting and not hidden
        self._looks_on = hidden
        armed, awaited = (turn.armed, turn.awaited) if finish is not None else ([], [])
        if finish is not None:
            turn.leave()
        flush, starts = self._flush(turn, finish, changed, waiting=waiting, armed=armed)
        if finish is not None and finish.status == ProcessStatus.IDLE and not self.window.empty:
            flush = self._with_next(flush)
        if awaited:
            flush = msgspec.structs.replace(flush, forget=awaited)
        self.head += len(flush.events) + len(flush.binds)
        self._stored_waiting = waiting
        if changed is not None:
            self._saved = changed
        if len(flush.effects) > 1 and (len(flush.effects) > limits.EFFECTS_CHUNK or flush.size > limits.EFFECTS_CHUNK_BYTES):
            *parts, flush = chunks(flush)
            self._unsaved.extend((part, []) for part in parts)
        self._unsaved.append((flush, starts))
        self._submit()
        if finish is not None:
            self._after_finish(flush, finish, attributes_after(turn, ok=finish.outcome == "ok"))

    def _flush(
        self, turn: AnyTurn, finish: Finish | None, fields: bytes | None, *, waiting: bool, armed: list[str]
    ) -> tuple[Flush, list[Operation]]:
        if self._keys is None:
            self._keys = turn_keys(self.tenant_id, self.process_id, self.ref)
        produced = turn.take()
        failed = finish is not None and finish.outcome != "ok"
        if finish is not None:
            produced.replies.extend(self.window.replies)  # nobody will ask for them
            self.window.replies.clear()
            outcome = ProcessingFinished(self.ref, None, finish.outcome)
            produced.events.append((turn.now, encode_event(outcome)))
        flush = Flush(
            rules=self.owner.rules,
            keys=self._keys,
            tenant_id=self.tenant_id,
            process_id=self.process_id,
            ref=self.ref,
            head=self.head,
            now=turn.now,
            events=produced.events,
            effects=produced.stops if failed else produced.effects,
            effects_done=turn.effects,
            steps=turn.steps,
            arm={} if finish is not None else produced.arm,
            disarm=[*produced.disarm, *armed],
            taken=produced.taken,
            undecodable=produced.undecodable,
            binds=[] if finish is not None else produced.binds,
            fields=fields,
            waiting=waiting,
            awaits="\n".join(turn.awaits) if waiting else "",
            # Who awaits no message may wait whatever is in the mailbox.
            mail_seen=self.window.seen if not waiting or self.held or turn.takes_mail else limits.SEQUENCE_MAX,
            finish=finish,
            next=None,
            answers=produced.answers,
            replies=produced.replies,
            told=self._cancel is not None,
        )
        return flush, [] if finish is not None else produced.starts

    def _with_next(self, flush: Flush) -> Flush:
        """Let the flush that finishes a turn also open the next one, when a queued message starts one and nobody else waits for the slot."""
        window = self.window
        if not (window.passed_over or self.owner.dispatcher.crowded):
            for mail in window.letters:
                if mail.kind in self.type.handlers:
                    window.letters.remove(mail)
                    if window.low:
                        self.owner.read_on(self)
                    return msgspec.structs.replace(flush, next=mail)
            if not window.more:
                return flush
        return msgspec.structs.replace(flush, mail_seen=-1)  # the store looks for it

    def _after_finish(self, flush: Flush, finish: Finish, attributes: frozenset[str]) -> None:
        """Go on with the next turn ahead of the disk: its steps wait for every commit before them."""
        self.turn = None
        found = self._saved if finish.outcome == "ok" else self._found
        if flush.next is not None:
            self.owner.later(self._open_next, flush.next, found, attributes, flush.now)

    def _open_next(self, mail: Mail, found: bytes | None, attributes: frozenset[str], at: Micros) -> None:
        if not self.left:
            self.open(mail.ref, mail.kind, mail.payload, head=self.head + 2, at=at, found=found, attributes=attributes)

    def _submit(self) -> None:
        """Hand to the writer what may follow what it has: a commit without events does not move the head, so none behind it would miss it."""
        while self._submitted < len(self._unsaved) and not self._refused:
            if self._submitted and not self._unsaved[self._submitted - 1][0].moves_head:
                return
            flush, _ = self._unsaved[self._submitted]
            self._submitted += 1
            self.owner.submit(flush, flush.size, self._committed, flush, lease=self.lease)

    def _stall(self) -> None:
        """Nothing was written, for want of room or of a server: keep what the steps have done, and commit it when there is some."""
        self._refused += 1
        if not self._submitted:
            clock = self.owner.clock
            clock.call_at(clock.now() + limits.STALL_US, functools.partial(self.owner.later, self._submit_again))

    def _submit_again(self) -> None:
        self._refused = 0
        if not self.left:
            self._submit()

    def _committed(self, flush: Flush, results: Any, error: Exception | None) -> None:
        self._submitted -= 1
        if error is not None:
            self._not_committed(flush, error)
            return
        flushed: Flushed = results[0]
        _, starts = self._unsaved.pop(0)
        # Also when the process has left memory meanwhile: other processes, and who waits for an answer, have no part in that.
        if flushed.notes:
            notes = flushed.notes
            self.owner.route(notes if flush.next is None else [note for note in notes if not runs_already(flush.next, note)])
        if self.left:
            return
        if self._unsaved:
            self._submit()
        if flushed.held:
            self._keep_still()
        looks_on = self._looks_on and not (self._unsaved or self.held)
        if self.turn is not None and self.turn.id.message == flush.ref:
            self._go_on(self.turn, flush, flushed, starts)
        else:
            self._start(starts)
        if looks_on:
            self._looks_on = False
            self.pump()
        if self.turn is None or self._stored_waiting or self.held:
            self._keys = None  # one that waits needs none for long
            self.owner.settled(self)

    def _not_committed(self, flush: Flush, error: Exception) -> None:
        # What was to follow a refused commit finds the process where that one should have moved it.
        stopped = self.owner.store.access.writer.stopped
        if may_come_later(error, stopped=stopped) or (self._refused and isinstance(error, SequenceConflict)):
            self._stall()
        elif not self.left:
            self.owner.lost(self, flush.ref, error)

    def _go_on(self, turn: AnyTurn, flush: Flush, flushed: Flushed, starts: list[Operation]) -> None:
        """The turn's own commit is durable, and the turn is still open."""
        owners = flushed.owners
        if owners:
            turn.bound(owners)
        if self.held:
            if owners:  # what its steps have done meanwhile can be recorded now
                self.pump()
            return
        if flush.arm:
            self.owner.armed(flush.arm.values())
        missed = flush.waiting and not flushed.waits
        if missed and flush.mail_seen == limits.SEQUENCE_MAX and flush.told == (self._cancel is not None):
            self.roused()  # what it has not heard of is in its mailbox: to stop, or to be ended by force
            missed = False
        elif missed:
            self._stored_waiting = False
            self.window.more = self.window.more or self.window.seen == flush.mail_seen
        self._start(starts)
        if owners or missed:
            self.pump()

    @property
    def quiet(self) -> bool:
        """Whether nothing of it is under way: no turn, or one that waits and is stored so."""
        return not self._unsaved and (self.turn is None or self._stored_waiting)

    @property
    def stored_ref(self) -> str | None:
        """The message of its open turn, if that has nothing under way which the store does not know."""
        return None if self._unsaved or self.turn is None else self.ref

    @property
    def holds_still(self) -> bool:
        """Whether it is paused and all that it had begun is recorded."""
        return self.held and not self._unsaved and not self._tasks

    @property
    def runs_steps(self) -> bool:
        """Whether a step of it is under way."""
        return bool(self._tasks)

    # --- resting -------------------------------------------------------------------------------------

    def _rest(self, turn: AnyTurn, *, hidden: bool) -> None:
        """The turn has nothing to commit. If it waits, what it waits for may lie outside of the window; else nothing is under way."""
        if hidden and self._unsaved:
            self._looks_on = True  # what those commits take is still in the mailbox
        elif hidden:
            if self.window.reading is None:
                self.window.move(turn.receives)
                self.owner.read_on(self)
        elif self._stored_waiting:
            self.owner.settled(self)

    @property
    def rests(self) -> bool:
        """Whether it may leave memory: it waits, and what comes for it comes through the store."""
        return (
            self.turn is not None
            and not (self.left or self.loading or self.has_slot or self.window.reading)
            and self.quiet
            and not self.owner.dispatcher.waits(self.tenant_id, self.process_id)
        )

    @property
    def replay_time(self) -> Micros:
        """How long it would take to come back."""
        return max(self.replayed_in, 0 if self.turn is None else self.turn.events * limits.REPLAY_EVENT_US)

    def only_steps(self) -> bool:
        """Return whether it does nothing but wait for steps under way, and has done nothing else since this was asked last."""
        if (turn := self.turn) is None or self.loading or self._unsaved or not self._tasks or len(self._tasks) < turn.steps_under_way:
            self._looked_at = None
            return False
        before, self._looked_at = self._looked_at, (self.ref, turn.events)
        return before == self._looked_at

    # --- steps ---------------------------------------------------------------------------------------

    def _start_after_commits(self, starts: list[Operation]) -> None:
        if self._unsaved:
            self._unsaved[-1][1].extend(starts)
        else:
            self._start(starts)

    # --- leaving -------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Drop it from memory; what is not committed is replayed when it is loaded again."""
        self.left = True
        self.owner.versions.give_back(self)
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.leave()
        for task in self._tasks.values():
            task.add_done_callback(self.owner.dispatcher.step_over)
            task.cancel()
        self._tasks.clear()
