"""Archives that nobody builds by accident: each is refused with its code, before anything is made of it."""

from __future__ import annotations

import bz2
import io
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from perdure import limits
from perdure.errors import PackageRefused
from perdure.packages.archive import unpack
from perdure.packages.signing import TrustPolicy
from tests.packages.samples import FILES, IDENTITY, KEY, MANIFEST, SIGNATURE, archive
from tests.packages.zips import Raw, listing, members, package, zipped

MALFORMED = "package-archive-malformed"
TOO_LARGE = "package-too-large"
PATH = "package-path-invalid"
GOOD = archive()
[FIRST, *SOURCES] = members()
EVIL = b"import os\nos._exit(66)\n"


def code_of(data: bytes, **options: Any) -> str:
    with pytest.raises(PackageRefused) as caught:
        unpack(data, **options)
    return caught.value.code


def changed(place: int = 1, **changes: Any) -> bytes:
    """Return the archive with one entry changed."""
    entries = members()
    fields = {name: getattr(entries[place], name) for name in Raw.__struct_fields__}
    entries[place] = Raw(**{**fields, **changes})
    return zipped(entries)


def named(name: bytes) -> bytes:
    return zipped([FIRST, *sorted([*SOURCES, Raw(name=name)], key=lambda entry: entry.name)])


def deflated() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for entry in members():
            file.writestr(entry.name.decode(), entry.data)
    return made.getvalue()


def bzip_bomb() -> bytes:
    data = bz2.compress(bytes(50_000_000))
    return changed(3, data=data, method=12, size=50_000_000, crc=zlib.crc32(bytes(50_000_000)))


def lying_directory(records: int = 5_000, size: int = 10_000_000) -> bytes:
    """Return an archive whose directory has many records of one entry."""
    record = struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, 0, 0, 0, 0x21, 0, size, size, 1, 0, 0, 0, 0, 0o100644 << 16, 0) + b"a"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0) + b"a"
    return local + record * records + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, records, records, len(record) * records, len(local), 0)


def many_records(said: int | None = None) -> bytes:
    """Return 64 MiB of directory, with more records than its end record has room to say."""
    record = struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    times = (limits.PACKAGE_ARCHIVE_MAX - 22) // len(record)
    said = times & 0xFFFF if said is None else said
    return record * times + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, said, said, len(record) * times, 0, 0)


def zip64() -> bytes:
    return GOOD[:-22] + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def long_record() -> bytes:
    """Return an archive whose last record says that a comment follows it, behind the end of the archive."""
    record = len(GOOD) - 22 - 46 - len(SOURCES[-1].name)
    return GOOD[: record + 32] + b"\xff\xff" + GOOD[record + 34 :]


ROWS: dict[str, tuple[Callable[[], bytes], str]] = {
    # What zipfile lets through, row by row.
    "the same file twice": (lambda: zipped([FIRST, *SOURCES, SOURCES[2]]), "package-path-duplicate"),
    "the same file twice, with other bytes": (
        lambda: zipped([FIRST, *SOURCES, Raw(name=SOURCES[2].name, data=EVIL)]),
        "package-path-duplicate",
    ),
    "two manifests": (lambda: zipped([FIRST, Raw(name=b"perdure.json", data=listing({})), *SOURCES]), MALFORMED),
    "a NUL in a name": (lambda: named(b"src/shop/a\0b.py"), PATH),
    "a name that is a NUL": (lambda: named(b"src/\0"), PATH),
    "a name up the tree": (lambda: named(b"../x"), PATH),
    "a name up the tree, below src": (lambda: named(b"src/../x"), PATH),
    "an absolute name": (lambda: named(b"/etc/passwd"), PATH),
    "an absolute name, below src": (lambda: named(b"src//etc/passwd"), PATH),
    "a name up the tree of Windows": (lambda: named(b"..\\x"), PATH),
    "a name up the tree of Windows, below src": (lambda: named(b"src/..\\x"), PATH),
    "a drive": (lambda: named(b"C:\\x"), PATH),
    "a drive, below src": (lambda: named(b"src/C:\\x"), PATH),
    "an empty part": (lambda: named(b"src/a//b"), PATH),
    "an empty name": (lambda: named(b""), PATH),
    "an empty name, below src": (lambda: named(b"src/"), PATH),
    "a folder": (lambda: named(b"src/shop/"), PATH),
    "a control character": (lambda: named(b"src/a\x1b[2Jb"), PATH),
    "a name outside of src": (lambda: named(b"setup.py"), PATH),
    "a name that is not UTF-8": (lambda: named(b"src/a\xff.py"), PATH),
    "bytes before": (lambda: package(before=b"#!/bin/sh\n"), MALFORMED),
    "bytes before, which offsets leave out": (lambda: b"#!/bin/sh\n" + GOOD, MALFORMED),
    "bytes after": (lambda: package(after=b"\0"), MALFORMED),
    "bytes between entries and directory": (lambda: package(between=b"PK"), MALFORMED),
    "bytes between directory and end": (lambda: package(behind_directory=b"\0" * 46), MALFORMED),
    "an archive in front": (lambda: GOOD + GOOD, MALFORMED),
    "another archive in front": (lambda: package({"shop/a.py": EVIL}) + GOOD, MALFORMED),
    "a comment": (lambda: package(comment=b"hello"), MALFORMED),
    "a comment that is an end record": (lambda: package(comment=GOOD[-22:]), MALFORMED),
    "a record that goes on behind the end": (long_record, MALFORMED),
    "a comment of an entry": (lambda: changed(comment=b"c"), MALFORMED),
    "a header with another method than the directory": (lambda: changed(method=8, record={"method": 0}), MALFORMED),
    "a directory with another method than the header": (lambda: changed(record={"method": 8}), MALFORMED),
    "a header with another CRC": (lambda: changed(crc=1, record={"crc": None}), MALFORMED),
    "a header with another size": (lambda: changed(size=1, record={"size": None}), MALFORMED),
    "a header with another name": (lambda: changed(record={"name": b"src/shop/__init_2.py"}), MALFORMED),
    "a directory of 5,000 records of one entry": (lying_directory, TOO_LARGE),
    "a directory of 20 records of one entry": (lambda: lying_directory(20), MALFORMED),
    "data that is longer than its size": (lambda: changed(3, data=FILES["shop/flows.py"] + b"#", size=6, packed=6), MALFORMED),
    "the first bytes of data, with their CRC": (lambda: changed(3, size=5, packed=5, crc=zlib.crc32(b"x = 1")), MALFORMED),
    "bzip2": (bzip_bomb, MALFORMED),
    "lzma": (lambda: changed(method=14), MALFORMED),
    "deflate": (deflated, MALFORMED),
    "a directory of 64 MiB": (many_records, TOO_LARGE),
    "a directory of 64 MiB that says it is short": (lambda: many_records(100), MALFORMED),
    "a link": (lambda: changed(3, data=b"/etc/passwd", mode=0o120777 << 16), MALFORMED),
    "a device": (lambda: changed(mode=0o060600 << 16), MALFORMED),
    "a file that may be run": (lambda: changed(mode=0o100755 << 16), MALFORMED),
    # What else our writer does not write.
    "nothing": (lambda: b"", MALFORMED),
    "no ZIP file": (lambda: b"perdure" * 100, MALFORMED),
    "no entries": (lambda: zipped([]), "package-manifest-missing"),
    "no entries, but a count": (lambda: zipped([], count=1), MALFORMED),
    "fewer entries than records": (lambda: package(count=3), MALFORMED),
    "more entries than records": (lambda: package(count=5), MALFORMED),
    "another disk": (lambda: package(disk=1), MALFORMED),
    "ZIP64": (zip64, TOO_LARGE),
    "an encrypted entry": (lambda: changed(flags=1), MALFORMED),
    "sizes behind the data": (lambda: changed(flags=8), MALFORMED),
    "UTF-8 that is not needed": (lambda: changed(flags=0x800), MALFORMED),
    "UTF-8 that is needed": (lambda: changed(2, flags=0), MALFORMED),
    "a time": (lambda: changed(time=1), MALFORMED),
    "a date": (lambda: changed(date=0x22), MALFORMED),
    "a version": (lambda: changed(version=45), MALFORMED),
    "a maker": (lambda: changed(maker=0x3F), MALFORMED),
    "an extra field": (lambda: changed(extra=b"\1\0\0\0"), MALFORMED),
    "an extra field in the directory": (lambda: changed(record={"extra": b"\1\0\0\0"}), MALFORMED),
    "an offset": (lambda: changed(offset=1), MALFORMED),
    "an entry's disk": (lambda: changed(disk=1), MALFORMED),
    "text": (lambda: changed(internal=1), MALFORMED),
    "another order": (lambda: zipped([FIRST, *reversed(SOURCES)]), MALFORMED),
    "the manifest last": (lambda: zipped([*SOURCES, FIRST]), MALFORMED),
    # What is wrong inside.
    "no manifest": (lambda: zipped(SOURCES), "package-manifest-missing"),
    "a manifest below src": (lambda: zipped([Raw(name=b"src/perdure.json", data=MANIFEST)]), "package-manifest-missing"),
    "a manifest that is a list": (lambda: package(manifest=b"[]"), "package-manifest-malformed"),
    "a manifest with white space": (lambda: package(manifest=MANIFEST + b"\n"), "package-manifest-malformed"),
    "a manifest of a million lists": (lambda: package(manifest=b"[" + b"[]," * 1_000_000 + b"0]"), "package-manifest-malformed"),
    "a manifest of 9 MiB": (lambda: package(manifest=b" " * 9 * limits.MIB), TOO_LARGE),
    "another format": (lambda: package(manifest=listing(format=2)), "package-format-unknown"),
    "a file too many": (lambda: package({**FILES, "shop/more.py": b""}, manifest=MANIFEST), "package-file-unlisted"),
    "a file too few": (lambda: zipped([FIRST, *SOURCES[:-1]]), "package-file-missing"),
    "another file": (lambda: package({**FILES, "shop/flows.py": b"x = 2\n"}, manifest=MANIFEST), "package-file-corrupt"),
    "a longer file": (lambda: package({**FILES, "shop/flows.py": b"x = 1\n\n"}, manifest=MANIFEST), "package-file-corrupt"),
    "a file of another case": (lambda: package({**FILES, "shop/FLOWS.py": b""}), "package-path-duplicate"),
    "a file that is a folder": (lambda: package({**FILES, "shop/flows.py/a": b""}), "package-path-duplicate"),
    "a module that is a package": (lambda: package({**FILES, "shop/flows/__init__.py": b""}), "package-module-ambiguous"),
    "compiled code": (lambda: package({**FILES, "shop/fast.so": b"\x7fELF"}), "package-native-code"),
    "a module of the standard library": (lambda: package({**FILES, "json/__init__.py": EVIL}), "package-name-reserved"),
    "Perdure itself": (lambda: package({**FILES, "perdure/__init__.py": EVIL}), "package-name-reserved"),
    "what the interpreter runs by itself": (lambda: package({**FILES, "sitecustomize.py": EVIL}), "package-name-reserved"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_hostile_archive_is_refused_with_its_code(row: str) -> None:
    made, code = ROWS[row]

    assert code_of(made()) == code


def test_a_path_that_is_only_in_the_manifest_is_checked_too() -> None:
    assert code_of(package(manifest=listing({**FILES, "../x": b""}))) == PATH
    assert code_of(package(manifest=listing({**FILES, "json.py": b""}))) == "package-name-reserved"
    assert code_of(package(manifest=listing({**FILES, "shop/Flows.py": b""}))) == "package-path-duplicate"
    rows = MANIFEST.replace(b'["shop/flows.py",6', b'["shop/flows.py",6,"%b"],["shop/flows.py",6' % (b"0" * 64))
    assert code_of(package(manifest=rows)) == "package-path-duplicate"


@pytest.mark.parametrize(
    "signatures",
    [
        b"",
        b"[]",
        b"{}",
        b"[] ",
        b'[{"algorithm":"ed25519","key":"0","signature":"0"}]',
        b'[{"algorithm":"rsa","key":"%b","signature":"%b"}]' % (b"0" * 64, b"0" * 128),
        b'[{"algorithm":"ed25519","key":"%b","signature":"%b","x":1}]' % (b"0" * 64, b"0" * 128),
        b'[{"algorithm":"ed25519","key":"%b","signature":"%b"}]' % (b"A" * 64, b"0" * 128),
        b"[" + b",".join([b'{"algorithm":"ed25519","key":"%b","signature":"%b"}' % (b"0" * 64, b"0" * 128)] * 2) + b"]",
        b"[" + b",".join(b'{"algorithm":"ed25519","key":"%064x","signature":"%b"}' % (n, b"0" * 128) for n in range(33)) + b"]",
        b" " * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_signatures_in_another_form_are_bytes_that_nobody_writes(signatures: bytes) -> None:
    assert code_of(zipped([FIRST, Raw(name=b"perdure.sig.json", data=signatures), *SOURCES])) == MALFORMED


def test_signatures_stand_behind_the_manifest_once() -> None:
    signed = Raw(name=b"perdure.sig.json", data=archive(SIGNATURE).split(b"perdure.sig.json")[1].split(b"PK")[0])

    assert zipped([FIRST, signed, *SOURCES]) == archive(SIGNATURE)
    for entries in ([signed, FIRST, *SOURCES], [FIRST, *SOURCES, signed], [FIRST, signed, signed, *SOURCES]):
        assert code_of(zipped(entries)) == MALFORMED


def test_what_is_wrong_is_told_in_one_order() -> None:
    bad = {"shop/__init__.py": b"", "a/../b": b"", "A.py": b"", "a.py": b"", "b.py": b"", "b/__init__.py": b"", "c.so": b"", "os.py": b""}
    trust = TrustPolicy(["0" * 64])
    codes = []

    def tell(data: bytes) -> None:
        codes.append(code_of(data, identity="0" * 64, trust=trust))

    tell(package(bad, manifest=b"", comment=b"c") + bytes(limits.PACKAGE_ARCHIVE_MAX))
    tell(package(bad, manifest=b"", disk=1))
    tell(zipped(members(bad)[1:]))
    tell(package(bad, manifest=b"{}"))
    tell(package(bad, manifest=listing({}, format=2, name="")))
    for path in ("a/../b", "A.py", "b.py", "c.so", "os.py"):
        tell(package(bad, manifest=listing({"shop/missing.py": b""})))
        del bad[path]
    tell(package(bad, manifest=listing({"shop/missing.py": b""})))
    tell(package({"a.py": b""}, manifest=listing({"a.py": b"1", "missing.py": b""})))
    tell(package({"a.py": b""}, manifest=listing({"a.py": b"1"})))
    tell(GOOD)
    codes.append(code_of(GOOD, identity=IDENTITY, trust=trust))

    assert codes == [
        "package-too-large",
        "package-archive-malformed",
        "package-manifest-missing",
        "package-manifest-malformed",
        "package-format-unknown",
        "package-path-invalid",
        "package-path-duplicate",
        "package-module-ambiguous",
        "package-native-code",
        "package-name-reserved",
        "package-file-unlisted",
        "package-file-missing",
        "package-file-corrupt",
        "package-identity-mismatch",
        "package-untrusted",
    ]


@pytest.mark.parametrize("signatures", [(), (SIGNATURE,)], ids=["unsigned", "signed"])
def test_every_flip_of_one_bit_is_refused(signatures: Any) -> None:
    good = archive(*signatures)
    for place in range(len(good)):
        for bit in range(8):
            wrong = bytearray(good)
            wrong[place] ^= 1 << bit
            with pytest.raises(PackageRefused):
                unpack(bytes(wrong))


def test_every_truncation_and_every_extension_is_refused() -> None:
    for size in range(len(GOOD)):
        assert code_of(GOOD[:size]) == MALFORMED
        assert code_of(GOOD[size:] if size else GOOD + b"\0") == MALFORMED
    for byte in range(256):
        for place in (0, 30, len(FIRST.data), len(GOOD) - 22, len(GOOD)):
            assert code_of(GOOD[:place] + bytes([byte]) + GOOD[place:]) == MALFORMED


def test_a_byte_over_the_limit_is_too_large_and_the_limit_is_not() -> None:
    packed = limits.PACKAGE_ARCHIVE_MAX
    half = limits.PACKAGE_UNPACKED_MAX // 2
    unpacked = [Raw(name=b"a", record={"size": half}), Raw(name=b"b", record={"size": half})]
    count = limits.PACKAGE_FILES_MAX
    files = [Raw(name=b"%05d" % number) for number in range(count + 1)]

    codes = {
        "packed": (code_of(bytes(packed)), code_of(bytes(packed + 1))),
        "unpacked": (code_of(zipped(unpacked)), code_of(zipped([*unpacked, Raw(name=b"c", record={"size": 1})]))),
        "files": (code_of(zipped(files[:-1])), code_of(zipped(files))),
        "entries": (code_of(zipped([], count=count + 2)), code_of(zipped([], count=count + 3))),
    }

    assert codes == {
        "packed": (MALFORMED, TOO_LARGE),
        "unpacked": (MALFORMED, TOO_LARGE),
        "files": ("package-manifest-missing", TOO_LARGE),
        "entries": (MALFORMED, TOO_LARGE),
    }


BOMBS = [
    "bzip2",
    "a directory of 64 MiB",
    "a directory of 64 MiB that says it is short",
    "a directory of 5,000 records of one entry",
    "a manifest of a million lists",
    "a manifest of 9 MiB",
]


@pytest.mark.parametrize("row", BOMBS)
def test_a_bomb_is_refused_before_anything_is_made_of_it(row: str) -> None:
    bomb = ROWS[row][0]()
    unpack(GOOD)  # so that everything is imported
    tracemalloc.start()
    try:
        code_of(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * limits.MIB + min(len(bomb), limits.PACKAGE_MANIFEST_MAX)


def test_no_code_of_a_package_is_run_whether_it_is_taken_or_not() -> None:
    loaded = set(sys.modules)
    files = {"evil/__init__.py": EVIL, "evil/flows.py": EVIL, "conftest.py": EVIL}

    found = unpack(package(files), trust=TrustPolicy([KEY], required=False))
    code_of(package({**files, "evil/a.so": b""}))

    assert found.files == files
    assert set(sys.modules) == loaded
