"""The app: which process types there are, which messages they handle, and where a message goes that says nothing."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.engine.addressing import Address, Request
from perdure.engine.flow import Flow, FlowRule
from perdure.engine.functions import StepFunctions
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.engine.outcomes import Output, return_type
from perdure.engine.process import HANDLES, Handles, OnError, Process
from perdure.engine.process_log import LogType, logs_of
from perdure.engine.queries import QueryOf, queries_of
from perdure.engine.schedules import WINDOW, CatchUp, Declaration, Overlap, Timing
from perdure.engine.sources import Source, WebhookEvent
from perdure.engine.upcasting import Upcasting
from perdure.errors import (
    AmbiguousKind,
    DefinitionError,
    NoRoute,
    PayloadInvalid,
    PayloadTooLarge,
    PayloadUnencodable,
    SchemaUnsupported,
    SourceNotFound,
    UnknownProcessType,
    UsageError,
)
from perdure.identity import DEFAULT_TENANT, RegistryKey, Tag, checked_text
from perdure.names import shown
from perdure.schemas import TypeRef, schema_of
from perdure.webhooks.schemes import Scheme
from perdure.webhooks.secrets import Secrets, SecretsGiven

if TYPE_CHECKING:
    from perdure.engine.turn import Turn

logger = logging.getLogger("perdure.engine")
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Process])
_ON_ERROR: Final = ("fail_turn", "fail_process", "park")
_BUILT_IN: Final = frozenset(dir(Process))
_VERBS: Final = sorted(name for name in _BUILT_IN if not name.startswith("__"))  # what Python itself asks for is anybody's to define


class HandlerOf(msgspec.Struct, frozen=True):
    """One handler of a process type; `takes` is the type of what it is given: the message, or the tuple of a function's arguments."""

    function: Callable[..., Coroutine[Any, Any, Any]]
    kind: str
    takes: Any
    decode: Callable[[bytes], Any]
    output: Output
    result_type: TypeRef | None
    on_error: OnError
    handles: Handles | None
    arguments: int = 1
    defaults: tuple[Any, ...] = ()

    def open(self, process: Process, payload: bytes) -> Coroutine[Any, Any, Any]:
        """Return the handler's code for a message. Raises PayloadInvalid when the message cannot be decoded."""
        arguments = self.decode(payload)
        return self.function(process, *arguments) if self.handles is None else self.function(process, arguments)


class ProcessType:
    """One kind of process: a class with handlers, or a function, which is a class with one start handler.

    Attributes:
        name: of the type, as stored.
        durable: whether it has durable fields.
        handlers: by kind of message.
        queries: by name.
        logs: by name.
        app: that it is registered with.
    """

    def __init__(self, target: Any, app: App, *, on_error: OnError | None, flow: Flow | None = None) -> None:
        self.target = target
        self.app = app
        self._upcasting = app.upcasting
        self.name = checked_text(target.__name__, what="process type", limit=limits.REGISTRY_KEY_MAX)
        self.is_function = not isinstance(target, type)
        self._steps = StepFunctions(self._upcasting.decoder)
        self.schemas: dict[str, bytes] = {}
        self.queries: dict[str, QueryOf] = {} if self.is_function else queries_of(target, _BUILT_IN)
        self._warned = False
        if self.is_function:
            self.base: type[Process] = Process
            kind = f"{self.name}()"
            self.handlers = {kind: self._of_function(target, kind, on_error)}
        else:
            self.base = target
            self.handlers = self._of_class(target, on_error)
        self.logs: dict[str, LogType] = {} if self.is_function else logs_of(self.base)
        self.durable = bool(self.base.__struct_fields__)
        self._decode_fields = self._upcasting.decoder(self.base)
        self.initial = JSON.encode(self.base()) if self.durable else b""
        self._sound = self.initial  # the last fields that were seen to be readable
        self.flow = None if flow is None else FlowRule(self, flow)

    def _of_function(self, target: Any, kind: str, on_error: OnError | None) -> HandlerOf:
        _check_async(target, self.name)
        parameters = list(inspect.signature(target).parameters.values())
        if not parameters or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
            raise DefinitionError(
                f"{self.name}: a function process takes the process and then positional arguments: `async def {self.name}(p, …)`"
            )
        hints = _hints(target, self.name)
        kinds = tuple(hints.get(parameter.name, Any) for parameter in parameters[1:])
        takes: Any = tuple[kinds] if kinds else tuple[()]  # type: ignore[valid-type]  # a tuple type made at run time
        if on_error == "fail_turn":
            raise DefinitionError(f"{self.name}: a function process ends with its turn; on_error is 'fail_process' or 'park'")
        return HandlerOf(
            function=target,
            kind=kind,
            takes=takes,
            decode=JSON.decoder(takes, what=f"the arguments of {self.name}"),
            output=Output(return_type(target), self._upcasting.decoder),
            result_type=self._schema(target),
            on_error=on_error or "fail_process",
            handles=None,
            arguments=len(kinds),
            defaults=tuple(parameter.default for parameter in parameters[1:] if parameter.default is not parameter.empty),
        )

    def _of_class(self, target: type[Process], on_error: OnError | None) -> dict[str, HandlerOf]:
        _check_fields(target)
        handlers: dict[str, HandlerOf] = {}
        for attribute in dir(target):
            function = inspect.getattr_static(target, attribute, None)
            handles: Handles | None = getattr(function, HANDLES, None)
            if function is None or handles is None:
                continue
            what = f"{self.name}.{attribute}"
            _check_async(function, what)
            if len(inspect.signature(function).parameters) != 2:  # noqa: PLR2004  # self and the message
                raise DefinitionError(f"{what}: a handler takes self and one message")
            kind = kind_of(checked_message_type(handles.message))
            if kind in handlers:
                raise AmbiguousKind(f"{self.name}: both {handlers[kind].function.__name__} and {attribute} handle {kind!r}")
            error: OnError = handles.on_error or on_error or ("fail_process" if handles.start else "fail_turn")
            decoder = self._upcasting.decoder
            decode, output = decoder(handles.message), Output(return_type(function), decoder)
            handlers[kind] = HandlerOf(function, kind, handles.message, decode, output, self._schema(function), error, handles)
        if not handlers:
            raise DefinitionError(f"{self.name}: no method is marked with @perdure.on(Message); nothing could ever reach it")
        return handlers

    def _schema(self, function: Callable[..., Any]) -> TypeRef | None:
        try:
            ref, registry = schema_of(_hints(function, function.__qualname__).get("return", Any))
        except SchemaUnsupported:
            return None  # a reply without a schema is stored all the same; only checks of an upgrade cannot look into it
        self.schemas.update(registry)
        return ref

    def load(self, fields: bytes | None) -> Process:
        """Return a process object with these durable fields."""
        process: Process = self._decode_fields(fields) if self.durable and fields else self.base()
        return process

    def attach(self, process: Process, turn: Turn) -> None:
        """Let the verbs and the logs of a process object be those of a turn."""
        process._turn = turn  # noqa: SLF001  # the slot that the verbs look into
        turn.module, turn.known = self.target.__module__, self._steps.known
        turn.decoder, turn.replay.rewrite = self._upcasting.decoder, self._rewritten
        for name, of in self.logs.items():
            getattr(process, name).bind(turn, of)

    def _rewritten(self, fields: bytes) -> bytes:
        """Return fields as this code writes them: one that was added since has its default, one that was taken away is gone."""
        try:
            return JSON.encode(self._decode_fields(fields))
        except PayloadInvalid:
            return fields

    def save(self, process: Process) -> bytes:
        """Return the bytes of the durable fields.

        Raises PayloadTooLarge over 1 MiB, PayloadUnencodable, PayloadInvalid if a value is not of its field's type.
        """
        data = JSON.encode(process)
        if self.durable and data != self._sound:
            self._check(data)
            self._sound = data
        if len(data) > limits.FIELDS_WARN:
            self._large(len(data))
        return data

    def _check(self, data: bytes) -> None:
        """Raise PayloadInvalid for fields that nobody could read any more once they were committed."""
        try:
            self._decode_fields(data)
        except PayloadInvalid as error:
            raise PayloadInvalid(f"durable fields of {self.name}: {error}; assign what the field is declared as") from error

    def _large(self, size: int) -> None:
        if size > limits.FIELDS_MAX:
            raise PayloadTooLarge(f"durable fields of {self.name}", size=size, limit=limits.FIELDS_MAX)
        if not self._warned:
            self._warned = True
            logger.warning(
                "durable fields of %s: %d bytes are written with each commit of a turn; keep what grows elsewhere", self.name, size
            )

    def request(self, handler: HandlerOf, args: tuple[Any, ...]) -> Request:
        """Return what a call of `handler` with `args` sends."""
        if handler.handles is None:
            payload = JSON.encode(_all_arguments(handler, args))
            if len(payload) > limits.MESSAGE_MAX:
                raise PayloadTooLarge(f"arguments of {self.name}", size=len(payload), limit=limits.MESSAGE_MAX)
            return Request(self.name, handler.kind, payload, None, decode=handler.output.decode)
        if len(args) != 1 or not isinstance(args[0], handler.handles.message):
            raise UsageError(f"{self.name}.{handler.function.__name__} takes one {handler.handles.message.__name__}, found {shown(args)}")
        key = None if handler.handles.key is None else handler.handles.key(args[0])
        return Request(self.name, handler.kind, encoded_message(args[0]), key, handler.handles.start, handler.output.decode)


class App:
    """The process types of one program. No globals: make one, register types with `@app.process`, give it to an engine."""

    def __init__(self, name: str) -> None:
        self.name = checked_text(name, what="app name", limit=limits.REGISTRY_KEY_MAX)
        self.types: dict[str, ProcessType] = {}
        self.schedules: list[Declaration] = []
        self.sources: dict[str, Source] = {}
        self.upcasting = Upcasting()
        self._routes: dict[str, tuple[ProcessType, HandlerOf]] = {}
        self._handlers: dict[Callable[..., Any], tuple[ProcessType, HandlerOf]] = {}

    @typing.overload
    def process(self, target: F, /) -> F: ...
    @typing.overload
    def process(self, /, *, on_error: OnError | None = None, flow: Flow | None = None) -> Callable[[F], F]: ...
    def process(self, target: Any = None, /, *, on_error: OnError | None = None, flow: Flow | None = None) -> Any:
        """Register a process type, a class or an async function, and return it unchanged.

        Args:
            target: a subclass of `perdure.Process`, or an async function whose first parameter is a `perdure.Process`.
            on_error: what an uncaught exception does, where a handler does not say it: `fail_turn` (the message failed,
                the process goes on; for handlers of classes), `fail_process` (for functions and start handlers), or
                `park` (the process pauses until a person redrives or skips the message).
            flow: how many of them run at once, how fast they begin, and who is first.

        Raises:
            DefinitionError: the type cannot work; the text says what to change.
            AmbiguousKind: two types want to be the default for one kind of message.
        """
        if on_error is not None and on_error not in _ON_ERROR:
            raise DefinitionError(f"on_error is one of {_ON_ERROR}, found {on_error!r}")
        if target is None:
            return lambda real: self._register(real, on_error, flow)
        return self._register(target, on_error, flow)

    def _register(self, target: Any, on_error: OnError | None, flow: Flow | None) -> Any:
        if not (inspect.isfunction(target) or (isinstance(target, type) and issubclass(target, Process))):
            raise DefinitionError(f"@app.process takes a subclass of perdure.Process or an async function, found {shown(target)}")
        made = ProcessType(target, self, on_error=on_error, flow=flow)
        if made.name in self.types:
            raise DefinitionError(f"{made.name}: the app has a process type of this name already; rename one of them")
        for kind, handler in made.handlers.items():
            if handler.handles is not None and (handler.handles.key or handler.handles.tag):
                other = self._routes.get(kind)
                if other is not None:
                    raise AmbiguousKind(
                        f"{kind!r} is claimed by {other[0].name} and {made.name}; give `to=` and take key= or tag= off one of them"
                    )
                self._routes[kind] = (made, handler)
        self.types[made.name] = made
        self._handlers.update({handler.function: (made, handler) for handler in made.handlers.values()})
        return target

    @typing.overload
    def schedule(
        self,
        cron: str | None = None,
        /,
        *,
        interval: timedelta | float | None = None,
        tz: str | None = None,
        id: str | None = None,
        overlap: Overlap = "skip",
        queue_limit: int = limits.SCHEDULE_QUEUE_MAX,
        catch_up: CatchUp = "last",
        window: timedelta | float = WINDOW,
        jitter: timedelta | float = 0,
        tenant: str = DEFAULT_TENANT,
    ) -> Callable[[F], F]: ...
    @typing.overload
    def schedule(
        self,
        cron: str | None = None,
        /,
        *,
        message: object,
        to: Address | None = None,
        id: str,
        interval: timedelta | float | None = None,
        tz: str | None = None,
        overlap: Overlap = "skip",
        queue_limit: int = limits.SCHEDULE_QUEUE_MAX,
        catch_up: CatchUp = "last",
        window: timedelta | float = WINDOW,
        jitter: timedelta | float = 0,
        tenant: str = DEFAULT_TENANT,
    ) -> None: ...
    def schedule(
        self,
        cron: str | None = None,
        /,
        *,
        message: object = None,
        to: Address | None = None,
        id: str | None = None,
        tenant: str = DEFAULT_TENANT,
        **timing: Any,
    ) -> Any:
        """Declare a schedule: of a function process, as a decorator above or below `@app.process`; or of a message.

        The engine keeps what is declared in the store: a changed expression counts from the next start on, and one that is
        declared no more does not fire again.

        Args:
            cron: five fields, minute hour day month weekday, as in Debian's cron; also `L`, `LW` and `MON#2`.
            message: what is delivered at each slot, when it is no process that starts.
            to: where the message goes; what the handlers say when not given.
            id: its name, 1..200 bytes; the function's when not given.
            tenant: whose it is.
            **timing: `interval`, instead of `cron`: whole seconds, counted from the epoch in UTC. `tz`, the time zone of `cron`;
                UTC. `overlap`, when the firing before has not ended: `skip` the slot, `queue` it (at most `queue_limit`),
                `cancel_previous` and start, or `allow` both. `catch_up`, after a time without an engine: `all` slots, the `last` one, or `none`; never those
                older than `window`. `jitter`: each slot fires later by up to that much, always by the same.

        Raises:
            DefinitionError: it cannot work; the text says what to change. What needs the process types is found when an
                engine starts.

        Source: engine.md, "Schedules".
        """
        checked = Timing(cron=cron, **timing)
        checked.checked()
        if message is not None:
            self._declare(Declaration(id=id or "", tenant=tenant, target=message, to=to, timing=checked))
            return None
        if to is not None:
            raise DefinitionError("to= is for a message: app.schedule(…, message=…, to=…, id=…)")

        def declared(target: F) -> F:
            if not inspect.isfunction(target):
                raise DefinitionError(f"@app.schedule is for a function process, found {shown(target)}; for a class, give message= and to=")
            self._declare(Declaration(id=id or target.__name__, tenant=tenant, target=target, timing=checked))
            return target

        return declared

    def _declare(self, made: Declaration) -> None:
        checked_text(made.id, what="schedule id", limit=limits.SCHEDULE_ID_MAX)
        if any((made.tenant, made.id) == (other.tenant, other.id) for other in self.schedules):
            raise DefinitionError(f"schedule {made.id!r} is declared twice; give one of them another id=")
        if len(self.schedules) >= limits.SCHEDULES_DECLARED_MAX:
            raise DefinitionError(f"an app declares at most {limits.SCHEDULES_DECLARED_MAX:,} schedules; make others at run time")
        self.schedules.append(made)

    def upcast(self, old: type, new: type, /) -> Callable[[F], F]:
        """Declare how a value of an older type becomes one of a newer: `@app.upcast(OldOrder, Order)`, over a function from data to data.

        It is used for whole values: messages of class processes, durable fields, outputs of steps, and replies. `new` is the type of one
        of these, or the older type of another upcaster, so that they make a chain. A value is one of `old` when it has exactly the fields of it
        and not exactly those that are asked for, or cannot be read otherwise. What is stored stays as it is.

        Args:
            old: a struct or a dataclass with the fields and the tag that it had then; it may have another name now.
            new: what the function's data is read as.

        Raises:
            DefinitionError: a type has no named fields, or the upcasters go in a circle.

        Source: schemas.md, "Plan", upcasters.
        """

        def declared(function: F) -> F:
            self.upcasting.declare(old, new, function)
            return function

        return declared

    def webhook(
        self,
        name: str,
        /,
        *,
        scheme: Scheme,
        secret: SecretsGiven | None = None,
        secret_env: str | None = None,
        message: Callable[[WebhookEvent], object] | None = None,
        kind: str | Callable[[WebhookEvent], str | None] | None = None,
        id: Callable[[WebhookEvent], str] | None = None,
        to: Address | Callable[[WebhookEvent], Address | None] | None = None,
        lasting: timedelta | Callable[[WebhookEvent], timedelta | None] | None = None,
    ) -> Source:
        """Declare a source of webhooks, and return it. The rules are pure functions of a verified event.

        Args:
            name: of the source, the last part of its path, and the `source` of its messages.
            scheme: how requests are signed: `standard` (Standard Webhooks), `github` or `stripe`.
            secret: one, or several while they are rotated, or a function that returns them and is asked at each request.
            secret_env: instead, the environment variable with them, separated by spaces.
            message: makes the message, a struct or a dataclass; None ignores the webhook.
            kind: instead, the kind of message that the body itself is; a function may return None, which ignores the webhook.
            id: of the message; what the scheme has when not given. Requests with the same id are one message.
            to: where it goes; what the handlers of its kind say when not given, or when the function returns None.
            lasting: how long it may wait for somebody who takes it; for ever when not given, or when the function returns None.

        Raises:
            DefinitionError: it cannot work; the text says what to change.
            WebhookSecretInvalid: neither `secret` nor `secret_env` is given, or both are.
        """
        secrets = Secrets(secret, env=secret_env, what=f"webhook source {name!r}")
        made = Source(name=name, scheme=scheme, secrets=secrets, message=message, kind=kind, id=id, to=to, lasting=lasting).checked()
        if name in self.sources:
            raise DefinitionError(f"webhook source {name!r} is declared twice; give one of them another name")
        if len(self.sources) >= limits.SOURCES_MAX:
            raise DefinitionError(f"an app declares at most {limits.SOURCES_MAX:,} webhook sources")
        self.sources[name] = made
        return made

    def source(self, name: str) -> Source:
        """Return the webhook source of this name. Raises SourceNotFound."""
        try:
            return self.sources[name]
        except KeyError:
            raise SourceNotFound(f"app {self.name!r} has no webhook source {name!r}; declare it with app.webhook({name!r}, …)") from None

    def type_named(self, name: str) -> ProcessType:
        """Return the process type of this name. Raises UnknownProcessType."""
        try:
            return self.types[name]
        except KeyError:
            raise UnknownProcessType(f"app {self.name!r} has no process type {name!r}; it has {sorted(self.types)}") from None

    def handler(self, function: Callable[..., Any]) -> tuple[ProcessType, HandlerOf]:
        """Return the type and handler that `hello` or `Order.place` names. Raises UnknownProcessType."""
        found = self._handlers.get(function)
        if found is not None:
            return found
        if not callable(function):
            raise UnknownProcessType(f"expected a function process or a handler such as Order.place, found {shown(function)}")
        raise UnknownProcessType(
            f"app {self.name!r} has no handler {shown(getattr(function, '__qualname__', function))}; register it with @app.process"
        )

    def request(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Request:
        """Return what a call of a handler with `args` sends. Raises UnknownProcessType, UsageError, PayloadTooLarge."""
        made, handler = self.handler(function)
        return made.request(handler, args)

    def route(self, message: object) -> Address:
        """Return where a message goes that names no address. Raises NoRoute, InvalidIdentifier."""
        made, handler = self._route_of(kind_of(checked_message_type(type(message))))
        assert handler.handles is not None, "functions have no routes"
        if handler.handles.tag is not None:
            return Address.tag(Tag(handler.handles.tag(message)))
        assert handler.handles.key is not None, "a route has a key or a tag"
        key = RegistryKey(handler.handles.key(message))
        return Address.start(made.name, key=key) if handler.handles.start else Address.key(key)

    def routed(self, kind: str) -> HandlerOf:
        """Return the handler whose `key=` or `tag=` says where messages of this kind go. Raises NoRoute."""
        return self._route_of(kind)[1]

    def _route_of(self, kind: str) -> tuple[ProcessType, HandlerOf]:
        found = self._routes.get(kind)
        if found is None:
            raise NoRoute(f"{kind!r}: no handler has key= or tag= for it; give `to=`, or say it in @perdure.on({kind}, key=…)")
        return found


def _check_async(function: Callable[..., Any], what: str) -> None:
    if not inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{what} has to be `async def`")


def _hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise DefinitionError(f"{what}: the annotation {error.name!r} cannot be found; it has to be importable at run time") from error


def _check_fields(target: type[Process]) -> None:
    for field in msgspec.structs.fields(target):
        if field.name in _BUILT_IN:
            raise DefinitionError(f"{target.__name__}.{field.name}: a durable field may not be named like a verb of Process; rename it")
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
            raise DefinitionError(f"{target.__name__}.{field.name}: a durable field needs a default: `{field.name}: … = …`")
    for name in _VERBS:
        if inspect.getattr_static(target, name) is not inspect.getattr_static(Process, name):
            raise DefinitionError(f"{target.__name__}.{name}: this would replace what Process has under that name; rename it")
    try:
        schema_of(target)
        JSON.encode(target())
    except (SchemaUnsupported, PayloadUnencodable) as error:
        raise DefinitionError(f"{target.__name__}: a durable field has a type that cannot be stored: {error}") from error


def _all_arguments(handler: HandlerOf, args: tuple[Any, ...]) -> tuple[Any, ...]:
    missing = handler.arguments - len(args)
    if not 0 <= missing <= len(handler.defaults):
        fewest = handler.arguments - len(handler.defaults)
        wanted = f"{fewest}" if not handler.defaults else f"{fewest} to {handler.arguments}"
        raise UsageError(f"{handler.function.__name__} takes {wanted} arguments besides the process, found {len(args)}")
    return (*args, *handler.defaults[len(handler.defaults) - missing :]) if missing else args
