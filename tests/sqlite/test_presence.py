"""Who has a file open, and knows how much of its schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure.backends.sqlite import file, migrations, presence
from perdure.backends.sqlite.presence import Presence, open_before
from perdure.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def held(path: str, knows: int) -> Presence:
    made = Presence(path, knows)
    made.hold(os.urandom)
    return made


def names(path: str) -> list[str]:
    return sorted(each.name for each in Path(path).parent.iterdir())


def test_a_file_is_open_before_a_migration_as_long_as_one_has_it_who_does_not_know_it(path: str) -> None:
    one, another, newer = held(path, 16), held(path, 16), held(path, 17)

    assert [open_before(path, number) for number in (16, 17, 18)] == [False, True, True]
    one.give_up()
    assert open_before(path, 17)
    another.give_up()
    assert [open_before(path, number) for number in (17, 18)] == [False, True]
    newer.give_up()
    assert not open_before(path, 18)
    assert names(path) == []


def test_stores_beside_it_are_others(path: str) -> None:
    beside = [held(f"{path}{more}", 16) for more in ("2", "-open", ".open0001")]

    assert not open_before(path, 17)
    for each in beside:
        each.give_up()


def test_a_link_to_a_file_is_that_file(path: str) -> None:
    Path(path).touch()
    link = Path(path).with_name("link.db")
    link.symlink_to(path)

    holding = held(str(link), 16)

    assert open_before(path, 17)
    holding.give_up()


def test_what_was_left_by_a_kill_holds_nothing_back(path: str) -> None:
    Path(f"{path}-open0016").touch()

    assert not open_before(path, 17)
    assert names(path) == []


def test_a_file_of_locks_that_cannot_be_locked_says_that_it_is_open(path: str) -> None:
    Path(f"{path}-open0016").mkdir()

    assert open_before(path, 17)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["_share", "_connected"])
def test_a_lock_whose_file_is_removed_meanwhile_is_taken_again(
    path: str, moment: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one closes between our opening and our lock; somebody else may have made a new one."""
    lock = Path(f"{path}-open0016")
    lock.touch()
    before: Any = getattr(presence, moment)
    times = 0

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        nonlocal times
        found = before(*arguments, **named) if moment == "_connected" else None
        times += 1
        if times == 1:
            lock.unlink()
            if again:
                apsw.Connection(str(lock)).close()
        return found if moment == "_connected" else before(*arguments, **named)

    monkeypatch.setattr(presence, moment, meanwhile)
    holding = held(path, 16)
    monkeypatch.undo()

    assert open_before(path, 17)
    holding.give_up()


def test_who_opens_a_file_waits_for_one_who_looks_whether_it_was_the_last(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = presence._connected
    looking = connected(f"{path}-open0016", create=True)
    looking.execute("BEGIN EXCLUSIVE")
    refused: list[Exception] = []

    def until_busy(*arguments: Any, **named: Any) -> apsw.Connection:
        try:
            return connected(*arguments, **named)
        except apsw.BusyError as error:
            refused.append(error)
            looking.execute("ROLLBACK")
            raise

    monkeypatch.setattr(presence, "_connected", until_busy)

    held(path, 16).give_up()

    assert refused


async def test_a_file_that_others_open_at_the_same_moment_is_waited_for_at_each_look(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def busy_once(module: Any, name: str) -> None:
        call, place = getattr(module, name), f"{module.__name__.rpartition('.')[2]}.{name}"

        def look(*arguments: Any) -> Any:
            if place not in refused:
                refused.append(place)
                raise apsw.BusyError
            return call(*arguments)

        monkeypatch.setattr(module, name, look)

    busy_once(file, "tables")
    busy_once(file, "missing")
    busy_once(migrations, "missing")

    async with open_store(f"sqlite:///{path}"):
        pass

    assert refused == ["file.missing", "file.tables", "migrations.missing"]
