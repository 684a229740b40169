"""Each commit of unknown outcome is settled rightly: written once or not at all, and its caller hears which."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure import limits
from perdure.core.writer import Writer
from perdure.store import open_store
from tests.postgres import adding
from tests.postgres.adding import Told, problems
from tests.postgres.proxy import BEGINS, COMMITS, FENCES, WRITES, Proxy, after, answered, asked, cut, hang_up, mute, refuse

pytestmark = pytest.mark.usefixtures("impatient")
CALLERS = 5


def conflict(proxy: Proxy) -> None:
    """Make the first batch a conflict, so that it is run again with locks, and ended by a commit of its own."""
    proxy.at(asked(WRITES), refuse("PD002", "made up"))


def cut_before_the_server_sees_it(proxy: Proxy) -> None:
    proxy.at(asked(WRITES), cut)


def cut_after_it_is_committed(proxy: Proxy) -> None:
    proxy.at(answered(WRITES), cut)


def cut_before_the_commit_of_a_locked_run(proxy: Proxy) -> None:
    conflict(proxy)
    proxy.at(asked(COMMITS), cut)


def cut_after_the_commit_of_a_locked_run(proxy: Proxy) -> None:
    conflict(proxy)
    proxy.at(answered(COMMITS), cut)


def delivered_late(proxy: Proxy) -> None:
    """The statement reaches the server when the client has looked, and is about to run the batch again."""
    late = proxy.at(asked(WRITES), hang_up)
    arrived = proxy.at(answered(WRITES), cut)

    async def deliver() -> None:
        await late.deliver()
        await arrived.seen.wait()

    proxy.at(asked(BEGINS), after(deliver))


def mute_before_the_server_sees_it(proxy: Proxy) -> None:
    proxy.at(asked(WRITES), mute)


def mute_after_it_is_committed(proxy: Proxy) -> None:
    proxy.at(answered(WRITES), mute)


def mute_in_the_middle_of_a_locked_run(proxy: Proxy) -> None:
    """The server has half of the call: no timeout of its own is for that, and it keeps the locks until somebody ends it."""
    conflict(proxy)
    proxy.at(asked(WRITES), mute)


SCENARIOS = [
    cut_before_the_server_sees_it,
    cut_after_it_is_committed,
    cut_before_the_commit_of_a_locked_run,
    cut_after_the_commit_of_a_locked_run,
    delivered_late,
    mute_before_the_server_sees_it,
    mute_after_it_is_committed,
    mute_in_the_middle_of_a_locked_run,
]
MISTAKES: list[tuple[Callable[[Proxy], None], type[Writer]]] = [
    (cut_before_the_server_sees_it, adding.Trusting),
    (cut_after_it_is_committed, adding.Retrying),
    (cut_before_the_commit_of_a_locked_run, adding.Trusting),
    (cut_after_the_commit_of_a_locked_run, adding.Retrying),
    (delivered_late, adding.Unfenced),
    (mute_before_the_server_sees_it, adding.Trusting),
    (mute_after_it_is_committed, adding.Retrying),
]


@pytest.fixture(autouse=True)
def given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough for a server that answers, also on a busy machine; whatever happens in time, no outcome depends on it."""
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(limits, "POSTGRES_IDLE_MS", 300)


async def added(url: str, proxy: Proxy, scenario: Callable[[Proxy], object]) -> Told:
    told = Told()
    async with open_store(proxy.url(url)) as store:
        await told.add(store)
        scenario(proxy)
        await told.add_together(store, CALLERS)
        await told.add(store, 2)
    return told


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_caller_hears_what_became_of_a_batch_whose_connection_broke(
    url: str, proxy: Proxy, scenario: Callable[[Proxy], None]
) -> None:
    told = await added(url, proxy, scenario)

    assert await problems(url, told) == []
    assert sorted(told.sums) == list(range(1, CALLERS + 4))


@pytest.mark.parametrize(("scenario", "mistaken"), MISTAKES)
async def test_a_writer_that_does_not_settle_fails_the_same_test(
    url: str, proxy: Proxy, scenario: Callable[[Proxy], None], mistaken: type[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.Writer", mistaken)
    told = await added(url, proxy, scenario)

    assert await problems(url, told) != []


# --- what is still under way when the writer looks ------------------------------------------------------------


def committed_while_the_writer_fences(proxy: Proxy) -> None:
    conflict(proxy)
    late = proxy.at(asked(COMMITS), hang_up)
    proxy.at(asked(FENCES), after(late.deliver))


def never_committed_and_its_client_gone(proxy: Proxy) -> None:
    conflict(proxy)
    proxy.at(asked(COMMITS), hang_up)


def fenced_late(proxy: Proxy) -> None:
    """The first attempt to fence arrives after the second one, and before the next batch."""
    proxy.at(asked(WRITES), cut)
    late = proxy.at(asked(FENCES), hang_up)
    arrived = proxy.at(answered(FENCES), cut, nth=2)

    async def deliver() -> None:
        await late.deliver()
        await arrived.seen.wait()

    proxy.at(asked(WRITES), after(deliver))


def refused_when_it_looks(proxy: Proxy) -> None:
    """The server has no time for the question at first, and then no room."""
    proxy.at(answered(WRITES), cut)
    proxy.at(asked(FENCES), refuse("57014", "no time"))
    proxy.at(asked(FENCES), refuse("53100", "no room"))


@pytest.mark.parametrize(
    "scenario", [committed_while_the_writer_fences, never_committed_and_its_client_gone, fenced_late, refused_when_it_looks]
)
async def test_what_is_still_under_way_when_the_writer_looks_is_waited_for_or_stopped(
    url: str, proxy: Proxy, scenario: Callable[[Proxy], None]
) -> None:
    told = await added(url, proxy, scenario)

    assert told.errors == []
    assert await problems(url, told) == []
