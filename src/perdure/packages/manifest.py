"""The manifest of a package: all that its identity is made of, and nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from perdure import limits
from perdure.errors import (
    InvalidIdentifier,
    PackageFormatUnknown,
    PackageManifestMalformed,
    PackageTooLarge,
    SchemaInvalid,
    SchemaMissing,
)
from perdure.identity import ContentHash, checked_text
from perdure.packages.canonical import decode, encode, said_by
from perdure.schemas import SchemaRegistry
from perdure.schemas.loading import NamedTypes

FORMAT: Final = 1
FILE_NAME: Final = "perdure.json"

_DEFECTS: Final = (ValueError, msgspec.ValidationError, InvalidIdentifier, SchemaInvalid, SchemaMissing)
_NO_SCHEMAS: Final = SchemaRegistry()
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
SchemaHash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Isolation = Literal["shared", "process"]


class ManifestFile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One file: its path below `src/`, its size in bytes, and the SHA-256 of its bytes in hex."""

    path: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256

    @classmethod
    def of(cls, path: str, data: bytes | memoryview) -> ManifestFile:
        """Return what the manifest says of these bytes."""
        return cls(path, len(data), hashlib.sha256(data).hexdigest())


class ManifestMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of message that a process type takes.

    Args:
        kind: of the message.
        schema: hash of the message's schema.
        result: hash of the schema of what its handler returns; None when it returns nothing.
    """

    kind: str
    schema: SchemaHash
    result: SchemaHash | None


class ManifestProcess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process type that a package defines.

    Args:
        type: its name.
        object: what defines it, `module:name`, by public names.
        fields: hash of the schema of its durable fields; None when it has none.
        messages: the kinds that it takes, in order of their UTF-8 bytes.
    """

    type: str
    object: str
    fields: SchemaHash | None
    messages: tuple[ManifestMessage, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a package is: two packages with equal manifests are one.

    `describe` makes one of files; `decode_manifest` reads one and checks it. The constructor checks nothing.

    Args:
        format: 1.
        name: 1..100 of `a-z 0-9 . _ -`, with a letter or digit at both ends.
        files: in order of the UTF-8 bytes of their paths.
        processes: what it defines, in order of the UTF-8 bytes of their types.
        schemas: every schema that a process refers to, directly or not, and no other.
        python: range of Python's versions, as PEP 440 writes it.
        requires: ranges of distributions, as PEP 508 writes them, in order of their UTF-8 bytes.
        isolation: where its code runs: in the engine's interpreter, or in one of its own.

    Source: packages-detail.md, B.1.
    """

    format: int
    name: str
    files: tuple[ManifestFile, ...]
    processes: tuple[ManifestProcess, ...]
    schemas: SchemaRegistry
    python: str
    requires: tuple[str, ...]
    isolation: Isolation

    def encode(self) -> bytes:
        """Return the bytes of `perdure.json`, which are canonical JSON. Raises PackageManifestMalformed when there are none."""
        try:
            return encode(_plain(msgspec.to_builtins(self, enc_hook=_schemas_as_json)))
        except ValueError as error:
            raise PackageManifestMalformed(f"{FILE_NAME}: {said_by(error)}") from error

    @property
    def identity(self) -> ContentHash:
        """SHA-256 of the manifest's bytes, in hex: the name of the package."""
        return identity_of(self.encode())


def identity_of(manifest: bytes | memoryview) -> ContentHash:
    """Return the identity of the package that has these bytes as its `perdure.json`.

    Source: packages-detail.md, B.1.
    """
    return ContentHash(hashlib.sha256(manifest).hexdigest())


def describe(
    files: Mapping[str, bytes],
    *,
    name: str,
    python: str,
    processes: Iterable[ManifestProcess] = (),
    schemas: Mapping[str, bytes] = _NO_SCHEMAS,
    requires: Iterable[str] = (),
    isolation: Isolation = "shared",
) -> Manifest:
    """Return the manifest of these files, in its one form: the order of what is given does not count, nor how a range is spelled.

    Args:
        files: bytes by path below `src/`. `pack` checks the paths.
        name: see `Manifest`, also for the others.
        python: range of Python's versions.
        processes: in any order, their messages, too.
        schemas: documents by hash; those that no process reaches are left out.
        requires: distributions, in any order.
        isolation: see `Manifest`.

    Raises:
        PackageManifestMalformed: a part breaks its rule; the text names it.
    """
    from perdure.packages.ranges import normal_range, normal_requirement  # noqa: PLC0415  # see there

    listed = [_with_messages_in_order(process) for process in processes]
    try:
        made = Manifest(
            format=FORMAT,
            name=name,
            files=tuple(ManifestFile.of(path, data) for path, data in sorted(files.items(), key=lambda item: bytes_of(item[0]))),
            processes=tuple(sorted(listed, key=lambda process: bytes_of(process.type))),
            schemas=_reached(listed, schemas),
            python=normal_range(python),
            requires=tuple(sorted({normal_requirement(text) for text in requires}, key=bytes_of)),
            isolation=isolation,
        )
    except _DEFECTS as error:
        raise PackageManifestMalformed(f"{FILE_NAME}: {said_by(error)}") from error
    return decode_manifest(made.encode())


def decode_manifest(data: bytes | memoryview) -> Manifest:
    """Return the manifest that these bytes are, checked but for its paths, which `check_paths` checks.

    Raises:
        PackageTooLarge: they are more than `limits.PACKAGE_MANIFEST_MAX`.
        PackageManifestMalformed: they are not canonical JSON, or a part breaks its rule; the text has the path.
        PackageFormatUnknown: they are of another format, about which nothing else is known.

    Source: packages-detail.md, B.1 to B.3.
    """
    if len(data) > limits.PACKAGE_MANIFEST_MAX:
        raise PackageTooLarge(f"{FILE_NAME}: bytes", found=len(data), limit=limits.PACKAGE_MANIFEST_MAX)
    try:
        tree = decode(bytes(data))
        _check_format(tree)
        manifest = msgspec.convert(tree, Manifest, dec_hook=_schemas_from_json)
        _check(manifest)
    except _DEFECTS as error:
        raise PackageManifestMalformed(f"{FILE_NAME}: {said_by(error)}") from error
    return manifest


def bytes_of(text: str) -> bytes:
    """Return the UTF-8 bytes of a text, by which all orders in a package go; a lone surrogate, which has none, is refused elsewhere."""
    return text.encode("utf-8", "surrogatepass")


# --- what a manifest is checked for ---------------------------------------------------------------------------


def _check_format(tree: Any) -> None:
    found = tree.get("format") if isinstance(tree, dict) else None
    if type(found) is not int:
        raise ValueError("expected an object with a `format`, which is a number")
    if found != FORMAT:
        raise PackageFormatUnknown(found=found, known=FORMAT)


def _check(manifest: Manifest) -> None:
    if len(manifest.name) > limits.PACKAGE_NAME_MAX or not _NAME.fullmatch(manifest.name):
        expected = f"1 to {limits.PACKAGE_NAME_MAX} of a-z 0-9 . _ -, with a letter or digit at both ends"
        raise ValueError(f"name: expected {expected}, found {manifest.name[: limits.REPR_MAX]!a}")
    _check_files(manifest.files)
    _check_processes(manifest.processes)
    _check_environment(manifest)
    reached = _reached(manifest.processes, manifest.schemas)
    if extra := manifest.schemas.keys() - reached.keys():
        raise ValueError(f"schemas: no process refers to {min(extra)}; leave it out")


def _check_files(files: Sequence[ManifestFile]) -> None:
    if len(files) > limits.PACKAGE_FILES_MAX:
        raise PackageTooLarge(f"{FILE_NAME}: files", found=len(files), limit=limits.PACKAGE_FILES_MAX)
    paths = [bytes_of(file.path) for file in files]
    if paths != sorted(paths):  # one that is there twice has an error of its own
        raise ValueError("files: expected in order of the UTF-8 bytes of their paths")


def _check_processes(processes: Sequence[ManifestProcess]) -> None:
    _check_listed("processes", [process.type for process in processes], limit=limits.PACKAGE_TYPES_MAX)
    for process in processes:
        where = f"processes, {checked_text(process.type, what='processes: type', limit=limits.REGISTRY_KEY_MAX)!a}"
        _check_object(process.object, f"{where}: object")
        kinds = [checked_text(message.kind, what=f"{where}: kind", limit=limits.REGISTRY_KEY_MAX) for message in process.messages]
        _check_listed(f"{where}: messages", kinds, limit=limits.PACKAGE_KINDS_MAX)


def _check_object(text: str, what: str) -> None:
    module, colon, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if len(text) > limits.PACKAGE_OBJECT_MAX or not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{what}: expected module:name, found {text[: limits.REPR_MAX]!a}")


def _check_environment(manifest: Manifest) -> None:
    from perdure.packages.ranges import read_range, read_requirement  # noqa: PLC0415  # see there

    read_range(manifest.python)
    _check_listed("requires", manifest.requires, limit=limits.PACKAGE_REQUIRES_MAX)
    for text in manifest.requires:
        read_requirement(text)


def _check_listed(what: str, names: Sequence[str], *, limit: int) -> None:
    if len(names) > limit:
        raise ValueError(f"{what}: {len(names):,}, the limit is {limit:,}")
    if list(names) != sorted(set(names), key=bytes_of):
        raise ValueError(f"{what}: expected in order of their UTF-8 bytes, and each once")


def _reached(processes: Collection[ManifestProcess], documents: Mapping[str, bytes]) -> SchemaRegistry:
    """Return the documents that the processes reach, verified. Raises SchemaInvalid and SchemaMissing."""
    found = NamedTypes(documents)
    for name in _references(processes):
        found.load(name)
    return SchemaRegistry(found.documents)


def _references(processes: Iterable[ManifestProcess]) -> Iterator[str]:
    for process in processes:
        for name in (process.fields, *(name for message in process.messages for name in (message.schema, message.result))):
            if name is not None:
                yield name


# --- to JSON and back -------------------------------------------------------------------------------------------


def _with_messages_in_order(process: ManifestProcess) -> ManifestProcess:
    ordered = sorted(process.messages, key=lambda message: bytes_of(message.kind))
    return msgspec.structs.replace(process, messages=tuple(ordered))


def _plain(tree: Any) -> Any:
    """Return `tree` with lists for tuples, which canonical JSON does not have."""
    match tree:
        case dict():
            return {key: _plain(part) for key, part in tree.items()}
        case list() | tuple():
            return [_plain(part) for part in tree]
        case _:
            return tree


def _schemas_as_json(value: Any) -> Any:
    if not isinstance(value, SchemaRegistry):
        raise ValueError(f"{type(value).__name__} has no place in a manifest")  # noqa: TRY004  # it is one of many defects of a manifest
    # Parts of canonical JSON are canonical: what is read here is written again as the same bytes.
    return {name: decode(document) for name, document in value.items()}


def _schemas_from_json(kind: type, value: Any) -> Any:
    assert kind is SchemaRegistry, "everything else in a manifest is plain"
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")  # noqa: TRY004  # as above
    # Each member of a recursive group has a document of the whole group, and so a hash that is made of all of it.
    work = sum(
        len(document["defs"]) ** 2 for document in value.values() if isinstance(document, dict) and isinstance(document.get("defs"), list)
    )
    if work > limits.PACKAGE_SCHEMA_WORK_MAX:
        raise ValueError(f"recursive types of {work:,} pairs, the limit is {limits.PACKAGE_SCHEMA_WORK_MAX:,}")
    return SchemaRegistry({name: encode(document) for name, document in value.items()})
