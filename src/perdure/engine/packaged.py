"""Process types out of packages: what a manifest says of them, and what their code is once it is loaded.

Source: packages-detail.md, B.1 and A8.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol

from perdure import limits
from perdure.engine.app import App, HandlerOf, ProcessType
from perdure.errors import (
    DefinitionError,
    PackageEntryMissing,
    PackageImportFailed,
    PackageIsolationUnavailable,
    PackageSchemaDrift,
    SchemaUnsupported,
)
from perdure.names import TAG_DIGITS, public_name, public_text, storable
from perdure.packages.archive import Package
from perdure.packages.loading import PackageCode, interrupts
from perdure.packages.manifest import Manifest, ManifestMessage, ManifestProcess
from perdure.packages.paths import top_level_names
from perdure.schemas import SchemaRegistry, TypeRef, schema_of

LOCK: Final = "requirements.lock"
"""The file at the top of an archive with the distributions of an interpreter of its own, in pip's format with hashes."""


class Defined(NamedTuple):
    """What apps define, as a manifest says it: process types, and the documents of their schemas."""

    processes: tuple[ManifestProcess, ...]
    schemas: SchemaRegistry


class TypeSchemas(NamedTuple):
    """The schemas of a process type: hashes of the durable fields and of each kind of message with its result, and the documents."""

    fields: str | None
    messages: tuple[ManifestMessage, ...]
    documents: dict[str, bytes]


def code_of(package: Package) -> PackageCode:
    """Return what is loaded of an archive that was taken apart."""
    manifest = package.manifest
    return PackageCode(
        name=manifest.name,
        content_hash=package.identity,
        files=package.files,
        top_levels=top_level_names(package.files),
        entries=tuple(dict.fromkeys(process.object for process in manifest.processes)),
        python=manifest.python,
        requires=manifest.requires,
    )


def lock_of(package: Package) -> bytes | None:
    """Return the lock file of a package that is to run in an interpreter of its own; None for one that shares the engine's.

    Raises:
        PackageIsolationUnavailable: it has no lock file, or this system has no such interpreters.
    """
    if package.manifest.isolation == "shared":
        return None
    label = code_of(package).label
    if LOCK not in package.files:
        raise PackageIsolationUnavailable(label, f"it has no {LOCK}; put one beside pyproject.toml, and build it anew")
    if os.name != "posix":
        raise PackageIsolationUnavailable(
            label, "this system has no sockets that a process can be started with; build it with isolation: shared"
        )
    return package.files[LOCK]


def apps_in(modules: Iterable[ModuleType]) -> list[App]:
    """Return the apps that stand at the top of modules, each once."""
    found: dict[int, App] = {}
    for module in modules:
        found.update({id(value): value for value in vars(module).values() if isinstance(value, App)})
    return list(found.values())


def defined_by(apps: Iterable[App]) -> Defined:
    """Return what a manifest says of the process types of apps.

    Raises:
        DefinitionError: two have the same name, one cannot be named from outside its module, or a type has no schema.
    """
    processes: dict[str, ManifestProcess] = {}
    documents: dict[str, bytes] = {}
    for made in _types(apps).values():
        row, schemas = _described(made)
        processes[made.name] = row
        documents.update(schemas)
    return Defined(tuple(processes.values()), SchemaRegistry(documents))


class Importable(Protocol):
    """A version that is imported, in this interpreter beside others or in one of its own."""

    @property
    def name(self) -> str:
        """Of the package."""
        ...

    @property
    def content_hash(self) -> str:
        """Of the version."""
        ...

    @property
    def derived(self) -> dict[str, Any]:
        """What others have made of its types."""
        ...

    def modules(self) -> list[ModuleType]:
        """Return the modules that are imported now."""
        ...

    def object(self, entry: str) -> Any:
        """Return an object by its public name. Raises PackageEntryMissing."""
        ...


def types_of(loaded: Importable, manifest: Manifest) -> dict[str, ProcessType]:
    """Return the process types of a version that is loaded, by name; they are made once, and go with it.

    Raises:
        PackageEntryMissing: no app of its modules has a type that the manifest names.
        PackageSchemaDrift: a type came out other than in the manifest: one that it has from a distribution has changed.
        PackageImportFailed: something of its modules has raised when it was looked at.
    """
    made: dict[str, ProcessType] | None = loaded.derived.get("types")
    if made is None:
        try:
            made = _checked(loaded, manifest)
        except (DefinitionError, PackageEntryMissing, PackageSchemaDrift):
            raise
        except BaseException as error:
            # What stands in its modules is asked what it is, and may answer with anything, also with SystemExit: that ends no engine.
            if interrupts(error):
                raise
            raise looked_at_in_vain(loaded, error) from None
        loaded.derived["types"] = made
    return made


def looked_at_in_vain(loaded: Importable, error: BaseException) -> PackageImportFailed:
    """Return the failure of a package whose modules could be imported, and raise when they are looked at."""
    said = "".join(traceback.format_exception_only(error)).strip()
    return PackageImportFailed(_label(loaded), module=loaded.name, error=storable(public_text(said))[: limits.PACKAGE_ERROR_MAX])


def _label(loaded: Importable) -> str:
    return f"{loaded.name} {loaded.content_hash[:TAG_DIGITS]}"


def _checked(loaded: Importable, manifest: Manifest) -> dict[str, ProcessType]:
    label = _label(loaded)
    found = _types(apps_in(loaded.modules()))
    types: dict[str, ProcessType] = {}
    for process in manifest.processes:
        made = found.get(process.type)
        if made is None or made.target is not loaded.object(process.object):
            raise PackageEntryMissing(label, process.object)
        described, documents = _described(made)
        if described != process:
            raise PackageSchemaDrift(label, *_first_difference(process, described, manifest.schemas, documents))
        types[made.name] = made
    return types


def _types(apps: Iterable[App]) -> dict[str, ProcessType]:
    types: dict[str, ProcessType] = {}
    for app in apps:
        for name, made in app.types.items():
            if name in types:
                raise DefinitionError(f"{name}: two apps of the package have a process type of this name; rename one of them")
            types[name] = made
    return types


def schemas_of(made: ProcessType) -> TypeSchemas:
    """Return the schemas of a process type, its messages in order of their kinds. Raises DefinitionError for a type that has none."""
    documents: dict[str, bytes] = {}

    def hash_of(kind: Any, what: str) -> str:
        try:
            ref, registry = schema_of(kind)
        except SchemaUnsupported as error:
            raise DefinitionError(f"{made.name}: {what} has no schema: {error}") from error
        documents.update(registry)
        return ref.hash

    messages = [
        ManifestMessage(kind=kind, schema=hash_of(handler.takes, f"message {kind!r}"), result=_result(made, handler, documents))
        for kind, handler in made.handlers.items()
    ]
    fields = hash_of(made.base, "its durable fields") if made.durable else None
    return TypeSchemas(fields, tuple(sorted(messages, key=lambda message: message.kind.encode())), documents)


def _described(made: ProcessType) -> tuple[ManifestProcess, dict[str, bytes]]:
    schemas = schemas_of(made)
    row = ManifestProcess(type=made.name, object=_object(made), fields=schemas.fields, messages=schemas.messages)
    return row, schemas.documents


def _result(made: ProcessType, handler: HandlerOf, documents: dict[str, bytes]) -> str | None:
    """Return the hash of the schema of what a handler returns; None when it returns nothing, or what has no schema."""
    returns: TypeRef | None = handler.result_type
    if returns is None or inspect.signature(handler.function).return_annotation in {None, "None"}:
        return None
    documents.update(made.schemas)
    return returns.hash


def _object(made: ProcessType) -> str:
    module, name = public_name(made.target.__module__), made.target.__qualname__
    if "<locals>" in name:
        raise DefinitionError(f"{made.name}: it is defined inside a function, {module}.{name}; define it at the top of its module")
    return f"{module}:{name}"


def _first_difference(
    expected: ManifestProcess, found: ManifestProcess, known: Mapping[str, bytes], documents: Mapping[str, bytes]
) -> tuple[str, str, str]:
    """Return where a type is other than the manifest says, and both as text."""
    if expected.object != found.object:
        return f"{expected.type}.object", expected.object, found.object
    if expected.fields != found.fields:
        return f"{expected.type}.fields", _shown(expected.fields, known), _shown(found.fields, documents)
    here = {message.kind: message for message in found.messages}
    for message in expected.messages:
        other = here.pop(message.kind, None)
        where = f"{expected.type}[{message.kind}]"
        if other is None:
            return where, "a handler", "none"
        if other.schema != message.schema:
            return where, _shown(message.schema, known), _shown(other.schema, documents)
        if other.result != message.result:
            return f"{where} -> result", _shown(message.result, known), _shown(other.result, documents)
    return f"{expected.type}[{min(here)}]", "no handler", "one"


def _shown(name: str | None, documents: Mapping[str, bytes]) -> str:
    return "nothing" if name is None else documents[name].decode(errors="replace") if name in documents else name
