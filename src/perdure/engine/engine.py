"""The engine: it accepts messages, runs the turns of the processes it owns, and answers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, TypeVarTuple, Unpack, overload

from perdure import limits
from perdure.core.ownership import Renew
from perdure.engine import queries
from perdure.engine.addressing import Address, Request, checked_address, checked_id
from perdure.engine.app import App
from perdure.engine.archive import Archive, Folder
from perdure.engine.awakeables import completing, failing
from perdure.engine.commanding import blob_clock, command_clock, package_clock
from perdure.engine.control import CancelProcess, PauseProcess, ResumeProcess, checked_reason
from perdure.engine.doors import Doors
from perdure.engine.encoded import encoded
from perdure.engine.inspecting import Inspecting
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.engine.moving import MoveProcess, Mover, Target
from perdure.engine.notes import Envelope, Receipt
from perdure.engine.outcomes import decode_error
from perdure.engine.owner import Owner
from perdure.engine.process import Process
from perdure.engine.pushing import Pusher
from perdure.engine.redriving import Redrive, Skip
from perdure.engine.restarting import Fork, RestartFrom
from perdure.engine.retention import Retention, Swept
from perdure.engine.schedules import Schedules, declare
from perdure.engine.sweeper import Sweeper, Sweeping
from perdure.engine.upkeep import PutSchemas
from perdure.errors import ReplyNotSingle, TurnFailed, UsageError
from perdure.identity import DEFAULT_TENANT, MessageId, ProcessId, TenantId, uuid7
from perdure.names import shown
from perdure.packages.arguments import checked_by, checked_hash
from perdure.packages.contract import UNKNOWN_ACTOR
from perdure.packages.routes import MakeRoutes
from perdure.packages.signing import TrustPolicy
from perdure.sending.targets import Allowed
from perdure.store import Store

S = TypeVar("S", bound=Process)
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Engine(Inspecting):
    """Runs an app's processes on a store: `async with perdure.Engine(store, app) as engine:`.

    Args:
        store: an open store; one engine at a time runs the processes of a SQLite file.
        app: the process types.
        max_threads: plain functions that run as steps at the same time.
        retention: how long what is over is kept; for ever when not given.
        archive: a folder that events are written to before they are removed, or a callable that is given them.
        max_concurrency: turns that run at the same time, fairly shared among tenants; others are accepted, and run later. When
            not given, 64 while several tenants want to run, 256 while one is alone.
            Turns that wait do not count, nor do turns whose steps take long.
        max_steps: steps that run at the same time.
        max_resident: processes in memory; of those that wait, the ones that were not used for the longest time leave first.
        push_allowed: where commands may be sent beyond the public internet.
        trust: who has to have signed a package before its code is loaded; anybody or nobody when not given.
        environments: a folder for the environments of packages with `isolation: process`; `perdure/environments` in the user's folder
            of caches when not given.
        strict: a server of this engine is not ready (`/health/ready`) while open processes are on packages that it cannot load.

    Raises:
        UsageError: a bound is less than 1.

    Raises, on entry:
        EngineRunning: another engine runs the processes of this store.
        DefinitionError, ScheduleConflict: a schedule that the app declares cannot be.

    Attributes:
        schedules: those that are kept in the store: make, list, pause, resume, trigger, delete.
        versions: the packages that are loaded, and why others cannot be.

    Source: engine.md.
    """

    owner_type: ClassVar[type[Owner]] = Owner

    def __init__(
        self,
        store: Store,
        app: App,
        *,
        max_threads: int = limits.MAX_THREADS,
        retention: Retention | None = None,
        archive: str | Path | Archive | None = None,
        max_concurrency: int | None = None,
        max_steps: int = limits.MAX_STEPS,
        max_resident: int = limits.MAX_RESIDENT,
        push_allowed: Allowed | None = None,
        trust: TrustPolicy | None = None,
        environments: str | Path | None = None,
        strict: bool = True,
    ) -> None:
        if min(max_threads, 1 if max_concurrency is None else max_concurrency, max_steps, max_resident) < 1:
            raise UsageError("max_threads, max_concurrency, max_steps and max_resident are at least 1 each")
        _check_parts(store, app)
        self.store = store
        self.app = app
        self.clock = store.access.clock
        self._randomness = store.access.randomness
        self._owner = self.owner_type(
            store,
            app,
            max_threads=max_threads,
            max_concurrency=max_concurrency,
            max_steps=max_steps,
            max_resident=max_resident,
            trust=trust,
            environments=None if environments is None else Path(environments),
        )
        self.versions = self._owner.versions
        self.strict = strict
        self._doors = Doors(store.access, self._owner.shards.mine)
        self.schedules = Schedules(store, app=app, rules=self._owner.rules, run=self._owner.run)
        kept_in = Folder(archive, self.clock.now) if isinstance(archive, str | Path) else archive
        self._sweeper = Sweeper(store.access, retention or Retention(), kept_in)
        self._clocks = (
            command_clock(store.access, store.commands, self._owner),
            blob_clock(store.access, store.blobs, self._owner),
            package_clock(store.access, store.packages, self._owner),
        )
        self._pusher = Pusher(store.access, leads=lambda: self._owner.rules.leads, background=self._owner.background, allowed=push_allowed)
        self._sweeping = Sweeping(self._sweeper, self.clock, self._owner.background, leads=lambda: self._owner.rules.leads)
        self._open = False
        self._gc_threshold = gc.get_threshold()

    async def __aenter__(self) -> Self:
        await self.store.ownership.start(self._owner.shards, lambda: self.store.access.writer.run(Renew()))
        self._open = True
        try:
            await self._start_up()
        except BaseException:
            await self.close()
            raise
        return self

    async def _start_up(self) -> None:
        self._owner.open()
        # Turns make many short-lived objects and few cycles; collecting after every 700 of them takes a sixth of the time.
        self._gc_threshold = gc.get_threshold()
        gc.set_threshold(max(limits.GC_THRESHOLD, self._gc_threshold[0]), *self._gc_threshold[1:])
        schemas = {hash: document for made in self.app.types.values() for hash, document in made.schemas.items()}
        if self.app.types:
            await self.store.access.writer.commit(PutSchemas(schemas), MakeRoutes(tuple(self.app.types)))
        await declare(self.store, self.app)
        await self._owner.start()
        self._sweeping.start()
        for each in self._clocks:
            self._owner.background(each.run())
        self._owner.background(self._pusher.run())

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop: commit what is under way, and drop the rest from memory; a restart goes on with it."""
        if not self._open:
            return
        self._open = False
        self._sweeping.stop()
        with self.store.leaving_after(limits.CLOSE_SECONDS):
            await self._pusher.close()
        with self.store.leaving_after(limits.CLOSE_SECONDS):
            await self._owner.close()
        gc.set_threshold(*self._gc_threshold)
        await self.store.ownership.stop()

    # --- the doors ---------------------------------------------------------------------------------

    @overload
    async def deliver(
        self,
        message: object,
        /,
        *,
        id: str,
        to: Address | None = None,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        keep_for: timedelta | None = None,
        expires_after: timedelta | None = None,
        wait: Literal[False] = False,
    ) -> Receipt: ...
    @overload
    async def deliver(
        self,
        message: object,
        /,
        *,
        id: str,
        to: Address | None = None,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        keep_for: timedelta | None = None,
        expires_after: timedelta | None = None,
        wait: Literal[True],
    ) -> Any: ...
    async def deliver(
        self,
        message: object,
        /,
        *,
        id: str,
        to: Address | None = None,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        keep_for: timedelta | None = None,
        expires_after: timedelta | None = None,
        wait: bool = False,
    ) -> Any:
        """Accept a message once, durably, and bring it where it belongs.

        Args:
            message: a msgspec Struct or a dataclass; its kind is its tag, or its class's name.
            id: 1..512 bytes, unique within tenant and source; one that was accepted before is recognised.
            to: where to; what `@on(kind, key=…)` or `@on(kind, tag=…)` says when not given.
            source: who sent it, when senders number their messages independently.
            tenant: whose it is.
            headers: kept with it, at most 16 KiB.
            keep_for: how long a message to a tag is kept for the first process that joins, when nobody is there.
            expires_after: how long a message waits for somebody to bind its key, and then for a `receive` when its process
                has no handler for it; after that it is a dead letter. For ever when not given.
            wait: return the reply, once it is sealed.

        Returns:
            What became of it; or, with `wait`, the reply as plain data.

        Raises:
            MessageConflict: the id was accepted with other content.
            MessageExpired: it was done so long ago that its reply is kept no longer.
            ProcessNotFound, ProcessEnded: nobody can take it; it is not accepted.
            MailboxFull, Overloaded: too much waits; repeat later.
            InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, NoRoute, ReplyNotSingle: nothing was written.
            Exception: with `wait`, what the handler raised.
        """
        address = self.app.route(message) if to is None else checked_address(to)
        if wait and address.way == "tag":
            raise ReplyNotSingle("a message to a tag has many receivers; deliver it without wait, or address one process")
        kind, payload = kind_of(checked_message_type(type(message))), encoded_message(message)
        lasting = expires_after if expires_after is not None else keep_for
        request = Request("", kind, payload, None)
        envelope = self._doors.envelope(
            request,
            address,
            id=id,
            source=source,
            tenant=tenant,
            headers=headers,
            lasting=lasting,
            routed=to is None,
        )
        if not wait:
            return await self._owner.receipt(envelope)
        return await self._reply(request, envelope, by=type(message).__module__)

    async def deliver_encoded(
        self,
        kind: str,
        payload: bytes,
        /,
        *,
        id: str,
        to: Address | None = None,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        lasting: timedelta | None = None,
    ) -> Receipt:
        """Accept a message that comes as its kind and JSON; it is the same message as `deliver` would make of the app's class.

        Args:
            kind: of the message; of a function process its name and `()`, with the list of its arguments as payload.
            payload: JSON; read by the type that the app has for this kind before anything is written.
            id: as with `deliver`, like the other arguments.
            to: where to; without it, what the app's handlers say.
            source: who sent it.
            tenant: whose it is.
            headers: kept with it.
            lasting: how long it may wait for somebody who takes it.

        Raises:
            PayloadInvalid: the payload is no such message; nothing was written.
            Exception: as with `deliver`.
        """
        request, address, routed = encoded(self.app, kind, payload, id=checked_id(id), to=to)
        envelope = self._doors.envelope(
            request, address, id=id, source=source, tenant=tenant, headers=headers, lasting=lasting, routed=routed
        )
        return await self._owner.receipt(envelope)

    async def call(
        self,
        handler: Callable[[S, Unpack[Ts]], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> R:
        """Run a handler and return its sealed reply; a repetition with the same id gets that very reply.

        Args:
            handler: a function process, `hello`, or a handler of a class, `Order.place`.
            *args: the function's arguments, or the message.
            id: of the message, and of the process that it starts when no key says otherwise; made when not given.
            tenant: whose it is.

        Returns:
            The reply, decoded by the handler's return annotation.

        Raises:
            Exception: what the handler raised; TurnFailed when it cannot be made again.
            PayloadInvalid: the sealed reply cannot be read as what the handler returns now.
            MessageConflict, MessageExpired, MailboxFull, Overloaded, UsageError: as with `deliver`.
        """
        request = self.app.request(handler, args)
        message_id = uuid7(now=self.clock.now(), randomness=self._randomness) if id is None else id
        address = request.address(message_id)
        envelope = self._doors.envelope(request, address, id=message_id, tenant=tenant, fresh=id is None)
        reply: R = await self._reply(request, envelope, by=getattr(handler, "__module__", ""))
        return reply

    async def _reply(self, request: Request, envelope: Envelope, *, by: str) -> Any:
        """Accept a message and return its sealed reply, decoded; an error as one of the classes that module `by` can import."""
        outcome, response = await self._owner.reply(envelope)
        if outcome == "ok":
            return request.decode(response)
        raise decode_error(response, otherwise=TurnFailed, by=by)

    @overload
    async def query(self, method: Callable[[S, Unpack[Ts]], R], process_id: str, /, *args: *Ts, tenant: str = DEFAULT_TENANT) -> R: ...
    @overload
    async def query(self, method: Callable[[S, Unpack[Ts]], R], /, *args: *Ts, key: str, tenant: str = DEFAULT_TENANT) -> R: ...
    async def query(  # type: ignore[misc]  # it takes what either signature takes; no one type of arguments says so
        self, method: Callable[..., Any], /, *args: Any, key: str | None = None, tenant: str = DEFAULT_TENANT
    ) -> Any:
        """Return what a query, a method marked with `@perdure.query`, says of a process as of its last commit.

        It runs on a copy of the durable fields and changes nothing, also of processes that are not in memory, paused,
        failed or ended. Nothing that is not committed is seen.

        Args:
            method: `Order.summary`.
            *args: the id of the process, unless `key` names it, and then the arguments of the method.
            key: the registry key of the process.
            tenant: whose it is.

        Raises:
            ProcessNotFound: there is no such process, or nobody holds the key.
            QueryNotFound, UnknownProcessType: its class is another one, or has no such query.
            PayloadInvalid: its fields cannot be read by the code as it is now.
            UsageError: the method is no query, or its arguments do not fit.
            NotInTurn: the method uses a verb.
            Exception: what the method raised.
        """
        if key is None:
            if not args or not isinstance(args[0], str):
                raise UsageError("query takes the method and the id of a process, or key=…: `engine.query(Order.summary, process_id)`")
            process_id, args = args[0], args[1:]
        else:
            process_id = await queries.holder_of(self.store, key, tenant=tenant)
        return await queries.ask(self.store, self.versions, method, args, process_id=process_id, tenant=tenant)

    async def complete_awakeable(self, token: str, value: object = None, *, tenant: str = DEFAULT_TENANT) -> None:
        """Complete an awakeable with a value, JSON data. The same completion again changes nothing.

        Raises:
            AwakeableNotFound: no open turn has made it.
            AwakeableConflict: it was completed with another value, or failed.
            PayloadUnencodable, PayloadTooLarge, InvalidIdentifier: nothing was written.
        """
        await self._owner.run(completing(self._owner.rules, token, value, tenant=tenant), lambda notes: notes)

    async def fail_awakeable(self, token: str, text: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Let whoever waits for an awakeable get AwakeableFailed with this text. Raises what `complete_awakeable` raises."""
        await self._owner.run(failing(self._owner.rules, token, text, tenant=tenant), lambda notes: notes)

    # --- people ------------------------------------------------------------------------------------------

    async def redrive(self, message_id: str, *, source: str = "", tenant: str = DEFAULT_TENANT) -> str:
        """Deliver a dead letter again, as a new message whose id is returned (`m` → `m~2`); its sealed reply stands.

        Raises:
            MessageNotFound, DeadLetterNotFound, IllegalTransition: there is nothing to redrive; the text says why.
            ProcessEnded, ProcessNotFound: still nobody can take it.
        """
        process_id = ProcessId.new(now=self.clock.now(), randomness=self._randomness)
        new_id, _, _ = await self._owner.run(
            Redrive(self._owner.rules, TenantId(tenant), source, MessageId(message_id), process_id), lambda result: result[2]
        )
        return new_id

    async def skip(self, process_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Let a process that paused on a failed message go on without it. Raises ProcessNotFound, IllegalTransition."""
        await self._owner.run(Skip(self._owner.rules, TenantId(tenant), ProcessId(process_id)), lambda notes: notes)

    async def cancel(self, process_id: str, *, reason: str = "", force: bool = False, tenant: str = DEFAULT_TENANT) -> bool:
        """Ask a process to stop for good, and its children with it, and theirs, but for those that are detached.

        Without an open turn it ends at once. With one, running async steps are cancelled, plain functions are waited for,
        and `asyncio.CancelledError` is raised once where the handler waits; what follows there may use steps. Then the process ends.
        Children are asked page by page behind this commit, whatever crashes; they may clean up just so.

        Args:
            process_id: which.
            reason: for people; it stays with the process.
            force: end it now, without running its code again: for one whose code does not fit, or does not stop. Its children
                are asked, and not forced.
            tenant: whose it is.

        Returns:
            Whether this was the first request; another one changes nothing, and so does one for a process that is over.

        Raises:
            ProcessNotFound: there is no such process.
        """
        text = checked_reason(reason)
        write = CancelProcess(self._owner.rules, TenantId(tenant), ProcessId(process_id), text, force)
        first, _ = await self._owner.run(write, lambda result: result[1])
        return first

    async def pause(self, process_id: str, *, reason: str = "", tenant: str = DEFAULT_TENANT) -> bool:
        """Hold a process still until it is resumed: it starts no turn and no step; steps that run are finished and recorded.

        Returns:
            Whether it was not paused before.

        Raises:
            ProcessNotFound, ProcessEnded, IllegalTransition: there is nothing to hold; the text says why.
        """
        write = PauseProcess(self._owner.rules, TenantId(tenant), ProcessId(process_id), checked_reason(reason))
        first, _ = await self._owner.run(write, lambda result: result[1])
        return first

    async def resume(self, process_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Let a paused process go on, or try a stuck one again; one that paused on a failed message goes on without it.

        Raises:
            ProcessNotFound, IllegalTransition: there is nothing to resume; the text says why.
        """
        await self._owner.run(ResumeProcess(self._owner.rules, TenantId(tenant), ProcessId(process_id)), lambda notes: notes)

    async def retry_stranded(self, content_hash: str) -> int:
        """Try to load a package again that could not be loaded here, and return how many stranded processes go on.

        Raises InvalidContentHash.
        """
        package = checked_hash(content_hash)
        self.versions.try_again(package)
        return await self._owner.reviving.revive(package=package)

    async def move(self, process_id: str, content_hash: str | None, *, actor: str = UNKNOWN_ACTOR, tenant: str = DEFAULT_TENANT) -> bool:
        """Let a process go on on another version of its code, which is tried on it first.

        Its open turn is replayed by that code, without running a step, from its durable fields as that code reads them, by
        upcasters too. Then, in one transaction, they are written as that code writes them, and the process is on the version; a stuck or stranded
        one goes on. What it was doing in memory begins again, as after a crash; one that is paused stays so.

        Args:
            process_id: which.
            content_hash: of a package that is stored; None for the app's own code.
            actor: who does it; it stands in the timeline.
            tenant: whose it is.

        Returns:
            Whether it was on other code; else nothing has changed.

        Raises:
            ProcessNotFound, ProcessEnded: there is nothing to move.
            ProcessIncompatible: that code cannot go on with it; the text says what differs at which step, or what cannot be read.
            IllegalTransition: a step that runs at most once may be under way.
            PackageMissing: no such package is stored.
            PackageUntrusted, PackageRequirementUnmet, PackageImportFailed, PackageSchemaDrift: it cannot be loaded here.
            StoreBusy: the process changed at every look; pause it, or try again.
            InvalidContentHash, InvalidIdentifier: nothing was read.

        Source: packages.md, "Moving a process".
        """
        target = Target(None if content_hash is None else checked_hash(content_hash), checked_by(actor, None).actor)
        if target.package is not None:
            self.versions.try_again(target.package)

        async def commit(write: MoveProcess) -> None:
            await self._owner.run(write, lambda notes: notes)

        mover = Mover(self.store, self.versions, rules=self._owner.rules, commit=commit)
        return await mover.move(TenantId(tenant), ProcessId(process_id), target)

    async def restart_from(self, step: str, process_id: str, *, tenant: str = DEFAULT_TENANT) -> str:
        """Run the last turn of a process again, from the first record of a step on; reopens one that has failed.

        What was recorded before that step is kept, and what was sent before it is not sent again. The step itself, and all
        that follows, happens anew, with ids and idempotency keys of its own. The sealed reply of the first message stands.

        Args:
            step: the name in the timeline: `charge`, `charge#2`, `receive`.
            process_id: which; its last turn is open, or has failed, or it has no durable fields.
            tenant: whose it is.

        Returns:
            The id of the new message, `<id>~2`.

        Raises:
            ProcessNotFound, StepNotFound, IllegalTransition, TurnTooLong: there is nothing to run again; the text says why.
            KeyTaken: a key that the turn had bound names another process by now.
        """
        write = RestartFrom(self._owner.rules, TenantId(tenant), ProcessId(process_id), step)
        new_id, _ = await self._owner.run(write, lambda result: result[1])
        return new_id

    async def fork(self, step: str, process_id: str, *, id: str | None = None, tenant: str = DEFAULT_TENANT) -> ProcessId:
        """Run a copy of the last turn of a process from a step on, in a new process; the first one is left as it is.

        The copy has neither keys nor tags, and what the first had sent before the step is not sent again.

        Args:
            step: as with `restart_from`.
            process_id: what to copy.
            id: of the new process, and of its message; made when not given.
            tenant: whose it is.

        Returns:
            The new process's id.

        Raises:
            ProcessNotFound, StepNotFound, IllegalTransition, TurnTooLong: there is nothing to copy, or the id is taken.
        """
        new_id = ProcessId.new(now=self.clock.now(), randomness=self._randomness) if id is None else ProcessId(id)
        write = Fork(self._owner.rules, TenantId(tenant), ProcessId(process_id), step, new_id)
        await self._owner.run(write, lambda notes: notes)
        return new_id

    async def sweep(self) -> Swept:
        """Remove at once what retention no longer keeps, and return what was removed; the engine does the same by itself.

        Raises:
            Exception: the store or the archive failed; what was not removed is there, and the next sweep goes on.
        """
        return await self._sweeper.sweep()

    def pause_sweeps(self) -> None:
        """Remove nothing, until `resume_sweeps`; a sweep that runs waits between two transactions."""
        self._sweeper.pause()

    def resume_sweeps(self) -> None:
        """Go on with what retention no longer keeps."""
        self._sweeper.resume()


def _check_parts(store: object, app: object) -> None:
    if not isinstance(store, Store):
        raise UsageError(
            f"Engine takes an open store, found {shown(store)}: `async with perdure.open_store(url) as store, perdure.Engine(store, app) as engine:`"
        )
    if not isinstance(app, App):
        raise UsageError(f"expected a perdure.App, found {shown(app)}")
