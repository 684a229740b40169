from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.gate.tree import ROOT
from tests.postgres.server import PORTS, PostgresFailed, Server, database_of

OWNER = """
from tests.postgres.server import Server

with Server() as server:
    print(server.folder, server.port, flush=True)
    input()
"""


async def query(url: str, sql: str) -> Any:
    """Return the first value of the first row."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def tables(url: str) -> list[str]:
    found: list[str] = await query(url, "SELECT coalesce(array_agg(relname), '{}') FROM pg_stat_user_tables")
    return found


async def test_it_answers_over_tcp_and_over_the_socket(postgres_server: Server) -> None:
    assert await query(postgres_server.url(), "SELECT inet_client_addr() IS NULL") is False
    assert await query(postgres_server.socket_url(), "SELECT inet_client_addr() IS NULL") is True


async def test_a_setting_is_passed_on_and_the_others_are_for_data_that_nobody_keeps() -> None:
    with Server(settings={"max_connections": "20", "application_name": "a 'b' c"}) as server:
        assert await query(server.url(), "SHOW max_connections") == "20"
        assert await query(server.url(), "SHOW application_name") == "a 'b' c"
        assert await query(server.url(), "SHOW fsync") == "off"


# --- databases -------------------------------------------------------------------------------------------


async def test_a_test_is_given_an_empty_database_of_its_own(postgres_server: Server, postgres_url: str) -> None:
    await query(postgres_url, "CREATE TABLE mine ()")
    other = postgres_server.fresh()

    assert await tables(postgres_url) == ["mine"]
    assert await tables(other) == []

    postgres_server.drop(other)


async def test_a_copy_of_a_template_has_its_tables_and_rows(postgres_server: Server) -> None:
    url = postgres_server.fresh()
    await query(url, "CREATE TABLE kept AS SELECT 7 AS id")
    postgres_server.register("with_kept", url)

    one, two = postgres_server.fresh("with_kept"), postgres_server.fresh("with_kept")
    await query(one, "DELETE FROM kept")

    assert await query(one, "SELECT count(*) FROM kept") == 0
    assert await query(two, "SELECT id FROM kept") == 7

    postgres_server.drop(one)
    postgres_server.drop(two)


async def test_a_database_is_dropped_though_somebody_is_connected(postgres_server: Server) -> None:
    url = postgres_server.fresh()
    connection = await asyncpg.connect(url)

    postgres_server.drop(url)

    with pytest.raises(asyncpg.PostgresConnectionError):
        await connection.fetchval("SELECT 1")
    assert await query(postgres_server.url(), f"SELECT count(*) FROM pg_database WHERE datname = '{database_of(url)}'") == 0


# --- starts and ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
async def test_what_is_committed_is_there_after_every_kind_of_end(durable: bool) -> None:
    with Server(durable=durable) as server:
        url = server.fresh()
        await query(url, "CREATE TABLE row (how text)")
        ends = {"quick": lambda: server.stop(immediate=True), "slow": lambda: server.stop(immediate=False), "killed": server.kill}
        for how, end in ends.items():
            connection = await asyncpg.connect(url)
            await connection.execute("INSERT INTO row VALUES ($1)", how)
            end()
            assert not server.running
            connection.terminate()
            server.start()

        assert await query(url, "SELECT array_agg(how) FROM row") == list(ends)


def test_a_port_that_is_taken_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Server(ports=[port_of(taken), *PORTS]) as server:
        assert server.port in PORTS
        assert server.url("a") == f"postgresql://postgres@127.0.0.1:{server.port}/a"


def test_without_a_free_port_it_says_so_and_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(ports=[port_of(taken)])

        with pytest.raises(PostgresFailed, match="none of 1 ports was free"), server:
            raise AssertionError

    assert not server.folder.exists()


def test_a_start_that_fails_says_what_the_server_said() -> None:
    with pytest.raises(PostgresFailed, match="max_connections"), Server(settings={"max_connections": "many"}):
        raise AssertionError


def test_the_folder_goes_with_the_server() -> None:
    with Server() as server:
        assert server.folder.exists()
        assert "ready to accept connections" in server.log

    assert not server.folder.exists()
    assert not server.running


def test_a_server_goes_with_the_process_that_made_it_even_if_that_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout
        folder, port = owner.stdout.readline().split()
        assert Path(folder).exists()

        owner.kill()

        assert owner.stdout.read() == "", "the guard has the same output, and ends as the last"
    assert not Path(folder).exists()
    while answers(port):
        pass  # it still says goodbye to its processes


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


def answers(port: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(port))) == 0
