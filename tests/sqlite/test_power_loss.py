"""The power goes at any moment: what was synced is there, of the rest all, nothing or a random half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from perdure import limits
from perdure.backends.sqlite.file import SqliteFile
from perdure.core.writer import Writer
from perdure.errors import OutcomeUnknown
from tests.sqlite.disk import Call, Disk, coin
from tests.sqlite.script import Enter, Told, check, empty_shop, files_of, perform, put
from tests.sqlite.shop import open_shop


class Moment(NamedTuple):
    files: dict[str, bytes]
    done: frozenset[Any]


@pytest.fixture
def early_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 12)


async def moments(disk: Disk, path: Path) -> list[Moment]:
    """Run the script, and keep what the disk would be after a loss of power before each call."""
    told, nothing, everything, half = Told(), list[Moment](), list[Moment](), list[Moment]()

    def keep(number: int, _call: Call) -> None:
        for kept, chance in ((nothing, lambda: False), (everything, lambda: True), (half, coin(number))):
            kept.append(Moment(disk.after_power_loss(chance), frozenset(told.done)))

    disk.trouble = keep
    await perform(path, disk.called, told)
    return nothing + everything + half


def damaged(kept: list[Moment], folder: Path) -> Iterator[int]:
    """The numbers of the moments after which something acknowledged is gone, or half there."""
    for number, moment in enumerate(kept):
        if number and moment == kept[number - 1]:
            continue
        connection = apsw.Connection(str(put(moment.files, folder / f"moment{number}")))
        try:
            connection.pragma("synchronous", "off")
            check(connection, Told(done=set(moment.done)))
        except (AssertionError, apsw.Error):
            yield number
        finally:
            connection.close()


@pytest.mark.usefixtures("early_checkpoint")
async def test_after_a_loss_of_power_at_any_call_everything_acknowledged_is_there_and_all_is_whole(tmp_path: Path) -> None:
    path = put(await empty_shop(tmp_path / "made"), tmp_path / "run")

    kept = await moments(Disk(), path)

    assert len(kept) > 200
    assert list(damaged(kept, tmp_path)) == []


@pytest.mark.usefixtures("early_checkpoint")
async def test_a_disk_that_lies_about_its_syncs_fails_the_same_test(tmp_path: Path) -> None:
    path = put(await empty_shop(tmp_path / "made"), tmp_path / "run")

    kept = await moments(Disk(honest=False), path)

    assert any(damaged(kept, tmp_path))


async def _fail_a_sync_crash_go_on_and_lose_power(tmp_path: Path) -> set[Any]:
    """Returns what is there in the end; Enter(1) and Enter(3) were acknowledged, Enter(2) was settled as committed."""
    path, disk = put(await empty_shop(tmp_path / "made"), tmp_path / "run"), Disk()
    database = await open_shop(path, vfs=disk.called)
    writer = Writer(database.backend, on_signals=lambda _topics: None)
    await writer.start()
    await writer.run(Enter(1))
    disk.fail_next(Call("sync", "wal"))
    with pytest.raises(OutcomeUnknown) as unknown:
        await writer.run(Enter(2))
    await writer.close()

    again = await open_shop(path, vfs=disk.called)
    assert await again.settle(unknown.value), "nobody else was on the file: recovery brings it back"
    writer = Writer(again.backend, on_signals=lambda _topics: None)
    await writer.start()
    await writer.run(Enter(3))
    after = put(disk.after_power_loss(), tmp_path / "after")
    await writer.close()
    return check(apsw.Connection(str(after)), Told())


async def test_what_a_failed_sync_left_in_the_cache_is_on_the_disk_before_it_is_believed(tmp_path: Path) -> None:
    assert await _fail_a_sync_crash_go_on_and_lose_power(tmp_path) == {Enter(1), Enter(2), Enter(3)}


async def test_without_the_checkpoint_at_opening_what_was_acknowledged_later_is_lost_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteFile, "_empty_wal", lambda _self: None)

    assert await _fail_a_sync_crash_go_on_and_lose_power(tmp_path) == {Enter(1)}


@pytest.mark.usefixtures("early_checkpoint")
async def test_a_crash_of_the_process_alone_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = put(await empty_shop(tmp_path / "made"), tmp_path / "run")
    told, kept = Told(), []
    disk = Disk()
    disk.trouble = lambda _number, _call: kept.append(Moment(files_of(path.parent), frozenset(told.done)))

    await perform(path, disk.called, told)

    assert list(damaged(kept, tmp_path)) == []
