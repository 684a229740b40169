"""Hostile archives over HTTP: one of each kind has its code and status, and nothing of it is left."""

from __future__ import annotations

import io

from tests.contracts.packages import rows
from tests.packages.hostile import KINDS
from tests.server.conftest import Served
from tests.server.packaging import PATH, ZIP, Deployer


async def test_each_kind_is_refused_with_its_code_and_leaves_nothing(local: Served) -> None:
    before = await rows(local.store)  # the routes of the server's own types
    ci = await Deployer.of(local)
    found, expected = {}, {}
    for kind, (made, code) in KINDS.items():
        # With a trial: what gets so far is imported.
        said = await ci.ask("POST", PATH, data=io.BytesIO(made()), headers=ZIP)
        found[kind] = (said.status, said.code)
        expected[kind] = (413 if code == "package-too-large" else 422, code)

    assert found == expected
    assert await rows(local.store) == before
