"""The catalog of an engine: versions are imported when they are first needed, and stay while they are used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar

import pytest

from perdure import limits
from perdure.errors import PackageImportFailed, UsageError
from perdure.packages.catalog import Catalog
from perdure.packages.finding import VERSIONS
from perdure.packages.loading import PackageCode
from tests.packages import journal
from tests.packages.versions import made

WRITES = "from tests.packages import journal\njournal.write('imported {n}')\n"
WAITS = WRITES + "journal.wait()\n"
CHECKS = WRITES + "journal.check()\n"
SEEN: ContextVar[str] = ContextVar("seen", default="nothing")

Source = Callable[[], Awaitable[PackageCode]]


@pytest.fixture
async def catalog() -> AsyncIterator[Catalog]:
    made = Catalog(most=3)
    yield made
    await made.close()


def version(number: int, code: str = WRITES) -> PackageCode:
    return made({"shop/flows.py": f"NUMBER = {number}\n" + code.replace("{n}", str(number))}, entries=("shop.flows:NUMBER",))


def of(code: PackageCode) -> Source:
    async def source() -> PackageCode:
        journal.write("read")
        return code

    return source


async def number_of(catalog: Catalog, code: PackageCode) -> int:
    async with catalog.use(code.content_hash, of(code)) as loaded:
        number: int = loaded.object("shop.flows:NUMBER")
        return number


async def begun() -> None:
    """Return when an import is under way, and waits for the gate."""
    assert await asyncio.to_thread(journal.BEGUN.wait, 60)


def names(*codes: PackageCode) -> tuple[str, ...]:
    return tuple(code.content_hash for code in codes)


async def test_a_version_is_read_and_imported_once_however_many_ask_at_the_same_time(catalog: Catalog) -> None:
    code = version(1)

    found = await asyncio.gather(*(number_of(catalog, code) for _ in range(50)))

    assert (found, journal.LINES) == ([1] * 50, ["read", "imported 1"])


async def test_a_version_that_is_not_used_any_more_stays_loaded(catalog: Catalog) -> None:
    code = version(1)

    assert [await number_of(catalog, code) for _ in range(3)] == [1, 1, 1]

    assert (journal.LINES, catalog.loaded, catalog.pins(code.content_hash)) == (["read", "imported 1"], names(code), 0)


async def test_pins_are_counted(catalog: Catalog) -> None:
    code = version(1)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(catalog.use(code.content_hash, of(code)))
        assert catalog.pins(code.content_hash) == 3
        async with catalog.use(code.content_hash, of(code)):
            assert catalog.pins(code.content_hash) == 4

        assert catalog.pins(code.content_hash) == 3
    assert (catalog.pins(code.content_hash), catalog.pins(version(2).content_hash)) == (0, 0)


async def test_the_version_that_was_not_used_for_longest_is_evicted(catalog: Catalog) -> None:
    one, two, three, four = (version(number) for number in (1, 2, 3, 4))
    for code in (one, two, three, one):
        await number_of(catalog, code)
    assert catalog.loaded == names(two, three, one)

    await number_of(catalog, four)

    assert catalog.loaded == names(three, one, four)
    assert two.content_hash[:16] not in VERSIONS
    assert await number_of(catalog, two) == 2  # it is imported again
    assert journal.LINES.count("imported 2") == 2


async def test_a_version_in_use_is_not_evicted(catalog: Catalog) -> None:
    one = version(1, "def later():\n    import shop.late\n    return shop.late.__name__\n")
    one = made({**one.files, "shop/late.py": ""}, entries=one.entries)
    async with catalog.use(one.content_hash, of(one)) as loaded:
        for number in range(2, 9):
            await number_of(catalog, version(number))

        assert loaded.object("shop.flows:later")() == f"shop@{one.content_hash[:16]}.late"
        assert catalog.loaded == names(one, version(7), version(8))
        assert catalog.evict(one.content_hash) is False
    assert catalog.loaded == names(version(7), version(8), one)


async def test_nobody_waits_for_a_place_when_all_versions_are_in_use(catalog: Catalog) -> None:
    codes = [version(number) for number in range(1, 8)]
    async with AsyncExitStack() as stack:
        for code in codes:
            await stack.enter_async_context(catalog.use(code.content_hash, of(code)))
        assert catalog.loaded == names(*codes)

    assert len(catalog.loaded) == 3  # as soon as they are not in use any more
    assert set(catalog.loaded) <= set(names(*codes))


async def test_64_versions_stay_loaded_unless_something_else_is_said() -> None:
    catalog = Catalog()
    for number in range(limits.PACKAGES_LOADED + 2):
        await number_of(catalog, version(number))

    assert (limits.PACKAGES_LOADED, len(catalog.loaded), len(VERSIONS)) == (64, 64, 64)
    await catalog.close()


async def test_everybody_who_waits_hears_of_a_failure_and_the_next_one_tries_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = version(1, CHECKS)
    monkeypatch.setattr(journal, "READY", False)

    failures = await asyncio.gather(*(number_of(catalog, code) for _ in range(3)), return_exceptions=True)
    monkeypatch.setattr(journal, "READY", True)

    assert [str(failure).partition("; ")[0].rpartition(": ")[2] for failure in failures] == ["not ready"] * 3
    assert all(isinstance(failure, PackageImportFailed) for failure in failures)
    assert (journal.LINES, catalog.loaded) == (["read", "imported 1"], ())
    assert await number_of(catalog, code) == 1
    assert journal.LINES == ["read", "imported 1"] * 2


async def test_a_failure_of_one_version_is_none_of_the_others(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "READY", False)

    bad, good = await asyncio.gather(number_of(catalog, version(1, CHECKS)), number_of(catalog, version(2)), return_exceptions=True)

    assert (type(bad), good) == (PackageImportFailed, 2)


async def test_what_the_source_raises_is_raised_and_it_is_asked_again(catalog: Catalog) -> None:
    code = version(1)

    async def missing() -> PackageCode:
        raise LookupError("no such package")

    with pytest.raises(LookupError):
        async with catalog.use(code.content_hash, missing):
            pass

    assert await number_of(catalog, code) == 1


async def test_a_source_that_returns_another_version_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="return the code that was asked for"):
        async with catalog.use(version(1).content_hash, of(version(2))):
            pass

    assert VERSIONS == {}


async def test_who_asked_first_may_go_away_while_others_wait(catalog: Catalog) -> None:
    code = version(1, WAITS)
    first = asyncio.ensure_future(number_of(catalog, code))
    second = asyncio.ensure_future(number_of(catalog, code))
    await begun()

    first.cancel()
    await asyncio.wait([first])
    journal.GATE.set()

    assert await second == 1
    assert (first.cancelled(), journal.LINES, catalog.pins(code.content_hash)) == (True, ["read", "imported 1"], 0)


async def test_a_version_that_nobody_waits_for_any_more_is_loaded_and_not_in_use(catalog: Catalog) -> None:
    code = version(1, WAITS)
    asking = asyncio.ensure_future(number_of(catalog, code))
    await begun()
    asking.cancel()
    await asyncio.wait([asking])
    assert (catalog.loaded, catalog.pins(code.content_hash), catalog.evict(code.content_hash)) == ((), 0, False)

    journal.GATE.set()
    await asyncio.wait([task for slot in catalog._slots.values() if (task := slot.loading)])

    assert catalog.loaded == names(code)
    assert catalog.evict(code.content_hash) is True
    assert (catalog.loaded, VERSIONS) == ((), {})
    assert catalog.evict(code.content_hash) is True


async def test_the_import_is_on_a_thread_without_a_loop_and_without_the_askers_variables(catalog: Catalog) -> None:
    code = version(
        1,
        "import asyncio, threading\nfrom tests.packages import journal, test_catalog\n"
        "journal.write(threading.current_thread().name.rpartition('_')[0])\n"
        "journal.write(test_catalog.SEEN.get())\ntest_catalog.SEEN.set('by the import')\n"
        "try:\n    asyncio.get_running_loop()\nexcept RuntimeError:\n    journal.write('no loop')\n",
    )
    SEEN.set("by the asker")

    await number_of(catalog, code)
    await number_of(catalog, version(2, "from tests.packages import journal, test_catalog\njournal.write(test_catalog.SEEN.get())\n"))

    assert journal.LINES == ["read", "perdure-packages", "nothing", "no loop", "read", "nothing"]


async def test_the_loop_goes_on_while_a_version_is_imported(catalog: Catalog) -> None:
    waiting = asyncio.ensure_future(number_of(catalog, version(1, WAITS)))
    await begun()

    assert await number_of(catalog, version(2)) == 2
    journal.GATE.set()
    assert await waiting == 1


async def test_each_load_logs_the_versions_found(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.packages")
    code = version(1)
    async with catalog.use(code.content_hash, of(code)) as loaded:
        [line] = caplog.messages

    assert line == f"package shop {code.content_hash[:16]}: loaded, with Python {loaded.found['Python']}"


async def test_two_engines_of_one_process_share_a_version(catalog: Catalog) -> None:
    code, other = version(1), Catalog(most=1)
    async with catalog.use(code.content_hash, of(code)) as here, other.use(code.content_hash, of(code)) as there:
        assert here.module("shop.flows") is there.module("shop.flows")
    await number_of(other, version(2))

    assert (other.loaded, catalog.loaded) == (names(version(2)), names(code))
    assert other.evicted_alive == 0  # it was not gone, only given back
    assert await number_of(catalog, code) == 1
    assert journal.LINES.count("imported 1") == 1
    await other.close()


async def test_what_others_make_of_a_version_goes_with_it(catalog: Catalog) -> None:
    code = version(1)
    async with catalog.use(code.content_hash, of(code)) as loaded:
        loaded.derived["schemas"] = 1
    async with catalog.use(code.content_hash, of(code)) as loaded:
        assert loaded.derived == {"schemas": 1}
    catalog.evict(code.content_hash)

    async with catalog.use(code.content_hash, of(code)) as loaded:
        assert loaded.derived == {}


# --- the end ---------------------------------------------------------------------------------------------


async def test_a_catalog_that_is_closed_has_let_go_of_all() -> None:
    catalog = Catalog()
    await number_of(catalog, version(1))

    await catalog.close()

    assert (catalog.loaded, VERSIONS) == ((), {})
    with pytest.raises(UsageError, match="the catalog is closed"):
        await number_of(catalog, version(1))


async def test_what_is_in_use_at_the_end_goes_when_it_is_left() -> None:
    catalog, code = Catalog(), version(1)
    async with catalog.use(code.content_hash, of(code)) as loaded:
        await catalog.close()
        assert loaded.object("shop.flows:NUMBER") == 1

    assert VERSIONS == {}


async def test_an_import_under_way_at_the_end_is_not_waited_for_and_leaves_nothing() -> None:
    catalog = Catalog()
    asking = asyncio.ensure_future(number_of(catalog, version(1, WAITS)))
    await begun()

    await catalog.close()
    assert len(VERSIONS) == 1
    journal.GATE.set()
    await asyncio.to_thread(catalog._threads.shutdown)

    assert VERSIONS == {}
    with pytest.raises(UsageError, match="the catalog is closed"):
        await asking
    assert catalog.loaded == ()
