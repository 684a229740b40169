"""Contract 1: many processes under a tag.

`r` and `n` number the behaviours of the seed's system and the holes in its tests, `defect` its defects.
Source: the lists of both in the research on routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.core.table import Scan
from perdure.errors import IdentityMismatch, UsageError
from perdure.identity import ProcessIdentity
from perdure.routing.contract import Place, ProcessRegistry
from perdure.routing.registry import Registry
from perdure.routing.tables import MEMBERS
from perdure.store import Store
from tests.contracts.registry import ACME, GLOBEX, ORDER, P1, P2, P3, process

Reopen = Callable[[], Awaitable[Store]]
CROWD = 10_000
TAGS = 1_000


@pytest.fixture
def registry(store: Store) -> ProcessRegistry:
    return Registry(store.access)


async def _tag(registry: ProcessRegistry, tag: str, *identities: ProcessIdentity) -> None:
    for identity in identities:
        await registry.register_correlated(identity.tenant_id, tag, identity.process_id, identity)


async def test_r11_all_processes_under_a_tag_are_found(registry: ProcessRegistry, reopen: Reopen) -> None:
    await _tag(registry, "t", P3, P1)

    assert await registry.lookup_correlated(ACME, "t") == [P3, P1]
    assert await Registry((await reopen()).access).lookup_correlated(ACME, "t") == [P3, P1]


async def test_r12_nobody_is_under_an_unknown_tag(registry: ProcessRegistry) -> None:
    assert await registry.lookup_correlated(ACME, "t") == []
    assert (await registry.page_correlated(ACME, "t")).identities == []
    assert (await registry.page_correlated(ACME, "t")).next is None


async def test_r13_taking_one_from_under_a_tag_leaves_the_others(registry: ProcessRegistry) -> None:
    await _tag(registry, "t", P1, P2, P3)

    await registry.remove_correlated(ACME, "t", P2.process_id)
    await registry.remove_correlated(ACME, "t", P2.process_id)

    assert await registry.lookup_correlated(ACME, "t") == [P1, P3]


async def test_r14_tags_of_tenants_are_apart(registry: ProcessRegistry) -> None:
    foreign = process("p1", tenant_id=GLOBEX)
    await _tag(registry, "t", P1, foreign)

    await registry.remove_correlated(GLOBEX, "t", foreign.process_id)

    assert await registry.lookup_correlated(ACME, "t") == [P1]
    assert await registry.lookup_correlated(GLOBEX, "t") == []


async def test_r15_a_process_is_under_a_tag_once(registry: ProcessRegistry) -> None:
    await _tag(registry, "t", P1, P1, P1)

    assert await registry.lookup_correlated(ACME, "t") == [P1]


async def test_n07_and_defect_06_the_order_is_that_of_the_first_registration(registry: ProcessRegistry, reopen: Reopen) -> None:
    later = [process(f"a{number}") for number in range(9, 0, -1)]
    await _tag(registry, "t", P3, P1, *later)

    await _tag(registry, "t", P1, P3)

    assert await registry.lookup_correlated(ACME, "t") == [P3, P1, *later]
    assert await Registry((await reopen()).access).lookup_correlated(ACME, "t") == [P3, P1, *later]


async def test_n07_one_that_leaves_and_comes_back_is_the_last(registry: ProcessRegistry, reopen: Reopen) -> None:
    await _tag(registry, "t", P1, P2, P3)

    await registry.remove_correlated(ACME, "t", P1.process_id)
    registry = Registry((await reopen()).access)
    await _tag(registry, "t", P1)

    assert await registry.lookup_correlated(ACME, "t") == [P2, P3, P1]


async def test_n07_a_clock_that_is_set_back_does_not_change_the_order(
    registry: ProcessRegistry, reopen: Reopen, clock: VirtualClock
) -> None:
    await _tag(registry, "t", P3)
    clock.advance(-3600 * SECOND)
    await _tag(registry, "t", P2)
    registry = Registry((await reopen()).access)
    await _tag(registry, "t", P1)

    assert await registry.lookup_correlated(ACME, "t") == [P3, P2, P1]


async def test_n03_a_process_id_that_is_not_the_identitys_is_refused(registry: ProcessRegistry) -> None:
    with pytest.raises(IdentityMismatch, match="p2"):
        await registry.register_correlated(ACME, "t", P1.process_id, P2)
    with pytest.raises(IdentityMismatch, match="globex"):
        await registry.register_correlated(GLOBEX, "t", P1.process_id, P1)

    assert await registry.lookup_correlated(ACME, "t") == []
    assert await registry.lookup_correlated(GLOBEX, "t") == []


async def test_keys_and_tags_of_one_text_are_apart(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await _tag(registry, ORDER, P2)

    await registry.remove_correlated(ACME, ORDER, P2.process_id)

    assert await registry.lookup(ACME, ORDER) == P1
    assert await registry.lookup_correlated(ACME, ORDER) == []


# --- pages -------------------------------------------------------------------------------------------------


async def test_n11_ten_thousand_processes_under_a_tag_come_back_in_order_and_page(registry: ProcessRegistry) -> None:
    crowd = [process(f"p{number * 7919 % CROWD:05}") for number in range(CROWD)]
    await asyncio.gather(*(registry.register_correlated(ACME, "t", identity.process_id, identity) for identity in crowd))

    paged: list[ProcessIdentity] = []
    page = await registry.page_correlated(ACME, "t", limit=limits.PAGE_MAX)
    paged += page.identities
    while page.next is not None:
        page = await registry.page_correlated(ACME, "t", after=page.next, limit=limits.PAGE_MAX)
        paged += page.identities

    assert len({identity.process_id for identity in crowd}) == CROWD
    assert await registry.lookup_correlated(ACME, "t") == crowd
    assert paged == crowd


async def test_pages_of_any_size_are_the_whole(registry: ProcessRegistry) -> None:
    members = [process(f"p{number}") for number in (4, 1, 5, 9, 2, 6)]
    await _tag(registry, "t", *members)
    await _tag(registry, "u", P1)

    for limit in range(1, 8):
        pages = [await registry.page_correlated(ACME, "t", limit=limit)]
        while (after := pages[-1].next) is not None:
            pages.append(await registry.page_correlated(ACME, "t", after=after, limit=limit))

        assert [identity for page in pages for identity in page.identities] == members
        assert all(0 < len(page.identities) <= limit for page in pages)


async def test_the_next_page_does_not_depend_on_the_member_where_the_last_one_ended(registry: ProcessRegistry) -> None:
    await _tag(registry, "t", P1, P2, P3)
    page = await registry.page_correlated(ACME, "t", limit=2)

    await registry.remove_correlated(ACME, "t", P2.process_id)

    assert isinstance(page.next, Place)
    assert (await registry.page_correlated(ACME, "t", after=page.next)).identities == [P3]


@pytest.mark.parametrize("limit", [0, -1, limits.PAGE_MAX + 1])
async def test_a_page_size_out_of_bounds_is_refused(registry: ProcessRegistry, limit: int) -> None:
    with pytest.raises(UsageError, match="limit: expected 1 to"):
        await registry.page_correlated(ACME, "t", limit=limit)


class Coming:
    """Reads of a store, with somebody who leaves the tag and comes back when the first page was read."""

    def __init__(self, store: Store, registry: ProcessRegistry) -> None:
        self._reader = store.access.reader
        self._registry = registry
        self._once = True

    async def scan(self, scan: Scan[Any]) -> list[Any]:
        rows = await self._reader.scan(scan)
        if self._once and scan.index is MEMBERS:
            self._once = False
            await self._registry.remove_correlated(ACME, "t", P1.process_id)
            await self._registry.register_correlated(ACME, "t", P1.process_id, P1)
        return rows


async def test_one_that_comes_back_while_pages_are_read_is_returned_once(store: Store, registry: ProcessRegistry) -> None:
    crowd = [P1, *(process(f"q{number:04}") for number in range(limits.PAGE_MAX))]
    await asyncio.gather(*(registry.register_correlated(ACME, "t", identity.process_id, identity) for identity in crowd))

    found = await Registry(store.access._replace(reader=Coming(store, registry))).lookup_correlated(ACME, "t")  # type: ignore[arg-type]

    assert found == [*crowd[1:], P1]


async def test_n11_a_process_may_be_under_a_thousand_tags(registry: ProcessRegistry) -> None:
    tags = [f"tag:{number:04}" for number in range(TAGS + 1)]
    await asyncio.gather(*(registry.register_correlated(ACME, tag, P1.process_id, P1) for tag in reversed(tags)))

    assert await registry.tags_of(ACME, P1.process_id) == tags
    assert await registry.lookup_correlated(ACME, tags[500]) == [P1]
    assert await registry.release(ACME, P1.process_id) == len(tags)
    assert await registry.tags_of(ACME, P1.process_id) == []
