"""Queries: methods of process classes that read durable fields as of the last commit, and change nothing.

Source: engine.md, "A process with messages"; "Fields are saved twice".
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from perdure.codec import JSON
from perdure.conversations.tables import PROCESS, PROCESS_STATE, ProcessStatus
from perdure.errors import DefinitionError, PayloadInvalid, ProcessNotFound, QueryNotFound, UsageError
from perdure.identity import ProcessId, RegistryKey, TenantId
from perdure.names import shown
from perdure.routing.tables import KEY

if TYPE_CHECKING:
    from perdure.engine.apart.remote import AnyType, RemoteQuery
    from perdure.engine.versions import Versions
    from perdure.store import Store

F = TypeVar("F", bound=Callable[..., Any])
_QUERY: Final = "__perdure_query__"
_NOT_PLAIN: Final = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)


def query(method: F, /) -> F:
    """Mark a method that reads durable fields: `await engine.query(Order.summary, process_id)`. It is returned unchanged.

    It runs on a copy of the fields as of the last commit, on the event loop: it is short, assigns nothing that lasts, and
    uses no verb.

    Raises:
        DefinitionError: it is no plain method.

    Source: engine.md, "A process with messages".
    """
    what = getattr(method, "__qualname__", shown(method))
    if not inspect.isfunction(method):
        raise DefinitionError(f"@perdure.query {what}: expected a method of a process class, written with `def`")
    if any(is_one(method) for is_one in _NOT_PLAIN):
        raise DefinitionError(
            f"@perdure.query {what}: a query is a plain method that returns its answer: `def`, without `async` and `yield`"
        )
    setattr(method, _QUERY, True)
    return method


class QueryOf(msgspec.Struct, frozen=True):
    """One query of a process type."""

    name: str
    function: Callable[..., Any]

    def answer(self, process: Any, args: Sequence[Any]) -> Any:
        """Return what the method says of this object. Raises UsageError when the arguments do not fit, and what the method raises."""
        try:
            bound = inspect.signature(self.function).bind(process, *args)
        except TypeError as error:
            raise UsageError(f"query {self.function.__qualname__}: {error}; found the arguments {shown(tuple(args))}") from None
        return self.function(*bound.args, **bound.kwargs)

    def arguments(self, texts: Sequence[bytes]) -> list[Any]:
        """Return the arguments that were given as JSON, decoded by the method's annotations. Raises PayloadInvalid, UsageError."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        names = list(inspect.signature(self.function).parameters)[1:]
        if len(texts) > len(names):
            raise UsageError(f"query {self.function.__qualname__} takes {len(names)} arguments, found {len(texts)}")
        return [JSON.decoder(hints.get(name, Any))(text) for name, text in zip(names, texts, strict=False)]


def queries_of(target: type, built_in: frozenset[str]) -> dict[str, QueryOf]:
    """Return the queries of a process class by name. Raises DefinitionError."""
    found: dict[str, QueryOf] = {}
    for name in dir(target):
        function = inspect.getattr_static(target, name, None)
        if not getattr(function, _QUERY, False):
            continue
        assert function is not None, "it was marked"
        if name in built_in:
            raise DefinitionError(f"{target.__name__}.{name}: a query may not be named like a verb of Process; rename it")
        if not inspect.signature(function).parameters:
            raise DefinitionError(f"{target.__name__}.{name}: a query takes self: it reads the fields of one process")
        found[name] = QueryOf(name, function)
    return found


async def ask(store: Store, versions: Versions, method: Callable[..., Any], args: Sequence[Any], *, process_id: str, tenant: str) -> Any:
    """Return what a query says of a process; see `Engine.query`."""
    name = getattr(method, "__name__", shown(method))
    if not getattr(method, _QUERY, False):
        raise UsageError(f"{getattr(method, '__qualname__', name)} is no query; mark the method with @perdure.query")
    async with _read(store, versions, process_id=process_id, tenant=tenant) as (made, process):
        # Of a packaged process it is the version's own method that answers, of the name that the caller's has.
        return _query_named(made, name, process_id, method if _is_of(made, method) else None).answer(process, args)


async def ask_by_name(store: Store, versions: Versions, name: str, texts: Sequence[bytes], *, process_id: str, tenant: str) -> Any:
    """Return what the query of this name says of a process; its arguments are JSON. Raises what `Engine.query` raises."""
    async with _read(store, versions, process_id=process_id, tenant=tenant) as (made, process):
        found = _query_named(made, name, process_id, None)
        return found.answer(process, found.arguments(texts))


async def holder_of(store: Store, key: str, *, tenant: str) -> str:
    """Return the process that holds a key. Raises ProcessNotFound, InvalidIdentifier."""
    row = await store.access.reader.get(KEY.key(TenantId(tenant), RegistryKey(key)))
    if row is None or row.process_id is None:
        raise ProcessNotFound(f"no process holds the key {key!r} in tenant {tenant}; a process that is over holds none, name it by its id")
    return row.process_id


@asynccontextmanager
async def _read(store: Store, versions: Versions, *, process_id: str, tenant: str) -> AsyncIterator[tuple[AnyType, Any]]:
    reader, parts = store.access.reader, (TenantId(tenant), ProcessId(process_id))
    # The fields before the process: one that is made between the two reads was made with its first fields.
    state = await reader.get(PROCESS_STATE.key(*parts))
    row = await reader.get(PROCESS.key(*parts))
    if row is None or not row.process_type or row.status == ProcessStatus.REMOVED:
        raise ProcessNotFound(f"no process {process_id!r} in tenant {tenant}")
    async with versions.using(row.process_type, row.package_hash) as made:
        if made is None:
            raise versions.unknown(row.process_type)
        try:
            process = made.load(None if state is None else state.saved)
        except PayloadInvalid as error:
            raise PayloadInvalid(
                f"process {process_id}: its durable fields cannot be read as those of {made.name}: {error}; "
                f"give new fields a default, and keep the types of old ones"
            ) from error
        yield made, process


def _is_of(made: AnyType, method: Callable[..., Any]) -> bool:
    return made.target is not None and made.target.__module__ == method.__module__


def _query_named(made: AnyType, name: str, process_id: str, method: Callable[..., Any] | None) -> QueryOf | RemoteQuery:
    found = made.queries.get(name)
    if found is None or method not in (None, found.function):
        asked = name if method is None else method.__qualname__
        raise QueryNotFound(
            f"process {process_id} is of type {made.name!r}, which has no query {asked}; it has: {', '.join(sorted(made.queries)) or 'none'}"
        )
    return found
