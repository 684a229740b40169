"""Contract 5: how archives are packed for the store; pure but for the turns that others have in between."""

from __future__ import annotations

import asyncio
import zlib

from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.packages.packing import pack, unpack
from tests.contracts.packages import noise

MIB = 1024 * 1024


@given(
    st.one_of(
        st.binary(min_size=1, max_size=300),
        st.builds(lambda one, times: one * times, st.binary(min_size=1, max_size=3), st.integers(1, 200_000)),
    )
)
def test_what_is_packed_comes_back_and_is_never_larger(archive: bytes) -> None:
    packed = asyncio.run(pack(archive))

    assert b"".join(packed.parts()) == packed.data
    assert len(packed.data) <= len(archive)
    assert asyncio.run(unpack(packed.codec, [bytes(part) for part in packed.parts()], len(archive))) == archive


@given(st.binary(max_size=50), st.integers(0, 200))
def test_what_is_damaged_is_no_archive(damage: bytes, at: int) -> None:
    archive = b"import this\n" * 20
    packed = zlib.compress(archive)
    damaged = packed[:at] + damage + packed[at + len(damage) :]

    assert asyncio.run(unpack("zlib", [damaged], len(archive))) in (None, archive)
    assert damaged == packed or asyncio.run(unpack("zlib", [damaged], len(archive))) is None


def test_bytes_that_would_become_far_more_than_were_stored_are_no_archive() -> None:
    bomb = zlib.compress(bytes(10 * MIB))

    for size in (1, 100):
        assert asyncio.run(unpack("zlib", [bomb], size)) is None
    assert asyncio.run(unpack("zlib", [bomb[:5_000], bomb[5_000:]], 10 * MIB)) == bytes(10 * MIB)
    assert asyncio.run(unpack("zlib", [bomb, b"more"], 10 * MIB)) is None
    assert asyncio.run(unpack("none", [b"ab", b"c"], 3)) == b"abc"
    assert asyncio.run(unpack("none", [b"ab", b"c"], 2)) is None


async def test_others_have_the_loop_while_an_archive_is_packed() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    await pack(noise(MIB))
    task.cancel()

    assert turns >= MIB // limits.PACKAGE_PIECE
