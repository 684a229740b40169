"""Moving a process over HTTP."""

from __future__ import annotations

import pytest

from perdure.deploying.door import PackageDoor
from tests.engine.moves import FIRST, OTHER_STEP, SECOND, open_ticket
from tests.packages.built import deploy
from tests.server.conftest import Served, until


@pytest.fixture
async def waits(served: Served) -> Served:
    """Let one ticket of `acme` wait on the first version."""
    await deploy(served.store, FIRST)
    for package in (SECOND, OTHER_STEP):
        await deploy(served.store, package, route=False)
    await open_ticket(served.engine, "t", tenant="acme")

    async def stands() -> bool:
        return (await served.engine.process("t", tenant="acme")).status == "waiting"

    await until(stands)
    return served


async def test_a_process_is_moved_and_its_timeline_names_the_token(waits: Served) -> None:
    token = await waits.new_token("deploy", "read", name="ci")
    path = "/v1/tenants/acme/processes/t"
    wanted = {"content_hash": SECOND.identity[:12]}
    said = [await waits.ask("POST", f"{path}/move", token=token, json=wanted) for _ in range(2)]

    assert [(one.status, one.json) for one in said] == [(200, {"process_id": "t", "changed": changed}) for changed in (True, False)]
    assert (await waits.ask("GET", path)).json["package_hash"] == SECOND.identity
    events = (await waits.ask("GET", f"{path}/events")).json["events"]
    assert [one["text"] for one in events if one["event"] == "ProcessMoved"] == [
        f"it was moved from package {FIRST.identity[:16]} to package {SECOND.identity[:16]} by token ci"
    ]
    assert (await PackageDoor(waits.store).pins(FIRST.identity)).counts == {}


async def test_what_cannot_be_moved_is_refused(waits: Served) -> None:
    token = await waits.new_token("deploy", "read")
    path = "/v1/tenants/acme/processes/t/move"
    refused = await waits.ask("POST", path, token=token, json={"content_hash": OTHER_STEP.identity})
    assert (refused.status, refused.code) == (409, "process-incompatible")
    assert "diverges at step note" in refused.json["detail"]
    gone = await waits.ask("POST", path, token=token, json={"content_hash": "0" * 64})
    assert (gone.status, gone.code) == (404, "package-missing")
    nobody = await waits.ask("POST", path.replace("/t/", "/nobody/"), token=token, json={"content_hash": SECOND.identity})
    assert (nobody.status, nobody.code) == (404, "process-not-found")
    assert (await waits.ask("POST", path, json={"content_hash": SECOND.identity})).code == "not-allowed"
