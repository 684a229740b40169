"""`perdure package`: building, looking at and signing archives from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.cli import cli, main
from perdure.deploying.files import read_built_with, read_seed
from perdure.packages.archive import unpack
from perdure.packages.signing import is_valid
from tests.deploying.conftest import Lay
from tests.deploying.samples import PYPROJECT

SEED = bytes(range(32))
PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"


def run(*arguments: object) -> Result:
    found = CliRunner().invoke(cli, ["package", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["package", *map(str, arguments)])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def archive(lay: Lay, tmp_path: Path) -> Path:
    return Path(json.loads(run("build", lay(), "--out", tmp_path / "out", "--json").stdout)["path"])


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    file = tmp_path / "seed"
    file.write_text(SEED.hex() + "\n")
    file.chmod(0o600)
    return file


def test_build_writes_the_archive_and_what_it_was_built_with(lay: Lay, tmp_path: Path) -> None:
    told = json.loads(run("build", lay(), "--out", tmp_path / "a" / "b", "--json").stdout)

    path = Path(told["path"])
    package = unpack(path.read_bytes(), identity=told["identity"])
    assert path.parent == tmp_path / "a" / "b"
    assert path.name == f"shop-{told['identity'][:12]}.zip"
    assert (told["name"], told["types"], told["bytes"]) == ("shop", ["Order", "hello"], path.stat().st_size)
    assert told["warnings"] == []
    assert read_built_with(path) == told["built_with"]
    assert set(told["built_with"]["distributions"]) == {"msgspec", "perdure"}
    assert sorted(one.name for one in path.parent.iterdir()) == [f"{path.stem}.built.json", path.name]
    assert package.signatures == ()


def test_build_tells_people_the_same_and_warns_on_stderr(lay: Lay, tmp_path: Path) -> None:
    folder = lay(pyproject=PYPROJECT.replace('"perdure", ', ""))

    found = run("build", folder, "--out", tmp_path / "out")

    assert "types     Order, hello" in found.stdout
    assert "warning [package-requirement-undeclared]: shop/flows.py:2: import perdure" in found.stderr
    assert "warning" not in found.stdout


def test_build_says_what_is_wrong(tmp_path: Path, lay: Lay, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    assert "error [package-build-refused]" in refused(capsys, "build", tmp_path)
    assert "name another folder" in refused(capsys, "build", lay(), "--out", tmp_path / "file")


def test_build_shows_its_steps_on_a_terminal_only(lay: Lay, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "perdure", "package", "build", str(lay()), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as building:
        os.close(theirs)
        shown = b""
        while more := _read(ours):
            shown += more
        printed = building.stdout.read() if building.stdout else b""
    os.close(ours)

    assert building.returncode == 0, shown
    assert b"importing it again" in shown
    assert b"importing" not in printed


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4_096)
    except OSError:  # nobody has the other end any more
        return b""


def test_inspect_shows_all_of_a_package(archive: Path, seed: Path) -> None:
    run("sign", archive, "--key", seed)

    text = run("inspect", archive).stdout
    told = json.loads(run("inspect", archive, "--json").stdout)

    package = unpack(archive.read_bytes())
    for part in (
        package.identity,
        "Order",
        "shop.flows:hello",
        "hello()",
        "Placed",
        "msgspec>=0.21",
        "shop/flows.py",
        ">=3.11",
        PUBLIC,
        "yes",
    ):
        assert part in text
    assert told["identity"] == package.identity
    assert told["processes"][0]["type"] == "Order"
    assert set(told["schemas"]) == set(package.manifest.schemas)
    assert told["files"][1] == {"path": "shop/flows.py", "size": package.manifest.files[1].size, "sha256": package.manifest.files[1].sha256}
    assert told["signatures"] == [{"key": PUBLIC, "verifies": True}]
    assert told["built_with"]["builder"].startswith("perdure ")


def test_inspect_tells_a_signature_of_another_package(archive: Path, seed: Path, lay: Lay, tmp_path: Path) -> None:
    other = Path(json.loads(run("build", lay({"src/shop/more.py": ""}), "--out", tmp_path / "more", "--json").stdout)["path"])
    run("sign", other, "--key", seed)
    first = unpack(archive.read_bytes())
    from perdure.packages.archive import pack

    archive.write_bytes(pack(first.manifest, first.files, unpack(other.read_bytes()).signatures))

    assert json.loads(run("inspect", archive, "--json").stdout)["signatures"] == [{"key": PUBLIC, "verifies": False}]
    assert "no: it is not one of this package" in run("inspect", archive).stdout


def test_inspect_refuses_what_is_no_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")

    assert "error [package-archive-malformed]" in refused(capsys, "inspect", tmp_path / "a.zip")
    assert "No such file" in refused(capsys, "inspect", tmp_path / "b.zip")
    with (tmp_path / "c.zip").open("wb") as stream:
        stream.truncate(64 * 1024 * 1024 + 1)
    assert "error [package-too-large]" in refused(capsys, "inspect", tmp_path / "c.zip")


def test_sign_adds_a_signature_and_keeps_the_identity_and_the_others(archive: Path, seed: Path, tmp_path: Path) -> None:
    before = unpack(archive.read_bytes())
    key = json.loads(run("key", tmp_path / "other", "--json").stdout)["key"]

    told = json.loads(run("sign", archive, "--key", seed, "--json").stdout)
    run("sign", archive, "--key", tmp_path / "other", "--out", tmp_path / "both.zip")

    once, both = unpack(archive.read_bytes()), unpack((tmp_path / "both.zip").read_bytes())
    assert told == {"path": str(archive), "identity": before.identity, "key": PUBLIC}
    assert once.identity == both.identity == before.identity
    assert [one.key for one in once.signatures] == [PUBLIC]
    assert [one.key for one in both.signatures] == sorted([PUBLIC, key])
    assert all(is_valid(both.identity, one) for one in both.signatures)


def test_a_private_key_is_made_once_for_its_owner_and_never_shown(
    tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"

    shown = run("key", file).output + run("sign", archive, "--key", file).output

    assert file.stat().st_mode & 0o777 == 0o600
    assert len(read_seed(file)) == 32
    assert read_seed(file).hex() not in shown
    assert "File exists" in refused(capsys, "key", file)
    run("key", tmp_path / "next")
    assert read_seed(tmp_path / "next") != read_seed(file)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"secret" * 5, 0o600, "expected a private Ed25519 key"),
        (b"secret" * 500, 0o600, "expected a private Ed25519 key"),
        (SEED, 0o640, "others may read this private key"),
        (None, 0o600, "No such file"),
    ],
)
def test_a_bad_key_file_is_refused_without_showing_it(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, content: bytes | None, mode: int, says: str
) -> None:
    file, before = tmp_path / "bad", archive.read_bytes()
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)

    told = refused(capsys, "sign", archive, "--key", file)

    assert says in told
    assert "secret" not in told
    assert archive.read_bytes() == before


def test_a_key_may_be_raw_bytes(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(SEED)
    (tmp_path / "raw").chmod(0o600)

    assert json.loads(run("sign", archive, "--key", tmp_path / "raw", "--json").stdout)["key"] == PUBLIC
