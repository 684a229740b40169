"""What is kept of the database in memory."""

from __future__ import annotations

from perdure import limits
from perdure.backends.cache import RowCache
from tests.core.shop import LINE, Line


def test_what_was_deleted_takes_no_room_of_what_stays() -> None:
    cache, large = RowCache(), limits.CACHE_BYTES // 10
    cache.put(LINE.key(0), (1, Line("x")), 1)
    for number in range(1, 1000):
        cache.put(LINE.key(number), (1, Line("x")), large)
        cache.drop(LINE.key(number))
    assert cache.get(LINE.key(0)) is not None


def test_a_row_that_changes_again_and_again_is_counted_once() -> None:
    cache, large = RowCache(), limits.CACHE_BYTES // 10
    cache.put(LINE.key(0), (1, Line("x")), 1)
    for rev in range(1, 1000):
        cache.put(LINE.key(1), (rev, Line("x")), large)
    cache.put(LINE.key(1), (1000, Line("")), 0)
    for rev in range(1, 1000):
        cache.put(LINE.key(2), (rev, Line("x")), large)
    assert cache.get(LINE.key(0)) is not None
    assert len(cache) == 3
