"""Every hostile archive at the door: refused with its own code, nothing stored, nothing run. What is wrong with each is in tests.packages."""

from __future__ import annotations

import pytest

import perdure
from perdure.errors import PackageIdentityMismatch, PackageImportFailed, PackageRefused, PackageUntrusted
from perdure.packages.signing import public_key
from perdure.store import Store
from tests.contracts.packages import hash_of, rows
from tests.packages.hostile import KINDS, SEED, evil, forged
from tests.packages.test_hostile import ROWS


async def test_each_is_refused_with_its_code_and_leaves_nothing(store: Store) -> None:
    found, expected = {}, {}
    for name, (made, code) in (ROWS | KINDS).items():
        with pytest.raises(PackageRefused) as refused:
            await perdure.deploy(store, made())  # with a trial: what gets so far is imported
        found[name], expected[name] = refused.value.code, code

    assert found == expected
    assert await rows(store) == {}


async def test_wrong_hashes_and_signatures_are_refused_before_anything_runs(store: Store) -> None:
    with pytest.raises(PackageIdentityMismatch):
        await perdure.deploy(store, evil(), content_hash=hash_of("another"))
    for trust, archive in (([public_key(SEED)], evil()), ([public_key(SEED)], forged()), (["0" * 64], forged())):
        with pytest.raises(PackageUntrusted):
            await perdure.deploy(store, archive, trust=perdure.TrustPolicy(trust))
    with pytest.raises(PackageUntrusted):
        await perdure.deploy(store, forged(), trust=perdure.TrustPolicy([public_key(SEED)], required=False))

    assert await rows(store) == {}


async def test_code_that_ends_its_interpreter_ends_that_of_the_trial(store: Store) -> None:
    with pytest.raises(PackageImportFailed):
        await perdure.deploy(store, evil())

    assert await rows(store) == {}
