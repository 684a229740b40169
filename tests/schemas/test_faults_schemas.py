"""Plans that differ in one thing alone, which a table of ordinary cases does not show."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta

from perdure.errors import ValueUnreadable
from tests.schemas.planning import planned, record


@pytest.mark.parametrize(("bound", "bad"), [(Meta(le=5), 6), (Meta(lt=6), 6), (Meta(ge=1), 0), (Meta(gt=0), 0)], ids=str)
def test_one_bound_alone_makes_a_plan_partial(bound: Meta, bad: int) -> None:
    found = planned(int, Annotated[int, bound], allow_partial=True)

    assert [issue.code for issue in found.partial] == ["constraint-tightened"]
    assert found.apply(3) == 3
    with pytest.raises(ValueUnreadable):
        found.apply(bad)


def test_fields_of_an_array_that_only_changed_places_are_put_in_order() -> None:
    fields: list[Any] = [("a", int), ("b", int)]
    found = planned(record("S", *fields, array_like=True), record("S", *reversed(fields), array_like=True))

    assert found.apply([1, 2]) == [2, 1]
