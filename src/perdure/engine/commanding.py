"""Commands of processes: created with the turn's commit, and ended in the transaction that resumes the turn.

Source: engine.md, "Verbs of a turn"; commands.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from perdure import limits
from perdure.blobs.contract import BlobStore
from perdure.blobs.tables import DUE_TOPIC as BLOBS_DUE
from perdure.blobs.writes import is_there
from perdure.clock import Micros
from perdure.commands.contract import CommandEnd, CommandRegistry
from perdure.commands.queueing import DONE, DUE_TOPIC, NOT_DONE, RESULT, End, Ended, blob_of, end_of, response_of
from perdure.commands.states import TERMINAL, CommandState
from perdure.commands.tables import BODY, COMMAND
from perdure.commands.writes import Cancel, NewCommand, create
from perdure.core.access import Access
from perdure.core.view import View
from perdure.engine.effects import CommandEffect
from perdure.engine.handling import Handling, message_key
from perdure.errors import BlobNotFound, StoreError
from perdure.headers import traceparent_of
from perdure.packages.contract import PackageStore
from perdure.packages.tables import DUE_TOPIC as PACKAGES_DUE
from perdure.replies import Asker, await_reply, post_reply
from perdure.store import APART

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger: Final = logging.getLogger("perdure.engine")
_decode_headers: Final = msgspec.json.Decoder(dict[str, str]).decode


def send_command(handling: Handling, effect: CommandEffect, asker: Asker) -> None:
    """Create a command and let its end come to the turn; a turn that was restarted finds it as it is."""
    view, key = handling.view, COMMAND.key(asker.tenant_id, effect.command_id)
    row = view.get(key)
    if row is not None and row.state in TERMINAL:
        body = view.get(BODY.key(*key.parts, RESULT))
        if row.state == CommandState.SUCCEEDED:
            post_reply(view, handling.notes, asker, outcome=DONE, response=b"null" if body is None else response_of(body))
        else:
            post_reply(view, handling.notes, asker, outcome=NOT_DONE, response=end_of(row))
        return
    blob = blob_of(effect.params)
    if row is None and blob is not None and not is_there(view, asker.tenant_id, blob):
        # A refusal would end the commit of the whole turn; its code hears of it as of any command that was not done.
        end = CommandEnd(state=CommandState.FAILED, code=BlobNotFound.code, message=f"there is no blob {blob.sha256} for its params")
        post_reply(view, handling.notes, asker, outcome=NOT_DONE, response=msgspec.json.encode(end))
        return
    await_reply(view, effect.command_id, asker)
    if row is None:
        create(
            view,
            NewCommand(
                tenant_id=asker.tenant_id,
                command_id=effect.command_id,
                deployment_id=effect.deployment_id,
                target=effect.target,
                name=effect.name,
                state=CommandState.PENDING,
                params=effect.params,
                request_size=effect.params.size,
                retry=effect.retry,
                priority=effect.priority,
                delay=effect.delay,
                deadline=effect.deadline,
                traceparent=_trace_of(view, asker),
                actor=f"process {asker.process_id}"[: limits.ACTOR_MAX],
            ),
            ended=_answering(handling),
            apart=APART,
        )


def _trace_of(view: View, asker: Asker) -> str:
    """Return the trace that the message of the turn came with."""
    message = view.get(message_key(asker.tenant_id, asker.turn_ref))
    return "" if message is None or message.headers is None else traceparent_of(_decode_headers(message.headers))


def stop_command(handling: Handling, tenant_id: str, command_id: str, *, asked_by: str) -> None:
    """Ask for a command not to be done: its process waits for it no more."""
    actor = f"process {asked_by}"[: limits.ACTOR_MAX]
    key = COMMAND.key(tenant_id, command_id)
    if handling.view.get(key) is not None:
        stop = Cancel(key=key, reason="its process waits for it no more", actor=actor, ended=_answering(handling))
        stop.decide(handling.view)


def _answering(handling: Handling) -> Ended:
    def answer(_view: View, end: End) -> None:
        handling.answer(end.tenant_id, end.command_id, outcome=end.outcome, response=end.response)

    return answer


class DueClock:
    """Does what is due, and waits until there is more.

    Args:
        access: of the store.
        owner: of this engine; whoever leads does what is due.
        topic: that is signalled when something is due earlier than was known.
        what: for the log.
        next_due: when something is due; None when nothing is.
        settle: what does it.
    """

    def __init__(
        self,
        access: Access,
        owner: Owner,
        topic: str,
        *,
        what: str,
        next_due: Callable[[], Awaitable[Micros | None]],
        settle: Callable[[Micros], Awaitable[int]],
    ) -> None:
        self._access = access
        self._owner = owner
        self._topic = topic
        self._what = what
        self._next_due = next_due
        self._settle = settle

    async def run(self) -> None:
        """Go on until it is cancelled."""
        clock = self._access.clock
        with self._access.signals.listen(self._topic) as listener:
            while True:
                again: Micros | None = None
                try:
                    again = await self._look()
                except StoreError as error:
                    logger.warning("what is due for %s: %s; the next look is soon", self._what, error)
                    again = clock.now() + limits.STALL_US
                except Exception:  # an edge: whatever it is, others have their time, too
                    logger.exception("what is due for %s could not be done; the next look is soon", self._what)
                    again = clock.now() + limits.STALL_US
                await listener.wait(again)

    async def _look(self) -> Micros | None:
        """Do what is due, and return when to look again."""
        clock = self._access.clock
        due = await self._next_due()
        if due is None or due > clock.now():
            return due
        if not self._owner.rules.leads:  # whoever leads does it; this one looks on, in case it comes to lead
            return clock.now() + limits.COMMAND_LOOK_US
        await self._settle(clock.now())
        return clock.now()


def command_clock(access: Access, commands: CommandRegistry, owner: Owner) -> DueClock:
    """Return what does what is due for commands: deadlines and leases that ran out, delays that are over.

    A lease looks at its own queue, so that nothing waits for this; it is for those for whom nobody asks.
    """
    return DueClock(access, owner, DUE_TOPIC, what="commands", next_due=commands.next_due, settle=commands.expire_due)


def blob_clock(access: Access, blobs: BlobStore, owner: Owner) -> DueClock:
    """Return what removes uploads that were cut, and blobs that nobody refers to."""
    return DueClock(access, owner, BLOBS_DUE, what="blobs", next_due=blobs.next_due, settle=blobs.sweep)


def package_clock(access: Access, packages: PackageStore, owner: Owner) -> DueClock:
    """Return what removes uploads of archives that were cut, and the parts of archives that are gone."""
    return DueClock(access, owner, PACKAGES_DUE, what="packages", next_due=packages.next_due, settle=packages.sweep)
