"""`perdure processes move` and `perdure package move`: what people see of them, and what is so afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from perdure import Address, App, Engine, Store, VirtualClock, limits, open_store
from perdure.engine import inspection
from perdure.packages.signing import public_key
from tests.e2e.conftest import Call
from tests.engine.moves import FIRST, OTHER_STEP, SECOND, open_ticket, pay
from tests.engine.orders import reaches
from tests.engine.shop import ONE
from tests.packages.built import deploy

NODE = App("node")


def done(url: str, work: Callable[[Store], Awaitable[object]]) -> object:
    async def opened() -> object:
        async with open_store(url, clock=VirtualClock()) as store:
            return await work(store)

    return asyncio.run(opened())


async def lived(store: Store) -> None:
    """Tickets a, b and c wait on the first version, d on the second, e is idle on the first, f is another tenant's, and s is no ticket."""
    await deploy(store, FIRST)
    for package in (SECOND, OTHER_STEP, ONE):
        await deploy(store, package, route=False)
    async with Engine(store, NODE) as engine:
        for name in "abce":
            await open_ticket(engine, name)
            await reaches(engine, name, "waiting")
        await pay(engine, "e")
        await reaches(engine, "e", "idle")
        await open_ticket(engine, "f", tenant="acme")
        await store.packages.put_package_route("Ticket", SECOND.identity)
        await open_ticket(engine, "d")
        await reaches(engine, "d", "waiting")
        await store.packages.put_package_route("sleeper", ONE.identity)
        await engine.deliver_encoded("sleeper()", b"[60]", id="s", to=Address.start("sleeper", id="s"), tenant="asleep")


@pytest.fixture
def url(place: str) -> str:
    done(place, lived)
    return place


async def on(store: Store) -> dict[str, str | None]:
    found = [one for tenant in ("default", "acme") for one in await inspection.processes(store, tenant=tenant)]
    numbers = {str(FIRST.identity): "1", str(SECOND.identity): "2", str(OTHER_STEP.identity): "3"}
    return {one.process_id: numbers.get(one.package_hash or "") for one in found}


def test_one_process_is_moved_and_shown_there(call: Call, url: str) -> None:
    status, shown, errors = call("processes", "move", "a", SECOND.identity[:12], "--actor", "ann", "--store", url)
    assert (status, shown, errors) == (0, f"moved to {SECOND.identity}\n", "")
    status, shown, _ = call("processes", "move", "a", SECOND.identity, "--store", url, "--json")
    assert (status, json.loads(shown)) == (0, {"process_id": "a", "content_hash": SECOND.identity, "moved": False})
    assert f"package       {SECOND.identity}" in call("processes", "show", "a", "--store", url)[1]
    assert "by ann" in call("processes", "timeline", "a", "--store", url)[1]


def test_a_process_that_cannot_be_moved_is_refused_with_the_step(call: Call, url: str) -> None:
    status, _, errors = call("processes", "move", "a", OTHER_STEP.identity, "--store", url)
    assert status == 1
    assert errors.startswith("error [process-incompatible]: process 'a' cannot go on with package")
    assert "diverges at step note" in errors
    assert done(url, on) == {"a": "1", "b": "1", "c": "1", "d": "2", "e": "1", "f": "1"}


def test_a_package_that_nobody_trusted_has_signed_is_not_loaded(call: Call, url: str) -> None:
    key = public_key(bytes(range(32)))
    for command in (["processes", "move", "a"], ["package", "move", "--type", "Ticket"]):
        status, _, errors = call(*command, SECOND.identity, "--trusted-key", key, "--store", url)
        assert status == 2
        assert "package-untrusted" in errors


def test_a_dry_run_says_what_would_be_moved_and_moves_nothing(call: Call, url: str) -> None:
    status, shown, errors = call("package", "move", SECOND.identity, "--type", "Ticket", "--dry-run", "--store", url)
    assert (status, errors) == (0, "")
    assert shown == f"5 could be moved to {SECOND.identity}, 0 refused\n"
    assert done(url, on) == {"a": "1", "b": "1", "c": "1", "d": "2", "e": "1", "f": "1"}


def test_all_are_moved_that_can_be_and_those_refused_are_named(call: Call, url: str) -> None:
    status, shown, _ = call("package", "move", OTHER_STEP.identity, "--type", "Ticket", "--store", url, "--json")

    assert status == 1
    report = json.loads(shown)
    assert (report["moved"], report["refused"], report["dry_run"]) == (1, 5, False)
    assert [(one["tenant_id"], one["process_id"], one["code"]) for one in report["processes"]] == [
        ("acme", "f", "process-incompatible"),
        *(("default", name, "process-incompatible") for name in "abcd"),
    ]
    assert done(url, on) == {"a": "1", "b": "1", "c": "1", "d": "2", "e": "3", "f": "1"}
    shown = call("package", "move", OTHER_STEP.identity, "--type", "Ticket", "--store", url)[1]
    assert "diverges at step note" in shown
    assert shown.endswith(f"0 moved to {OTHER_STEP.identity}, 5 refused\n")


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        (["--from", FIRST.identity[:10]], "abcef"),
        (["--from", FIRST.identity, "--tenant", "acme"], "f"),
        (["--tenant", "default"], "abce"),
        (["--from", OTHER_STEP.identity], ""),
        (["--from", "local"], ""),
    ],
)
def test_only_those_that_the_options_name_are_moved_page_by_page(
    call: Call, url: str, options: list[str], moved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 2)
    status, shown, _ = call("package", "move", SECOND.identity, "--type", "Ticket", *options, "--store", url)
    assert (status, shown) == (0, f"{len(moved)} moved to {SECOND.identity}, 0 refused\n")
    found = done(url, on)
    assert isinstance(found, dict)
    assert "".join(sorted(name for name, where in found.items() if where == "2")) == "".join(sorted({*moved, "d"}))


def test_a_type_that_the_package_has_not_is_wrong_usage(call: Call, url: str) -> None:
    status, _, errors = call("package", "move", ONE.identity, "--type", "Ticket", "--store", url)
    assert status == 2
    assert f"package {ONE.identity} has no process type 'Ticket'" in errors


def test_the_version_before_can_go_when_all_have_moved(call: Call, url: str) -> None:
    assert call("unload", FIRST.identity, "--store", url)[0] == 1
    call("package", "move", SECOND.identity, "--type", "Ticket", "--from", FIRST.identity, "--store", url)
    assert call("collect", "--keep-last", "0", "--older-than", "0s", "--store", url)[0] == 0
    assert FIRST.identity not in call("versions", "--store", url, "--json")[1]
    assert SECOND.identity in call("versions", "--store", url, "--json")[1]

    async def goes_on(store: Store) -> str:
        async with Engine(store, NODE) as engine:
            await pay(engine, "a")
            await reaches(engine, "a", "idle")
            return (await engine.explain("opened a")).reply or ""

    assert done(url, goes_on) == '"paid a on version 2"'
