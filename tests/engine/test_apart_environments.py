"""Environments of packages with an interpreter of their own: from the lock file, made once, and what comes of one that cannot be made."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from perdure import App, Engine, Store, VirtualClock, open_store
from perdure.engine.apart.environments import Environments
from perdure.errors import PackageEnvironmentFailed
from perdure.packages.archive import Package, pack, unpack
from perdure.packages.manifest import describe
from tests.engine.orders import reaches
from tests.engine.shop import reply, run, send
from tests.engine.wheels import only_from, wheel
from tests.engine.works import works
from tests.packages.built import deploy

NODE = App("node")
THREADS = min(32, (os.cpu_count() or 1) + 4)  # that `asyncio.to_thread` has


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """A store of one kind: what is tried here has nothing to do with stores."""
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as opened:
        yield opened


GREETS = """
@app.process
async def greets(p: perdure.Process) -> str:
    import greeting

    return greeting.hello()
"""


def changed(package: Package, *, files: dict[str, bytes | None] | None = None, **given: object) -> Package:
    """Return a package with other files or another manifest, as no build makes it."""
    kept = {path: data for path, data in {**package.files, **(files or {})}.items() if data is not None}
    manifest = package.manifest
    told = {name: getattr(manifest, name) for name in ("name", "python", "processes", "schemas", "requires", "isolation")}
    return unpack(pack(describe(kept, **{**told, **given}), kept))


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of environments with a pip in it, whose making takes longer than that of all others."""
    return tmp_path_factory.mktemp("environments")


async def test_two_versions_run_side_by_side_with_distributions_that_exclude_one_another(
    store: Store, environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_from(tmp_path / "wheels", monkeypatch)
    locks = [wheel(tmp_path / "wheels", "greeting", f"{one}.0", f"def hello():\n    return 'hello {one}'\n") for one in (1, 2)]
    one, two = (changed(works(apart=True, more=GREETS, lock=lock), requires=[f"greeting=={i}.*"]) for i, lock in enumerate(locks, 1))
    async with Engine(store, NODE, environments=environments) as engine:
        await deploy(store, one)
        await send(engine, "asleep", 60, id="a")
        assert await run(engine, "greets", id="1") == "hello 1"
        await deploy(store, two)
        assert await run(engine, "greets", id="2") == "hello 2"
        assert set(engine.versions.apart) == {one.identity, two.identity}
        assert (await engine.process("a")).package_hash == one.identity


async def test_an_environment_is_made_once_whoever_wants_it(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(tmp_path / "wheels", monkeypatch)
    lock = wheel(tmp_path / "wheels", "greeting", "1.0", "").encode()
    both = [Environments(environments) for _ in range(2)]

    found = await asyncio.gather(*(one.of("shop", lock) for one in (*both, *both)))

    [python] = {one.python for one in found}
    [module] = python.parents[1].glob("lib/*/site-packages/greeting.py")
    made = module.stat().st_ino
    assert (await Environments(environments).of("shop", lock)).python == python
    assert module.stat().st_ino == made
    other = await both[0].of("shop", lock + b"# another lock file\n")
    assert other.python != python


async def test_who_waits_for_an_environment_keeps_no_thread_from_whoever_makes_it(tmp_path: Path) -> None:
    many = [Environments(tmp_path) for _ in range(THREADS + 1)]
    await many[0].of("shop", b"# so that Perdure is there\n")

    found = await asyncio.gather(*(one.of("shop", b"") for one in many))

    assert len(set(found)) == 1


async def test_engines_and_deploys_of_one_program_that_are_the_first_in_a_folder_find_perdure_whole(tmp_path: Path) -> None:
    whole = {each.name: len(list(each.iterdir())) for each in (await Environments(tmp_path / "one").of("shop", b""))[1:]}
    for number in range(4):
        folder = tmp_path / str(number)

        found = await asyncio.gather(*(Environments(folder).of("shop", b"") for _ in range(8)))

        [environment] = set(found)
        assert {each.name: len(list(each.iterdir())) for each in environment[1:]} == whole
        assert [each.name for each in folder.glob("perdure-*")] == [environment.own.parent.name]


async def test_what_was_left_of_an_environment_by_somebody_who_was_killed_is_made_anew_where_nobody_writes(tmp_path: Path) -> None:
    left = (await Environments(tmp_path).of("shop", b"")).python.parents[1]
    left.with_suffix("").unlink()  # the link, which is not there before all else is
    (left / "bin" / "python").unlink()

    made = await Environments(tmp_path).of("shop", b"")

    assert made.python.exists()
    assert made.python.parents[1] != left, "a pip that was left, too, may still write there"
    assert not left.exists()


async def test_an_environment_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    first = await Environments(tmp_path).of("shop", b"")
    shutil.rmtree(first.python.parents[1])

    assert (await Environments(tmp_path).of("shop", b"")).python.exists()


async def test_a_distribution_with_other_bytes_is_refused_with_what_pip_says(
    environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_from(tmp_path / "wheels", monkeypatch)
    lock = wheel(tmp_path / "wheels", "greeting", "1.0", "other = 1\n")
    wheel(tmp_path / "wheels", "greeting", "1.0", "import os\n")

    with pytest.raises(PackageEnvironmentFailed, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        await Environments(environments).of("shop", lock.encode())


async def test_a_distribution_without_a_hash_is_refused(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(tmp_path / "wheels", monkeypatch)
    wheel(tmp_path / "wheels", "greeting", "1.0", "")

    for _ in range(2):  # it is there after the first time, and not whole
        with pytest.raises(PackageEnvironmentFailed, match="Hashes are required"):
            await Environments(environments).of("shop", b"greeting==1.0\n")


async def test_a_process_whose_environment_cannot_be_made_is_stranded_and_goes_on_when_it_can(
    store: Store, environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_from(tmp_path / "nothing", monkeypatch)
    package = works(apart=True, more=GREETS, lock=wheel(tmp_path / "wheels", "greeting", "1.0", "def hello():\n    return 'hello'\n"))
    await deploy(store, package)
    async with Engine(store, NODE, environments=environments) as engine:
        await send(engine, "greets", id="g")
        await reaches(engine, "g", "stranded")
        note = (await engine.process("g")).note
        assert note.startswith("package-environment-failed")
        assert "No matching distribution found for greeting==1.0" in note
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))

        assert await engine.retry_stranded(package.identity) == 1

        assert await reply(engine, "g") == "hello"


WORKS = works(apart=True)
REFUSED: dict[str, Callable[[], Package]] = {
    "package-isolation-unavailable: package shop .* it has no requirements.lock": lambda: changed(WORKS, files={"requirements.lock": None}),
    "package-requirement-unmet: package shop .* pytest: expected any version, found none": lambda: changed(WORKS, requires=["pytest"]),
    "package-import-failed: package shop .* the import of shop failed: ZeroDivisionError": lambda: changed(
        WORKS, files={"shop/__init__.py": b"1 / 0\n"}
    ),
    "package-import-failed: .* its interpreter has ended: it ended with status 3": lambda: changed(
        WORKS, files={"shop/__init__.py": b"import os\nos._exit(3)\n"}
    ),
    "package-entry-missing: .* shop.flows:Works": lambda: changed(
        WORKS, files={"shop/flows.py": WORKS.files["shop/flows.py"] + b"\ndel Works\n"}
    ),
    "package-schema-drift: .*Works": lambda: changed(
        WORKS, files={"shop/flows.py": WORKS.files["shop/flows.py"].replace(b"words: list[str]", b"words: list[int]")}
    ),
}


@pytest.mark.parametrize("says", REFUSED)
async def test_what_cannot_be_used_strands_its_processes_as_shared_code_does(says: str, store: Store, tmp_path: Path) -> None:
    package = REFUSED[says]()
    await deploy(store, package)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "where", id="w")
        await reaches(engine, "w", "stranded")
        note = (await engine.process("w")).note
        assert re.match(says, note.replace("\n", " ")), note
        assert str(tmp_path) not in note
        assert not engine.versions.apart
