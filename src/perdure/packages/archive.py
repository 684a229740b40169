"""The archive of a package: a ZIP file with one possible layout, which any tool reads and only this writer writes.

The reader trusts nothing. It looks at no byte of a part before the part is known to be inside of the archive, makes nothing before
its size is checked, and compares every byte outside of the files with what the writer writes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from perdure import limits
from perdure.errors import (
    PackageArchiveMalformed,
    PackageFileCorrupt,
    PackageFileMissing,
    PackageFileUnlisted,
    PackageIdentityMismatch,
    PackageManifestMissing,
    PackagePathInvalid,
    PackageTooLarge,
)
from perdure.identity import ContentHash
from perdure.packages import manifest as manifests
from perdure.packages import signing
from perdure.packages.manifest import Manifest, ManifestFile, bytes_of, decode_manifest, identity_of
from perdure.packages.paths import check_paths
from perdure.packages.signing import Signature, TrustPolicy, decode_signatures, encode_signatures, merge

_MANIFEST: Final = manifests.FILE_NAME.encode()
_SIGNATURES: Final = signing.FILE_NAME.encode()
_OWN: Final = frozenset({_MANIFEST, _SIGNATURES})
_SOURCE: Final = b"src/"


class _Layout(NamedTuple):
    """A part of a ZIP file: what it begins with, its fields, and what they are called."""

    form: struct.Struct
    mark: bytes
    fields: str


# ZIP's Application Note, 4.3.7, 4.3.12 and 4.3.16.
_LOCAL: Final = _Layout(
    struct.Struct("<4s5H3I2H"),
    b"PK\3\4",
    "signature,version,flags,method,time,date,CRC-32,packed size,size,length of its name,length of its extra field",
)
_RECORD: Final = _Layout(
    struct.Struct("<4s6H3I5H2I"),
    b"PK\1\2",
    "signature,maker,version,flags,method,time,date,CRC-32,packed size,size,length of its name,length of its extra field,"
    "length of its comment,disk,internal attributes,mode,offset",
)
_END: Final = _Layout(
    struct.Struct("<4s4H2IH"),
    b"PK\5\6",
    "signature,disk,disk of the directory,entries on this disk,entries,size of the directory,offset of the directory,length of its comment",
)
_SIZE, _NAME = 9, 10  # places of two fields in a record; the lengths of its extra field and of its comment stand behind the second

_VERSION: Final = 20
_MAKER: Final = 0x0314  # Unix, so that the mode counts
_UTF8: Final = 0x800
_STORED: Final = 0
_TIME, _DATE = 0, 0x21  # 1980-01-01 00:00, the first that ZIP has
_MODE: Final = 0o100644 << 16

_REBUILD: Final = "build the package anew"


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package that was taken apart and checked.

    Attributes:
        manifest: what it is.
        identity: SHA-256 of its `perdure.json`.
        files: bytes by path below `src/`, in order of the paths' UTF-8 bytes.
        signatures: right or wrong, in order of their keys.
        trusted: the keys of the policy that have signed it; empty without a policy.
    """

    manifest: Manifest
    identity: ContentHash
    files: Mapping[str, bytes]
    signatures: tuple[Signature, ...] = ()
    trusted: tuple[str, ...] = ()


class _Entry(NamedTuple):
    name: bytes
    data: bytes | memoryview


def pack(manifest: Manifest, files: Mapping[str, bytes], signatures: Sequence[Signature] = ()) -> bytes:
    """Return the archive of a package: a pure function of what is given, in whatever order it is given.

    Args:
        manifest: of these very files; see `describe`.
        files: bytes by path below `src/`.
        signatures: of the manifest's identity, one for each key. They change no identity, and are not verified here.

    Raises:
        PackageRefused: `unpack` would refuse it, with the same error.

    Source: packages-detail.md, B.3.
    """
    check_paths(files)
    _check_size("files", len(files), limits.PACKAGE_FILES_MAX)
    _check_size("bytes of its files", sum(map(len, files.values())), limits.PACKAGE_ARCHIVE_MAX)
    entries = [_Entry(_MANIFEST, manifest.encode())]
    if signatures:
        entries.append(_Entry(_SIGNATURES, encode_signatures(sorted(signatures, key=lambda signature: signature.key))))
    entries += [_Entry(_SOURCE + path.encode(), files[path]) for path in sorted(files, key=bytes_of)]
    archive = b"".join(_written(entries))
    unpack(archive)
    return archive


def unpack(archive: bytes, *, identity: str | None = None, trust: TrustPolicy | None = None) -> Package:
    """Take an archive apart, and check all of it. Nothing of it is run, and nothing is written.

    Args:
        archive: its bytes.
        identity: of the package that it has to be; None for any.
        trust: who has to have signed it; None for anybody or nobody.

    Raises:
        PackageRefused: in this order,
        PackageTooLarge: it, its number of files, or the sizes in its directory are over their limits.
        PackageArchiveMalformed: the writer would have written another byte somewhere.
        PackageManifestMissing: it has no `perdure.json`.
        PackageManifestMalformed, PackageFormatUnknown: see `decode_manifest`.
        PackagePathInvalid, PackagePathDuplicate, PackageModuleAmbiguous, PackageNativeCode, PackageNameReserved: see `check_paths`.
        PackageFileUnlisted, PackageFileMissing: manifest and archive have other files.
        PackageFileCorrupt: a file has another size or hash than in the manifest.
        PackageIdentityMismatch: it is another package.
        PackageUntrusted: see `TrustPolicy.check`.
        SigningUnavailable: it has a signature to verify, and `cryptography` is not installed.

    Source: packages-detail.md, B.3 and B.4.
    """
    entries = _read(archive)
    parts = {entry.name: entry.data for entry in entries if entry.name in _OWN}
    signatures = decode_signatures(parts[_SIGNATURES]) if _SIGNATURES in parts else ()
    if _MANIFEST not in parts:
        raise PackageManifestMissing(f"the archive has no {manifests.FILE_NAME}; {_REBUILD}")
    manifest = decode_manifest(parts[_MANIFEST])
    files = _files(entries[len(parts) :], manifest)
    found = identity_of(parts[_MANIFEST])
    if identity not in {None, found}:
        raise PackageIdentityMismatch(expected=str(identity), found=found)
    trusted = trust.check(found, signatures) if trust is not None else ()
    copies = {path: bytes(data) for path, data in files.items()}
    return Package(manifest=manifest, identity=found, files=copies, signatures=signatures, trusted=trusted)


def with_signatures(archive: bytes, signatures: Iterable[Signature]) -> bytes:
    """Return the archive with these signatures beside its own: none is lost, as `merge` says.

    Raises:
        PackageRefused: the archive is none that `unpack` takes, or it would have too many signatures.
        SigningUnavailable: one has to be verified, and `cryptography` is not installed.
    """
    package = unpack(archive)
    return pack(package.manifest, package.files, merge(package.identity, package.signatures, signatures))


# --- what is in it --------------------------------------------------------------------------------------------


def _files(entries: Sequence[_Entry], manifest: Manifest) -> dict[str, bytes | memoryview]:
    """Return the files by path, when they are those of the manifest."""
    paths = [_path_of(entry.name) for entry in entries]
    check_paths(paths)
    listed = {file.path: file for file in manifest.files}
    if list(listed) != paths or len(listed) != len(manifest.files):
        check_paths([file.path for file in manifest.files])
    found = dict(zip(paths, (entry.data for entry in entries), strict=True))
    for path in paths:
        if path not in listed:
            raise PackageFileUnlisted(path, f"in the archive, and not in {manifests.FILE_NAME}; {_REBUILD}")
    for path in listed:
        if path not in found:
            raise PackageFileMissing(path, f"in {manifests.FILE_NAME}, and not in the archive; {_REBUILD}")
    for path, data in found.items():
        _check_file(data, listed[path])
    return found


def _check_file(data: bytes | memoryview, expected: ManifestFile) -> None:
    found = ManifestFile.of(expected.path, data)
    if found != expected:
        text = f"expected {expected.size:,} bytes with SHA-256 {expected.sha256}, found {found.size:,} with {found.sha256}"
        raise PackageFileCorrupt(expected.path, f"{text}; {_REBUILD}")


def _path_of(name: bytes) -> str:
    if not name.startswith(_SOURCE):
        raise PackagePathInvalid(name.decode(errors="backslashreplace"), "outside of src/; a package has its files there")
    try:
        return name.removeprefix(_SOURCE).decode()
    except UnicodeDecodeError:
        raise PackagePathInvalid(name.decode(errors="backslashreplace"), "not UTF-8; rename the file") from None


# --- how it is laid out ---------------------------------------------------------------------------------------


def _read(archive: bytes) -> list[_Entry]:
    """Return the entries of an archive that has exactly the bytes which `_written` gives for them."""
    _check_size("bytes", len(archive), limits.PACKAGE_ARCHIVE_MAX)
    start, count = _directory(archive)
    entries = list(_located(archive, _declared(archive, start, count), start))
    for before, entry in pairwise(entries):
        if _order(before) > _order(entry) or (before.name == entry.name and entry.name in _OWN):
            raise PackageArchiveMalformed(f"{_shown(entry)} stands behind {_shown(before)}; {_REBUILD}")
    _compare(archive, entries, start)
    return entries


def _directory(archive: bytes) -> tuple[int, int]:
    """Return where the directory begins, and how many entries it says it has."""
    end = len(archive) - _END.form.size
    if end < 0 or archive[end : end + 4] != _END.mark:
        raise PackageArchiveMalformed(
            f"the last {_END.form.size} bytes are no end record: it is no ZIP file, is cut off, or goes on behind it"
        )
    _, _, _, _, count, size, start, _ = _END.form.unpack_from(archive, end)
    _check_size("entries", count, limits.PACKAGE_FILES_MAX + len(_OWN))
    if start + size != end:
        raise PackageArchiveMalformed(f"the directory does not end where the end record begins; {_REBUILD}")
    return start, count


def _declared(archive: bytes, start: int, count: int) -> list[tuple[bytes, int]]:
    """Return the name and the size of each entry, as the directory has them."""
    end, at = len(archive) - _END.form.size, start
    found = []
    for number in range(count):
        behind = at + _RECORD.form.size
        fields = _RECORD.form.unpack_from(archive, at) if behind <= end else None
        if fields is None or fields[0] != _RECORD.mark or behind + fields[_NAME] > end:
            raise PackageArchiveMalformed(f"the directory has no record number {number + 1} of {count:,}; {_REBUILD}")
        found.append((archive[behind : behind + fields[_NAME]], fields[_SIZE]))
        at = behind + sum(fields[_NAME : _NAME + 3])
    _check_size("unpacked bytes", sum(size for _, size in found), limits.PACKAGE_UNPACKED_MAX)
    _check_size("files", sum(name not in _OWN for name, _ in found), limits.PACKAGE_FILES_MAX)
    if at != end:
        raise PackageArchiveMalformed(f"the directory has other bytes than its {count:,} records; {_REBUILD}")
    return found


def _located(archive: bytes, declared: Iterable[tuple[bytes, int]], end: int) -> Iterator[_Entry]:
    """Yield each entry with its data, which is a part of the archive and no copy."""
    whole, at = memoryview(archive), 0
    for name, size in declared:
        begin = at + _LOCAL.form.size + len(name)
        at = begin + size
        if at > end:
            raise PackageArchiveMalformed(f"{name[: limits.REPR_MAX]!r} would end behind the begin of the directory; {_REBUILD}")
        yield _Entry(name, whole[begin:at])


def _compare(archive: bytes, entries: Sequence[_Entry], start: int) -> None:
    """Refuse an archive that is not, byte for byte, what the writer writes for its entries."""
    heads = _heads(entries)
    at = 0
    for entry, (local, _) in zip(entries, heads, strict=True):
        _expect(_LOCAL, local, archive[at : at + len(local)], f"header of {_shown(entry)}")
        at += len(local) + len(entry.data)
    if at != start:
        raise PackageArchiveMalformed(f"{start - at:,} bytes stand between the last entry and the directory; {_REBUILD}")
    for entry, (_, record) in zip(entries, heads, strict=True):
        _expect(_RECORD, record, archive[at : at + len(record)], f"record of {_shown(entry)}")
        at += len(record)
    _expect(_END, _end(heads, start), archive[at:], "end record")


def _expect(layout: _Layout, expected: bytes, found: bytes, what: str) -> None:
    if found == expected:
        return
    pairs = zip(layout.fields.split(","), layout.form.unpack_from(expected), layout.form.unpack_from(found), strict=True)
    wrong = next((f"{name} is {other!r}, expected {one!r}" for name, one, other in pairs if one != other), "it has another name")
    raise PackageArchiveMalformed(f"{what}: {wrong}; {_REBUILD}")


def _written(entries: Sequence[_Entry]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an archive, piece by piece."""
    heads = _heads(entries)
    for entry, (local, _) in zip(entries, heads, strict=True):
        yield local
        yield entry.data
    yield from (record for _, record in heads)
    yield _end(heads, sum(len(local) + len(entry.data) for entry, (local, _) in zip(entries, heads, strict=True)))


def _heads(entries: Iterable[_Entry]) -> list[tuple[bytes, bytes]]:
    """Return the header in front of each entry, and its record in the directory."""
    found, offset = [], 0
    for name, data in entries:
        flags, size = (0 if name.isascii() else _UTF8), len(data)
        same = (_VERSION, flags, _STORED, _TIME, _DATE, zlib.crc32(data), size, size, len(name), 0)
        local = _LOCAL.form.pack(_LOCAL.mark, *same) + name
        found.append((local, _RECORD.form.pack(_RECORD.mark, _MAKER, *same, 0, 0, 0, _MODE, offset) + name))
        offset += len(local) + size
    return found


def _end(heads: Sequence[tuple[bytes, bytes]], start: int) -> bytes:
    return _END.form.pack(_END.mark, 0, 0, len(heads), len(heads), sum(len(record) for _, record in heads), start, 0)


def _order(entry: _Entry) -> tuple[bool, bool, bytes]:
    return entry.name != _MANIFEST, entry.name != _SIGNATURES, entry.name


def _shown(entry: _Entry) -> str:
    return repr(entry.name[: limits.REPR_MAX])


def _check_size(what: str, found: int, limit: int) -> None:
    if found > limit:
        raise PackageTooLarge(f"archive: {what}", found=found, limit=limit)
