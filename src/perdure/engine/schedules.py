"""Schedules as people make and see them: declared by an app, or made at run time and kept in the store.

Source: engine.md, "Schedules".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.core.table import Scan
from perdure.core.write import Write
from perdure.engine.addressing import Address, Request, checked_address
from perdure.engine.firing import Trigger, notes_of, payload_of
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.engine.notes import NO_APP, Note, Rules
from perdure.engine.process import micros
from perdure.engine.searching import checked_limit
from perdure.errors import DefinitionError, PayloadInvalid, PayloadTooLarge, ScheduleNotFound, UsageError
from perdure.identity import DEFAULT_TENANT, MessageId, TenantId, checked_text
from perdure.packages.routes import default_of
from perdure.packages.tables import ROUTE
from perdure.store import Store
from perdure.timers.schedules import Delete, Firing, Pause, Put, Resume, Retire, recent_of
from perdure.timers.slots import EVERY, delay_of, next_slot, pattern_of, zone_named
from perdure.timers.tables import DECLARED, SCHEDULE, SCHEDULES, Definition, ScheduleRow, ScheduleStatus

if TYPE_CHECKING:
    from perdure.engine.app import App

R = TypeVar("R")
Overlap = Literal["skip", "queue", "cancel_previous", "allow"]
CatchUp = Literal["all", "last", "none"]
_OVERLAPS: Final = ("skip", "queue", "cancel_previous", "allow")
_CATCH_UPS: Final = ("all", "last", "none")
WINDOW: Final = timedelta(microseconds=limits.SCHEDULE_WINDOW_MAX_US)


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When a schedule fires, and what happens when slots meet or are missed. Checked by `checked`."""

    cron: str | None = None
    interval: timedelta | float | None = None
    tz: str | None = None
    overlap: Overlap = "skip"
    queue_limit: int = limits.SCHEDULE_QUEUE_MAX
    catch_up: CatchUp = "last"
    window: timedelta | float = WINDOW
    jitter: timedelta | float = 0

    def checked(self) -> dict[str, Any]:
        """Return its part of a Definition. Raises DefinitionError, UsageError."""
        if (self.cron is None) == (self.interval is None):
            raise DefinitionError("a schedule has a cron expression or interval=, and not both")
        if self.overlap not in _OVERLAPS or self.catch_up not in _CATCH_UPS:
            raise DefinitionError(
                f"overlap is one of {_OVERLAPS} and catch_up one of {_CATCH_UPS}, found {self.overlap!r} and {self.catch_up!r}"
            )
        if not 1 <= self.queue_limit <= limits.SCHEDULE_QUEUE_MAX:
            raise DefinitionError(f"queue_limit is 1 to {limits.SCHEDULE_QUEUE_MAX} slots, found {self.queue_limit}")
        expression, tz = self._expression()
        return {
            "expression": expression,
            "tz": tz,
            "overlap": self.overlap,
            "queue_max": self.queue_limit if self.overlap == "queue" else 0,
            "catch_up": self.catch_up,
            "catch_up_window": _bounded(self.window, "window", limits.SCHEDULE_WINDOW_MAX_US),
            "jitter": _bounded(self.jitter, "jitter", self._jitter_most()),
        }

    def _jitter_most(self) -> Micros:
        # A slot that is later than the next one would be taken for one that was missed.
        most = limits.SCHEDULE_JITTER_MAX_US
        return most if self.interval is None else min(most, micros(self.interval))

    def _expression(self) -> tuple[str, str]:
        if self.cron is not None:
            if not isinstance(self.cron, str):
                raise DefinitionError(f"a cron expression is text, found {self.cron!r}")
            expression, tz = " ".join(self.cron.split()), self.tz or "UTC"
            zone_named(tz)
        else:
            assert self.interval is not None, "one of the two is there"
            if self.tz is not None:
                raise DefinitionError("interval= counts real time and knows no time zone; leave tz= out, or use a cron expression")
            expression, tz = f"{EVERY}{micros(self.interval)}", "UTC"
        pattern_of(expression, tz)
        return expression, tz


def _bounded(duration: timedelta | float, what: str, most: Micros) -> Micros:
    found = micros(duration)
    if found > most:
        raise DefinitionError(f"{what} is at most {timedelta(microseconds=most)}, found {timedelta(microseconds=found)}")
    return found


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What `@app.schedule` or `app.schedule(…)` has declared."""

    id: str
    tenant: str
    target: object
    args: tuple[Any, ...] = ()
    to: Address | None = None
    timing: Timing


def defined(app: App, declaration: Declaration, *, declared_by: str, routed: bool = False) -> Definition:
    """Return the definition of a schedule; `routed`: its message starts a process of a type that a package has.

    Raises:
        DefinitionError: it cannot work; the text says what to change.
        InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, UnknownProcessType, NoRoute: likewise.
    """
    what = f"schedule {declaration.id!r}"
    TenantId(declaration.tenant)
    checked_text(declaration.id, what="schedule id", limit=limits.SCHEDULE_ID_MAX)
    address, request, takes_slot = _sends(app, declaration, what, routed=routed)
    if declaration.timing.overlap == "cancel_previous" and (address.way != "start" or address.name):
        raise DefinitionError(f"{what}: overlap='cancel_previous' is for slots that start a process of their own; choose another one")
    if len(request.payload) > limits.SCHEDULE_PAYLOAD_MAX:
        raise PayloadTooLarge(f"the message of {what}", size=len(request.payload), limit=limits.SCHEDULE_PAYLOAD_MAX)
    return Definition(
        **declaration.timing.checked(),
        declared_by=declared_by,
        way=address.way,
        target=address.name,
        process_type=address.process_type,
        kind=request.kind,
        payload=request.payload,
        takes_slot=int(takes_slot),
    )


def _sends(app: App, declaration: Declaration, what: str, *, routed: bool) -> tuple[Address, Request, bool]:
    """Return where a schedule's message goes, the message, and whether the slot's time is added to it."""
    target = declaration.target
    if not callable(target) or isinstance(target, msgspec.Struct):
        if declaration.args:
            raise UsageError(f"{what}: a message has no arguments beside it")
        kind, payload = kind_of(checked_message_type(type(target))), encoded_message(target)
        address = app.route(target) if declaration.to is None else checked_address(declaration.to)
        if address.way == "start":
            if address.process_id is not None:
                raise DefinitionError(f"{what}: each slot starts a process of its own; give Address.start a key=, or nothing")
            if not routed and kind not in app.type_named(address.process_type).handlers:
                raise DefinitionError(f"{what}: {address.process_type} has no handler for {kind!r}, so nothing can start with it")
        return address, Request("", kind, payload, None), False
    made, handler = app.handler(target)
    if handler.handles is not None or declaration.to is not None:
        raise DefinitionError(f"{what}: a function process is started, anything else gets a message: pass the message, and to=")
    if handler.arguments - len(declaration.args) not in (0, 1):
        raise DefinitionError(
            f"{what}: {made.name} takes {handler.arguments} arguments besides the process; a schedule brings "
            f"{len(declaration.args)}, and the slot's time as one more if there is room for it"
        )
    takes_slot = handler.arguments > len(declaration.args)
    payload = JSON.encode(declaration.args)
    try:
        decoded = handler.decode(payload_of(payload, 0 if takes_slot else None))
    except PayloadInvalid as error:
        raise DefinitionError(f"{what}: {made.name} cannot take its arguments: {error}; the slot's time is a datetime") from error
    if takes_slot and not isinstance(decoded[-1], datetime):  # a text would take it in silence
        raise DefinitionError(f"{what}: the last argument of {made.name} is the slot's time; annotate it as datetime, or pass a value")
    return Address.start(made.name), Request(made.name, handler.kind, payload, None), takes_slot


async def declare(store: Store, app: App) -> None:
    """Bring the store's schedules up to what the app declares; those that it declares no more do not fire again.

    Raises:
        DefinitionError, ScheduleConflict: one of them cannot be; the engine does not start.
    """
    access = store.access
    declared = {(each.tenant, each.id): defined(app, each, declared_by=app.name) for each in app.schedules}
    now = access.clock.now()
    puts = [
        access.writer.run(Put(tenant_id, schedule_id, definition, next_slot(definition.expression, definition.tz, now), over=True))
        for (tenant_id, schedule_id), definition in declared.items()
    ]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    after: tuple[Any, ...] | None = None
    while rows := await access.reader.scan(Scan(DECLARED, (app.name,), limits.READ_PAGE, after=after)):
        for key, _ in rows:
            if key.parts not in declared:
                await access.writer.run(Retire(str(key.parts[0]), str(key.parts[1]), app.name))
        after = rows[-1][0].parts


class ScheduleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule as it is stored. Times are microseconds since the epoch, UTC.

    `next` are its firings to come, jitter and all; `recent` the last decisions, oldest first: `fired`, `skipped` because
    the one before it still ran, or `queued` behind it. `fired`, `skipped` and `missed` count slots since it was made;
    `missed` are those that catch-up dropped.
    """

    tenant_id: str
    schedule_id: str
    status: str
    expression: str
    tz: str
    overlap: str
    queue_limit: int
    catch_up: str
    window: Micros
    jitter: Micros
    declared_by: str
    address: str
    kind: str
    next: list[Micros]
    last_slot: Micros | None
    last_message: str
    waiting: int
    recent: list[Firing]
    fired: int
    skipped: int
    missed: int
    created_at: Micros
    updated_at: Micros


class Runs(Protocol):
    """Who commits for `Schedules`: an engine, or the store itself where no app is."""

    def __call__(self, write: Write[R], notes_of: Callable[[R], list[Note]], /) -> Awaitable[R]:
        """Commit a write and do what it asks of the owner."""
        ...


class Schedules:
    """The schedules of a store: `engine.schedules`. Those that an app declares are here, too.

    Args:
        store: whose.
        app: the process types; without one, nothing can be made.
        rules: what the app says.
        run: who commits.
    """

    def __init__(self, store: Store, *, app: App | None = None, rules: Rules = NO_APP, run: Runs | None = None) -> None:
        self._store = store
        self._app = app
        self._rules = rules
        self._run: Runs = run or self._alone

    async def _alone(self, write: Write[R], _notes_of: Callable[[R], list[Note]], /) -> R:
        return await self._store.access.writer.run(write)

    async def create(
        self,
        id: str,
        target: object,
        /,
        *args: object,
        to: Address | None = None,
        cron: str | None = None,
        interval: timedelta | float | None = None,
        tz: str | None = None,
        overlap: Overlap = "skip",
        queue_limit: int = limits.SCHEDULE_QUEUE_MAX,
        catch_up: CatchUp = "last",
        window: timedelta | float = WINDOW,
        jitter: timedelta | float = 0,
        tenant: str = DEFAULT_TENANT,
        over: bool = False,
    ) -> ScheduleInfo:
        """Make a schedule and keep it in the store; one that is there with the same definition stays as it is.

        Args:
            id: its name within the tenant, 1..200 bytes.
            target: a function process, which each slot starts; or a message, which each slot delivers.
            *args: the function's arguments. If it takes one more, it gets the slot's time there, a datetime in UTC.
            to: where the message goes; what the app's handlers say when not given.
            cron: five fields; or `interval`.
            interval: whole seconds, counted from the epoch in UTC.
            tz: the time zone of `cron`; UTC.
            overlap: `skip`, `queue` or `allow` a slot while the firing before has not ended, or `cancel_previous`.
            queue_limit: how many slots wait, at most.
            catch_up: after a time without an engine, `all` slots, the `last` one, or `none`.
            window: slots that are older are never caught up.
            jitter: each slot fires later by up to that much.
            tenant: whose it is.
            over: replace the definition of one that is there.

        Raises:
            DefinitionError, UsageError, InvalidIdentifier, PayloadTooLarge: it cannot work; nothing was written.
            ScheduleConflict: there is another one of this id, or code declares it.
        """
        if self._app is None:
            raise UsageError("a schedule is made by an engine, which knows the process types: engine.schedules.create(…)")
        timing = Timing(
            cron=cron,
            interval=interval,
            tz=tz,
            overlap=overlap,
            queue_limit=queue_limit,
            catch_up=catch_up,
            window=window,
            jitter=jitter,
        )
        declaration = Declaration(id=id, tenant=tenant, target=target, args=args, to=to, timing=timing)
        routed = isinstance(to, Address) and to.way == "start" and await self._is_routed(to.process_type)
        definition = defined(self._app, declaration, declared_by="", routed=routed)
        first = next_slot(definition.expression, definition.tz, self._store.access.clock.now())
        row = await self._run(Put(tenant, id, definition, first, over), _none)
        return _info(tenant, id, row)

    async def _is_routed(self, process_type: str) -> bool:
        return default_of(await self._store.access.reader.get(ROUTE.key(process_type))) is not None

    async def list(self, *, tenant: str = DEFAULT_TENANT, after: str | None = None, limit: int = limits.PAGE_DEFAULT) -> list[ScheduleInfo]:
        """Return a page of schedules by id. `after` is the last id of the page before. Raises UsageError."""
        checked_limit(limit)
        place = None if after is None else (after,)
        rows = await self._store.access.reader.scan(Scan(SCHEDULES, (TenantId(tenant),), limit, after=place))
        return [_info(tenant, str(key.parts[1]), row) for key, row in rows]

    async def describe(self, id: str, /, *, tenant: str = DEFAULT_TENANT) -> ScheduleInfo:
        """Return one schedule, with its next and last firings. Raises ScheduleNotFound."""
        return _info(tenant, id, await self._row(id, tenant))

    async def pause(self, id: str, /, *, tenant: str = DEFAULT_TENANT) -> ScheduleInfo:
        """Let a schedule fire no more until it is resumed; what it has started goes on. Harmless when it is paused.

        Raises ScheduleNotFound, IllegalTransition.
        """
        return _info(tenant, id, await self._run(Pause(TenantId(tenant), id), _none))

    async def resume(self, id: str, /, *, tenant: str = DEFAULT_TENANT) -> ScheduleInfo:
        """Let a paused schedule fire again, from its next slot on: slots of the pause are not caught up.

        Raises ScheduleNotFound, IllegalTransition.
        """
        while True:
            row = await self._row(id, tenant)
            first = next_slot(row.expression, row.tz, self._store.access.clock.now())
            resumed = await self._run(Resume(TenantId(tenant), id, row.expression, row.tz, first), _none)
            if resumed is not None:
                return _info(tenant, id, resumed)

    async def trigger(self, id: str, /, *, tenant: str = DEFAULT_TENANT) -> MessageId:
        """Fire a schedule now, paused or not, by its overlap policy; its slots stay. Returns the message's id.

        Raises:
            ScheduleNotFound: there is no such schedule.
            IllegalTransition: it is removed, or the firing before has not ended and the policy does not let another one wait.
        """
        trigger = Trigger(self._rules, TenantId(tenant), id, self._store.access.clock.now())
        return MessageId((await self._run(trigger, notes_of)).message_id)

    async def delete(self, id: str, /, *, tenant: str = DEFAULT_TENANT) -> None:
        """Forget a schedule; what it has started goes on. One that code declares is removed there, or paused.

        Raises ScheduleNotFound, ScheduleConflict.
        """
        await self._run(Delete(TenantId(tenant), id), _none)

    async def _row(self, id: str, tenant: str) -> ScheduleRow:
        row = await self._store.access.reader.get(SCHEDULE.key(TenantId(tenant), id))
        if row is None:
            raise ScheduleNotFound(f"no schedule {id!r} in tenant {tenant}")
        return row


def _none(_result: object) -> list[Note]:
    return []


def _info(tenant: str, id: str, row: ScheduleRow) -> ScheduleInfo:
    return ScheduleInfo(
        tenant_id=tenant,
        schedule_id=id,
        status=row.status,
        expression=row.expression,
        tz=row.tz,
        overlap=row.overlap,
        queue_limit=row.queue_max,
        catch_up=row.catch_up,
        window=row.catch_up_window,
        jitter=row.jitter,
        declared_by=row.declared_by,
        address=str(Address(row.way, row.target, row.process_type)),
        kind=row.kind,
        next=_next(id, row),
        last_slot=row.last_slot,
        last_message=row.last_message,
        waiting=row.queued,
        recent=recent_of(row),
        fired=row.fired,
        skipped=row.skipped,
        missed=row.missed,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _next(id: str, row: ScheduleRow) -> list[Micros]:
    if row.next_slot is None or row.status != ScheduleStatus.ACTIVE:
        return []
    slots = islice(pattern_of(row.expression, row.tz).after(row.next_slot - 1), limits.SCHEDULE_NEXT)
    return [slot + delay_of(id, slot, row.jitter) for slot in slots]
