"""Before events are removed they are written out, at least once; and nothing is removed that was not."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import Engine, Retention, Store, VirtualClock
from perdure.engine import inspection
from perdure.engine.archive import ArchiveRecord, Folder, read_archive
from perdure.errors import ArchiveInvalid, MessageExpired
from tests.engine.keeping import DAY, WEEK, Add, End, account_app, account_id, fill, say
from tests.engine.orders import Ledger, eventually

EVENTS_ONLY = Retention(turns=timedelta(days=1))


def told(folder: Path) -> list[tuple[int, str]]:
    return [(event.seq, event.event) for record in read_archive(folder) for event in record.events]


async def test_events_are_in_the_folder_before_they_are_out_of_the_store(store: Store, clock: VirtualClock, tmp_path: Path) -> None:
    async with Engine(store, account_app(Ledger()), retention=WEEK, archive=tmp_path / "kept") as engine:
        await fill(engine, "a", 60)
        process_id = await account_id(engine, "a")
        whole = [(entry.seq, entry.event) for entry in await inspection.timeline(store, process_id, limit=1_000)]
        clock.advance(DAY)
        await engine.sweep()
        first = (await inspection.process(store, process_id)).first_event
        assert told(tmp_path / "kept") == whole[:first]

        await say(engine, End("a"), "end")
        whole += [(entry.seq, entry.event) for entry in await inspection.timeline(store, process_id, after=whole[-1][0])]
        clock.advance(3 * DAY)
        await engine.sweep()

    assert told(tmp_path / "kept") == whole
    last = list(read_archive(tmp_path / "kept", tenant="default", process_id=process_id))[-1]
    assert (last.process_type, last.status, last.fields) == ("Account", "ended", '{"total":60}')
    assert list(read_archive(tmp_path / "kept", process_id="another")) == []


async def test_what_the_archive_does_not_take_stays_in_the_store(store: Store, clock: VirtualClock) -> None:
    taken: list[ArchiveRecord] = []
    broken = True

    async def archive(record: ArchiveRecord) -> None:
        if broken:
            raise OSError("no room")
        taken.append(record)

    async with Engine(store, account_app(Ledger()), retention=WEEK, archive=archive) as engine:
        await fill(engine, "a", 3)
        process_id = await account_id(engine, "a")
        clock.advance(2 * DAY)
        with pytest.raises(OSError, match="no room"):
            await engine.sweep()
        assert (await inspection.process(store, process_id)).first_event == 0
        assert await say(engine, Add("a", 1), "a-0") == 1

        broken = False
        await engine.sweep()
        with pytest.raises(MessageExpired):
            await say(engine, Add("a", 1), "a-0")
    assert [event.seq for record in taken for event in record.events] == list(range(3 + 4 * 2))


async def test_the_engine_tries_again_by_itself_when_the_archive_failed(
    store: Store, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[ArchiveRecord] = []
    tries = 0

    async def archive(record: ArchiveRecord) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("no room")
        taken.append(record)

    async def failed() -> bool:
        due = clock.next_alarm()
        return tries == 1 and due is not None and due > clock.now()

    async def done() -> bool:
        return (await inspection.process(store, process_id)).first_event > 0

    async with Engine(store, account_app(Ledger()), retention=EVENTS_ONLY, archive=archive) as engine:
        await fill(engine, "a", 3)
        process_id = await account_id(engine, "a")
        clock.advance(2 * DAY)
        await eventually(failed)
        assert "it is tried again" in caplog.text
        clock.advance(60_000_000)
        await eventually(done)
    assert taken


async def test_a_folder_that_was_made_is_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("perdure.engine.archive._sync", synced.append)
    kept = tmp_path / "far" / "away"

    await Folder(kept, lambda: 0)(ArchiveRecord(tenant_id="t", process_id="p", process_type="P", stream_no=1, events=[]))

    assert synced == [tmp_path, tmp_path / "far", kept]


async def test_an_event_that_was_written_twice_is_read_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path, lambda: 0)
    record = ArchiveRecord(tenant_id="t", process_id="p", process_type="P", stream_no=1, events=[])
    events = [{"seq": seq, "at": 0, "event": "Bound", "values": {}} for seq in range(6)]
    for begin, end in ((0, 3), (0, 5), (5, 6)):
        path = tmp_path / "events-1970-01-01.jsonl"
        line = {"tenant_id": "t", "process_id": "p", "process_type": "P", "stream_no": 1, "events": events[begin:end]}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    await folder(record)

    assert [seq for seq, _ in told(tmp_path)] == list(range(6))


async def test_a_line_that_a_crash_has_torn_is_cut_off_and_never_read(tmp_path: Path) -> None:
    folder = Folder(tmp_path, lambda: 0)
    record = ArchiveRecord(tenant_id="t", process_id="p", process_type="P", stream_no=1, events=[])
    await folder(record)
    with (tmp_path / "events-1970-01-01.jsonl").open("a") as file:
        file.write('{"tenant_id":"t",' + "x" * 100_000)
    assert list(read_archive(tmp_path)) == [record]

    await folder(record)
    assert list(read_archive(tmp_path)) == [record, record]


async def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "events-2026-01-01.jsonl").write_text("{}\n")
    with pytest.raises(ArchiveInvalid, match=r"events-2026-01-01\.jsonl, line 1"):
        list(read_archive(tmp_path))
