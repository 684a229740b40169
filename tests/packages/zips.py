"""ZIP files with any byte anybody may write: another writer than the one under test, for which nothing is wrong."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tests.packages.samples import FILES, MANIFEST


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. What is None is what a correct file has there; `record` is what the directory says instead of the header."""

    name: bytes
    data: bytes = b""
    version: int = 20
    maker: int = 0x0314
    flags: int | None = None
    method: int = 0
    time: int = 0
    date: int = 0x21
    crc: int | None = None
    packed: int | None = None
    size: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    disk: int = 0
    internal: int = 0
    mode: int = 0o100644 << 16
    offset: int | None = None
    record: Mapping[str, Any] = {}


def zipped(
    entries: Iterable[Raw],
    *,
    before: bytes = b"",
    between: bytes = b"",
    behind_directory: bytes = b"",
    after: bytes = b"",
    count: int | None = None,
    comment: bytes = b"",
    disk: int = 0,
) -> bytes:
    """Return a ZIP file of these entries, with other bytes before, between and after its parts."""
    out, directory = bytearray(before), bytearray()
    number = 0
    for entry in entries:
        offset = len(out)
        out += b"PK\3\4" + _same(entry, entry.extra) + entry.name + entry.extra + entry.data
        said = msgspec.structs.replace(entry, **entry.record)
        at = offset if said.offset is None else said.offset
        directory += b"PK\1\2" + struct.pack("<H", said.maker) + _same(said, said.extra)
        directory += (
            struct.pack("<HHHII", len(said.comment), said.disk, said.internal, said.mode, at) + said.name + said.extra + said.comment
        )
        number += 1
    out += between
    start = len(out)
    entries_said = number if count is None else count
    out += directory + behind_directory
    out += b"PK\5\6" + struct.pack("<HHHHIIH", disk, disk, entries_said, entries_said, len(directory), start, len(comment)) + comment
    return bytes(out + after)


def package(files: Mapping[str, bytes] = FILES, *, manifest: bytes | None = None, **options: Any) -> bytes:
    """Return the archive of files, or of these with the manifest of others; the options are those of `zipped`."""
    return zipped(members(files, manifest=manifest), **options)


def members(files: Mapping[str, bytes] = FILES, *, manifest: bytes | None = None) -> list[Raw]:
    """Return the entries of a package in their order: with its own manifest, when none is given."""
    sources = [Raw(name=b"src/" + path.encode(), data=data) for path, data in files.items()]
    return [
        Raw(name=b"perdure.json", data=listing(files) if manifest is None else manifest),
        *sorted(sources, key=lambda entry: entry.name),
    ]


def listing(files: Mapping[str, bytes] = FILES, **changes: Any) -> bytes:
    """Return the manifest of files, whatever their paths are."""
    rows = [[path, len(data), hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items(), key=lambda item: item[0].encode())]
    tree = {**json.loads(MANIFEST), "files": rows, **changes}
    return json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _same(entry: Raw, extra: bytes) -> bytes:
    flags = (0 if entry.name.isascii() else 0x800) if entry.flags is None else entry.flags
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    packed = len(entry.data) if entry.packed is None else entry.packed
    size = len(entry.data) if entry.size is None else entry.size
    return struct.pack(
        "<HHHHHIIIHH", entry.version, flags, entry.method, entry.time, entry.date, crc, packed, size, len(entry.name), len(extra)
    )
