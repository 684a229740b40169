"""The reader against many archives that are nearly right: it takes what the writer writes, and refuses everything else with a code."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Final

import pytest

from perdure.errors import PackageIdentityMismatch, PackageRefused
from perdure.packages import archive, manifest, paths, signing
from perdure.packages.archive import pack, unpack
from perdure.packages.signing import TrustPolicy
from tests.packages.mutations import mutated
from tests.packages.samples import KEY

PARTS: Final = 8  # which take a minute together
PART: Final = 36_000
SOAK_SECONDS: Final = int(os.environ.get("PERDURE_SOAK_FUZZ_SECONDS", "3600"))
AT_ONCE: Final = 1_000
TAKEN: Final = "taken"
POLICY: Final = TrustPolicy([KEY])
# What the reader's modules refuse with. It is asked for any identity here, and so never finds another one.
CODES: Final = {
    kind.code
    for module in (archive, manifest, paths, signing)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, PackageRefused) and not kind.__subclasses__() and kind is not PackageIdentityMismatch
}


def outcome(seed: int) -> str:
    """Return the code that the archive of this number is refused with."""
    data = mutated(seed)
    try:
        found = unpack(data, trust=POLICY if seed % 8 == 0 else None)
    except PackageRefused as refused:
        return refused.code
    except Exception as error:
        raise AssertionError(f"archive {seed} was refused without a code, by {error!r}") from error
    assert pack(found.manifest, found.files, found.signatures) == data, f"archive {seed} is not what the writer writes"
    assert found.identity == hashlib.sha256(found.manifest.encode()).hexdigest(), f"archive {seed} has another identity"
    return TAKEN


@pytest.mark.parametrize("part", range(PARTS))
def test_an_archive_is_what_the_writer_writes_or_is_refused_with_a_code(part: int) -> None:
    found = {outcome(seed) for seed in range(part * PART, (part + 1) * PART)}

    assert found == {*CODES, TAKEN}, "each check of the reader has something to find"


@pytest.mark.soak
def test_many_archives_are_what_the_writer_writes_or_are_refused_with_a_code() -> None:
    end = time.monotonic() + SOAK_SECONDS
    seed = PARTS * PART
    while time.monotonic() < end:
        assert {outcome(number) for number in range(seed, seed + AT_ONCE)} <= {*CODES, TAKEN}
        seed += AT_ONCE
