"""What the page about PostgreSQL says, done: its programs, its rights, its settings."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from perdure import App, Engine, Process, open_store
from perdure.backends.postgres.connection import PLANNER
from perdure.errors import StoreUnavailable
from tests.gate.pages import fences
from tests.gate.tree import ROOT
from tests.postgres.server import Server, database_of, execute

PAGE = (ROOT / "docs/postgres.md").read_text()
OWNER, APP = "postgresql://owner:secret@db.example.com:5432/shop", "postgresql://app:secret@db.example.com:5432/shop"
GRANTS, SETTINGS = [source for _, info, source in fences(PAGE) if info == "sql"]
PROGRAMS = [source for _, info, source in fences(PAGE) if info == "python no-run"]


def as_role(server: Server, role: str, url: str) -> str:
    """Return the URL of a database for another role, which is made."""
    server.execute(f"do $$ begin create role {role} login; exception when duplicate_object then end $$")
    return url.replace("postgresql://postgres@", f"postgresql://{role}@")


@pytest.fixture
def roles(postgres_server: Server, postgres_url: str) -> tuple[str, str]:
    """The URLs of the owner of a store, who has made it, and of a role that only works on it, with the rights of the page."""
    owner, app = (as_role(postgres_server, role, postgres_url) for role in ("owner", "app"))
    asyncio.run(execute(postgres_url, f'grant create on database "{database_of(postgres_url)}" to owner'))

    async def make() -> None:
        async with open_store(owner):
            pass
        await execute(owner, GRANTS)

    asyncio.run(make())
    return owner, app


def test_the_rights_of_the_page_are_enough_and_no_more(roles: tuple[str, str]) -> None:
    _, url = roles
    app = App("greetings")

    @app.process
    async def hello(_p: Process, name: str) -> str:
        return f"Hello, {name}!"

    async def work() -> None:
        async with open_store(url) as store, Engine(store, app) as engine:
            assert await engine.call(hello, "world", id="1") == "Hello, world!"
            assert await engine.sweep() is not None
            await store.info()

    asyncio.run(work())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(execute(url, "create table perdure.mine (id int)"))
    with pytest.raises(StoreUnavailable, match="the role may not do this"):
        asyncio.run(_opened(f"{url}?schema=another"))


async def _opened(url: str) -> None:
    async with open_store(url):
        pass


@pytest.mark.parametrize("right", GRANTS.splitlines()[:2])
def test_each_right_of_the_page_is_needed(right: str, roles: tuple[str, str]) -> None:
    owner, url = roles
    asyncio.run(execute(owner, right.replace("GRANT", "REVOKE").replace(" TO ", " FROM ")))

    with pytest.raises(StoreUnavailable, match="the role may not do this"):
        asyncio.run(_opened(url))


def test_tables_of_later_versions_are_granted_as_they_are_made(roles: tuple[str, str]) -> None:
    owner, url = roles
    asyncio.run(execute(owner, "create table perdure.later (id int)"))

    asyncio.run(execute(url, "insert into perdure.later values (1)"))


def test_the_settings_for_a_pooler_are_those_that_a_connection_makes() -> None:
    found = dict(line.removeprefix("ALTER ROLE app SET ").rstrip(";").split(" = ") for line in SETTINGS.splitlines())

    assert {name: value.strip("'") for name, value in found.items()} == PLANNER


@pytest.mark.parametrize(("number", "said"), [(0, "Hello, world!\n"), (1, None), (2, "")])
def test_a_program_of_the_page_runs(number: int, said: str | None, roles: tuple[str, str], postgres_url: str, tmp_path: Path) -> None:
    owner, url = roles
    asyncio.run(execute(postgres_url, "create table orders (id text); grant insert on orders to app"))
    program = PROGRAMS[number].replace(OWNER, owner).replace(APP, url)
    assert "example.com" not in program

    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert said is None or done.stdout == said


async def test_connections_are_called_by_the_name_of_the_url(postgres_url: str) -> None:
    async def names() -> set[str]:
        connection = await asyncpg.connect(postgres_url)
        try:
            rows = await connection.fetch(
                "select application_name from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
            return {row[0] for row in rows}
        finally:
            await connection.close()

    async with open_store(postgres_url):
        assert {name.partition(" ")[0] for name in await names()} == {"perdure"}
    async with open_store(f"{postgres_url}?application_name=shop"):
        assert {name.partition(" ")[0] for name in await names()} == {"shop"}
