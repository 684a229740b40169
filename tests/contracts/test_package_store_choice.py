"""Contract 5: which rule a process follows; a pure function. Source: packages.md, "Routes"."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from perdure.packages.contract import RouteRule
from perdure.packages.routes import choose, point_of
from tests.contracts.packages import V1, V2, V3, hash_of

KEYS = st.text(min_size=1, max_size=20)
TYPES = st.sampled_from(["order", "invoice"])
SHARES = st.lists(st.integers(1, 3_000), max_size=3)
TENANTS = st.dictionaries(st.sampled_from(["acme", "other"]), st.sampled_from([V1, V2]))
DEFAULT = RouteRule(content_hash=V3)


def canaries(shares: Sequence[int]) -> list[RouteRule]:
    return [RouteRule(content_hash=hash_of(n), weight=share) for n, share in enumerate(shares)]


def of_tenants(tenants: dict[str, str]) -> list[RouteRule]:
    return [RouteRule(content_hash=name, tenant=tenant) for tenant, name in tenants.items()]


def chosen(rules: Sequence[RouteRule], key: str, *, workflow_type: str = "order", tenant: str = "acme") -> str | None:
    return choose(rules, workflow_type=workflow_type, key=key, tenant=tenant)


def test_the_point_of_a_process_is_what_others_can_compute() -> None:
    """Three vectors: what `printf 'order\\0order:1' | sha256sum`, as a number modulo 10,000, says of the first."""
    assert point_of("order", "order:1") == int(hashlib.sha256(b"order\0order:1").hexdigest(), 16) % 10_000 == 9_946
    assert point_of("order", "order:2") == 3_062
    assert point_of("Grüße", "ß") == 1_934


@given(TYPES, KEYS, SHARES, TENANTS)
def test_the_rule_of_a_tenant_goes_before_all_others(workflow_type: str, key: str, shares: list[int], tenants: dict[str, str]) -> None:
    rules = [*canaries(shares), DEFAULT, *of_tenants(tenants)]

    found = chosen(rules, key, workflow_type=workflow_type)

    others = [rule for rule in rules if rule.tenant is None]
    assert found == tenants.get("acme", chosen(others, key, workflow_type=workflow_type))


@given(TYPES, KEYS, SHARES)
def test_each_weight_takes_the_points_behind_those_of_the_one_before(workflow_type: str, key: str, shares: list[int]) -> None:
    taken = [hash_of(n) for n, share in enumerate(shares) for _ in range(share)]
    expected = (taken + [V3] * 10_000)[point_of(workflow_type, key)]

    assert chosen([DEFAULT, *canaries(shares)], key, workflow_type=workflow_type) == expected


@given(KEYS, SHARES, st.integers(1, 1_000))
def test_whoever_has_a_version_of_a_weight_keeps_it_when_the_last_weight_grows(key: str, shares: list[int], more: int) -> None:
    grown = [*shares[:-1], shares[-1] + more] if shares else [more]
    before, after = chosen([*canaries(shares), DEFAULT], key), chosen([*canaries(grown), DEFAULT], key)

    assert after == before or before == V3


@given(KEYS, TENANTS)
def test_without_a_rule_there_is_nothing(key: str, tenants: dict[str, str]) -> None:
    assert chosen([], key) is None
    assert chosen(of_tenants(tenants), key, tenant="somebody else") is None
    whole = [RouteRule(content_hash=V1, weight=10_000)]
    assert chosen(whole, key) == V1
    none = [RouteRule(content_hash=V1, weight=0)]
    assert chosen(none, key) is None


def test_shares_come_out_as_they_were_asked_for() -> None:
    rules = [RouteRule(content_hash=V1, weight=1_000), RouteRule(content_hash=V2, weight=2_500), DEFAULT]

    found = Counter(chosen(rules, f"order:{n}") for n in range(20_000))

    assert found == {V1: 1_928, V2: 5_043, V3: 13_029}


def test_the_same_key_is_elsewhere_for_another_type() -> None:
    keys = [f"k{n}" for n in range(1_000)]
    rules = [RouteRule(content_hash=V1, weight=5_000), DEFAULT]

    same = sum(chosen(rules, key) == chosen(rules, key, workflow_type="invoice") for key in keys)

    assert 400 < same < 600
