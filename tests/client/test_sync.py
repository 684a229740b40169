"""The client that waits: every method against a real server, from several threads, and its end."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from perdure import Client, SyncClient
from perdure.errors import CommandNotFound, CommandPending, MessageNotFound, NotFoundError, ServerUnreachable, UsageError
from tests.client.shop import Place, Total, shop_elsewhere


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with shop_elsewhere() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[SyncClient]:
    with SyncClient(url) as client:
        yield client


def test_it_has_the_methods_of_the_client_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            same = inspect.signature(getattr(SyncClient, name))
            assert list(same.parameters.values()) == list(inspect.signature(method).parameters.values()), name


def test_messages(client: SyncClient) -> None:
    accepted = client.deliver(Place("messages", 2), id="s1")
    typed = client.call(Place("messages", 2), id="s1", result=Total)

    assert (accepted.duplicate, typed, client.message("s1").status) == (False, Total(2), "done")
    assert client.dead_letters().dead_letters == []
    with pytest.raises(MessageNotFound):
        client.message("none")
    with pytest.raises(NotFoundError):
        client.redrive("none")


def test_commands(client: SyncClient) -> None:
    assert client.command("acme", "echo", {"total": 7}, result=Total) == Total(7)
    sent = client.send_command("elsewhere", "echo", 1, key="sync")

    assert client.send_command("elsewhere", "echo", 1, key="sync").command_id == sent.command_id
    with pytest.raises(CommandPending):
        client.wait_command(sent.command_id, timeout=timedelta(0))
    assert client.cancel_command(sent.command_id, reason="no need") == "CANCELLED"
    assert client.wait_command(sent.command_id).state == "CANCELLED"
    again = client.redrive_command(sent.command_id)
    assert [one.command_id for one in client.commands(deployment="elsewhere").commands] == [again, sent.command_id]
    assert [one.kind for one in client.command_history(sent.command_id).events] == ["created", "cancelled", "redriven"]
    with pytest.raises(CommandNotFound):
        client.get_command("cmd_none")


def test_a_result_is_downloaded_in_pieces_and_may_be_left_in_the_middle(client: SyncClient) -> None:
    sent = client.send_command("acme", "echo", "x" * 900_000)
    client.wait_command(sent.command_id)

    assert b"".join(client.download_result(sent.command_id)) == b'"' + b"x" * 900_000 + b'"'
    for chunk in client.download_result(sent.command_id):
        assert chunk.startswith(b'"xxx')
        break
    assert client.get_command(sent.command_id).state == "SUCCEEDED"


def test_several_threads_use_one_client(client: SyncClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: client.command("acme", "echo", n, result=int), range(40)))

    assert results == list(range(40))


def test_it_is_closed_twice_also_at_once_and_not_used_after_that(url: str) -> None:
    client = SyncClient(url)
    client.commands()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: client.close(), range(4))) == [None] * 4
    client.close()

    with pytest.raises(UsageError, match="closed"):
        client.commands()
    with pytest.raises(UsageError, match="closed"):
        list(client.download_result("c"))


def test_who_waits_while_another_thread_closes_it_is_told(url: str) -> None:
    client, waits = SyncClient(url), threading.Event()
    sent = client.send_command("elsewhere", "echo")
    ask = client._client._command

    async def asked(command_id: str, *, wait: int) -> object:
        waits.set()
        return await ask(command_id, wait=wait)

    client._client._command = asked  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.wait_command, sent.command_id)
        assert waits.wait(10)
        client.close()
        with pytest.raises(UsageError, match="closed"):
            waiting.result(10)


def test_its_thread_ends_with_it(url: str) -> None:
    with SyncClient(url) as client:
        client.commands()
        thread = client._thread
    assert not thread.is_alive()


def test_a_server_that_is_not_there_is_an_error() -> None:
    with SyncClient("http://127.0.0.1:1", patience=0) as client, pytest.raises(ServerUnreachable):
        client.commands()
