"""The archive: one layout for one package, which every tool reads."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import PackageIdentityMismatch, PackageRefused, PackageTooLarge
from perdure.packages.archive import pack, unpack, with_signatures
from perdure.packages.manifest import describe
from perdure.packages.signing import Signature, sign
from tests.packages.samples import ARCHIVE_SHA256, ARCHIVE_SIZE, FILES, IDENTITY, MANIFEST, SEED, SIGNATURE, archive, shop
from tests.packages.zips import package

OTHER = bytes(reversed(SEED))
# What takes a folder of an archive apart; the second is on most systems, and is not needed where it is not.
READERS: list[Sequence[str]] = [[sys.executable, "-m", "zipfile", "-e", "{archive}", "{folder}"]]
if shutil.which("unzip"):
    READERS.append(["unzip", "-q", "{archive}", "-d", "{folder}"])


def test_the_vector_has_its_bytes() -> None:
    made = pack(shop(), FILES)

    assert (len(made), hashlib.sha256(made).hexdigest()) == (ARCHIVE_SIZE, ARCHIVE_SHA256)
    assert made == package(), "the other writer of the tests gives the same"


def test_a_package_is_taken_apart_into_what_it_was_made_of() -> None:
    found = unpack(archive(SIGNATURE), identity=IDENTITY)

    assert found.manifest == shop()
    assert found.identity == IDENTITY
    assert found.files == FILES
    assert found.signatures == (SIGNATURE,)
    assert found.trusted == ()
    assert all(type(data) is bytes for data in found.files.values())


def test_the_order_of_what_is_given_does_not_count() -> None:
    other = sign(shop().identity, OTHER)

    made = {
        pack(shop(dict(files)), dict(files), signatures)
        for files in itertools.permutations(FILES.items())
        for signatures in ([SIGNATURE, other], [other, SIGNATURE])
    }

    assert len(made) == 1


def test_entries_are_in_one_order_and_say_nothing_of_who_made_them_and_when() -> None:
    with zipfile.ZipFile(io.BytesIO(archive(SIGNATURE))) as found:
        entries = found.infolist()

    assert [entry.filename for entry in entries] == [
        "perdure.json",
        "perdure.sig.json",
        "src/shop/__init__.py",
        "src/shop/data/Grüße.txt",
        "src/shop/flows.py",
    ]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert [entry.flag_bits for entry in entries] == [0, 0, 0, 0x800, 0]
    assert {(entry.compress_type, entry.extra, entry.comment) for entry in entries} == {(zipfile.ZIP_STORED, b"", b"")}


def test_the_identity_is_the_hash_of_what_any_tool_takes_out_as_the_manifest() -> None:
    with zipfile.ZipFile(io.BytesIO(archive(SIGNATURE))) as found:
        assert found.testzip() is None
        assert found.read("perdure.json") == MANIFEST
        assert hashlib.sha256(found.read("perdure.json")).hexdigest() == IDENTITY
        assert {name.removeprefix("src/"): found.read(name) for name in found.namelist()[2:]} == FILES


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: Path(reader[0]).stem)
def test_other_tools_take_the_same_files_out(reader: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "shop.zip").write_bytes(archive(SIGNATURE))
    folder = tmp_path / "out"
    command = [part.format(archive=tmp_path / "shop.zip", folder=folder) for part in reader]

    subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})

    found = {str(path.relative_to(folder / "src")): path.read_bytes() for path in (folder / "src").rglob("*") if path.is_file()}
    assert found == FILES
    assert hashlib.sha256((folder / "perdure.json").read_bytes()).hexdigest() == IDENTITY


def test_a_package_without_files_or_processes_is_one() -> None:
    manifest = describe({}, name="nothing", python="")

    assert unpack(pack(manifest, {})).files == {}


@pytest.mark.parametrize("identity", ["0" * 64, IDENTITY.upper(), "", IDENTITY[:16]])
def test_another_package_than_the_one_that_was_asked_for_is_refused(identity: str) -> None:
    with pytest.raises(PackageIdentityMismatch) as caught:
        unpack(archive(), identity=identity)

    assert (caught.value.code, caught.value.expected, caught.value.found) == ("package-identity-mismatch", identity, IDENTITY)


def test_signing_changes_the_archive_and_not_the_identity() -> None:
    unsigned = archive()

    signed = with_signatures(unsigned, [SIGNATURE])

    assert signed == archive(SIGNATURE) != unsigned
    assert unpack(signed).identity == unpack(unsigned).identity
    assert unpack(signed).files == unpack(unsigned).files


def test_signatures_are_added_and_none_is_lost() -> None:
    other = sign(shop().identity, OTHER)
    stored, given = archive(SIGNATURE), archive(other)

    assert (
        with_signatures(stored, unpack(given).signatures) == with_signatures(given, unpack(stored).signatures) == archive(SIGNATURE, other)
    )
    assert with_signatures(stored, unpack(archive()).signatures) == stored
    assert with_signatures(stored, [SIGNATURE]) == stored


BAD_FILES: list[tuple[dict[str, bytes], str]] = [
    ({**FILES, "../x": b""}, "package-path-invalid"),
    ({**FILES, "shop/\ud800": b""}, "package-path-invalid"),
    ({**FILES, "shop/FLOWS.py": b""}, "package-path-duplicate"),
    ({**FILES, "shop/flows/__init__.py": b""}, "package-module-ambiguous"),
    ({**FILES, "shop/a.so": b""}, "package-native-code"),
    ({**FILES, "json.py": b""}, "package-name-reserved"),
]


@pytest.mark.parametrize(("files", "code"), BAD_FILES)
def test_what_could_not_be_taken_apart_is_not_packed(files: dict[str, bytes], code: str) -> None:
    described = msgspec.structs.replace(shop(), files=())

    with pytest.raises(PackageRefused) as caught:
        pack(described, files)

    assert caught.value.code == code


def test_files_and_manifest_have_to_fit_to_be_packed() -> None:
    fewer = {path: data for path, data in FILES.items() if path != "shop/flows.py"}
    codes = []

    for files in ({**FILES, "shop/more.py": b""}, fewer, {**FILES, "shop/flows.py": b"x = 2\n"}):
        with pytest.raises(PackageRefused) as caught:
            pack(shop(), files)
        codes.append(caught.value.code)

    assert codes == ["package-file-unlisted", "package-file-missing", "package-file-corrupt"]


def test_a_key_signs_once() -> None:
    with pytest.raises(PackageRefused, match="one for each key"):
        pack(shop(), FILES, [SIGNATURE, SIGNATURE])


def test_as_many_files_as_are_allowed_are_packed_and_taken_apart() -> None:
    files = {f"shop/m{number:05}.py": b"" for number in range(limits.PACKAGE_FILES_MAX)}
    many = pack(describe(files, name="many", python=""), files, [SIGNATURE])

    assert unpack(many).files == files
    with pytest.raises(PackageTooLarge, match="files: 10,001, the limit is 10,000"):
        pack(shop(), {**files, "more.py": b""})


def test_as_many_bytes_as_are_allowed_are_packed_and_taken_apart() -> None:
    around = len(pack(describe({"a": b"0" * 10_000_000}, name="a", python=""), {"a": b"0" * 10_000_000})) - 10_000_000
    files = {"a": bytes(limits.PACKAGE_ARCHIVE_MAX - around)}

    whole = pack(describe(files, name="a", python=""), files)

    assert len(whole) == limits.PACKAGE_ARCHIVE_MAX
    assert unpack(whole).files == files
    files = {"a": files["a"] + b"\0"}
    with pytest.raises(PackageTooLarge, match="bytes: 67,108,865, the limit is 67,108,864"):
        pack(describe(files, name="a", python=""), files)


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}/[a-zé0-9]{1,8}\.[a-z]{1,2}", fullmatch=True), st.binary(max_size=50)), max_size=8))
def test_whatever_is_packed_is_what_the_other_writer_writes_and_comes_back(entries: list[tuple[str, bytes]]) -> None:
    files = {"x_" + path: data for path, data in entries}
    manifest = describe(files, name="any", python=">=3.11")

    made = pack(manifest, files)

    assert made == package(files, manifest=manifest.encode())
    assert unpack(made).files == files
    assert list(unpack(made).files) == sorted(files, key=str.encode)


def test_signatures_of_any_keys_are_kept_as_they_are() -> None:
    wrong = Signature(algorithm="ed25519", key="0" * 64, signature="f" * 128)

    assert unpack(archive(SIGNATURE, wrong)).signatures == (wrong, SIGNATURE)


def test_bytes_that_move_to_another_file_or_into_a_name_make_another_package() -> None:
    files = {"shop/a.py": b"a = 1\nb = 2\n", "shop/b.py": b"c = 3\n"}
    moved = [
        files,
        {"shop/a.py": b"a = 1\n", "shop/b.py": b"b = 2\nc = 3\n"},
        {"shop/a.py": b"a = 1\nb = 2\nc = 3\n", "shop/b.py": b""},
        {"shop/a.py": b"c = 3\n", "shop/b.py": b"a = 1\nb = 2\n"},
        {"shop/a.pyb": b"a = 1\nb = 2\n", "shop/.py": b"c = 3\n"},
        {"shop/a.pya": b" = 1\nb = 2\n", "shop/b.py": b"c = 3\n"},
    ]

    identities = {unpack(pack(shop(each), each)).identity for each in moved}

    assert len(identities) == len(moved)
