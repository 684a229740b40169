"""The client when something is wrong between it and its server: nothing is done twice, and errors say what and where, and no secret."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from perdure import Client, SyncClient, VirtualClock, limits
from perdure.client.connection import Connection
from perdure.clock import SECOND
from perdure.errors import (
    InvalidIdentifier,
    MailboxFull,
    NotAllowed,
    PayloadTooLarge,
    PerdureError,
    ServerRefused,
    ServerUnreachable,
    StoreUnavailable,
    TokenInvalid,
    TooManyAttempts,
    UsageError,
)
from perdure.tokens.contract import Grant
from tests.client.shop import Place, Total, shop_on
from tests.worker.hub import Hub
from tests.worker.proxy import Asked, Proxy, problem, proxy_to

SECRET = "sentinel-of-a-secret"


async def test_k1_a_message_whose_answer_was_lost_is_sent_again_with_its_key_and_is_handled_once(
    hub: Hub, proxy: Proxy, through: Client
) -> None:
    proxy.loses = lambda _: len(proxy.asked) < 3
    calling = asyncio.ensure_future(through.call(Place("7", 5), id="m1", result=Total))
    await hub.pass_time(calling.done)

    assert await calling == Total(5)
    posts = proxy.of("/messages")
    assert len(posts) == 3
    assert len({(one.headers["idempotency-key"], one.body) for one in posts}) == 1
    assert proxy.answered[0] == proxy.answered[1] == proxy.answered[2]


async def test_k1_a_command_whose_answer_was_lost_is_sent_again_and_is_one(hub: Hub, proxy: Proxy, through: Client) -> None:
    proxy.loses = lambda _: len(proxy.asked) == 1
    sending = asyncio.ensure_future(through.send_command("acme", "pick"))
    await hub.pass_time(sending.done)

    page = await hub.store.commands.list_commands()
    assert [one.command_id for one in page.commands] == [(await sending).command_id]
    assert len({one.headers["idempotency-key"] for one in proxy.asked}) == 1


async def test_a_redrive_whose_answer_was_lost_is_one(hub: Hub, proxy: Proxy, through: Client) -> None:
    sent = await through.send_command("acme", "pick")
    await through.cancel_command(sent.command_id)
    before = len(proxy.asked)
    proxy.loses = lambda _: len(proxy.asked) == before + 1
    redriving = asyncio.ensure_future(through.redrive_command(sent.command_id))
    await hub.pass_time(redriving.done)

    page = await hub.store.commands.list_commands()
    assert {one.command_id for one in page.commands} == {sent.command_id, await redriving}


async def test_two_sends_have_two_keys(proxy: Proxy, through: Client) -> None:
    await through.send_command("acme", "pick")
    await through.send_command("acme", "pick")

    assert len({one.headers["idempotency-key"] for one in proxy.asked}) == 2


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (problem(403, "not-allowed"), NotAllowed, "so it is"),
        (problem(401, "token-invalid"), TokenInvalid, "so it is"),
        (problem(413, "payload-too-large"), PayloadTooLarge, "so it is"),
        (problem(418, "of-a-newer-server"), ServerRefused, "GET /v1/tenants/default/commands/c: of-a-newer-server: so it is"),
        (web.Response(status=404, text="<html>"), ServerRefused, "answered 404, .* is the URL right"),
        (web.Response(status=302, headers={"location": "http://127.0.0.1:1/elsewhere"}), ServerRefused, "answered 302"),
        (web.Response(status=200, text="<html>"), ServerRefused, "not one that this version knows"),
        (web.Response(status=200, text="{}"), ServerRefused, "not one that this version knows"),
        (web.Response(status=204), ServerRefused, "not one that this version knows"),
        (web.Response(status=404, body=msgspec.json.encode({"type": "about:blank", "title": "Not Found"})), ServerRefused, "URL right"),
    ],
)
async def test_k1_an_answer_that_says_no_is_an_error_of_its_class_at_once(
    proxy: Proxy, through: Client, answer: web.Response, error: type[PerdureError], text: str
) -> None:
    async def refuse(_: Asked) -> web.StreamResponse | None:
        return answer

    proxy.before = refuse
    with pytest.raises(error, match=text) as refused:
        await through.get_command("c")

    assert type(refused.value) is error
    assert len(proxy.asked) == 1


async def test_a_refusal_with_more_fields_than_this_version_knows_is_of_its_class(proxy: Proxy, through: Client) -> None:
    """RFC 9457: those who read a problem ignore what they do not know."""
    more = {"type": "t", "title": "t", "status": 403, "detail": "no", "code": "not-allowed", "retryable": False, "trace": "7", "errors": []}

    async def refuse(_: Asked) -> web.StreamResponse | None:
        return web.Response(status=403, body=msgspec.json.encode(more))

    proxy.before = refuse
    with pytest.raises(NotAllowed):
        await through.get_command("c")


async def test_an_answer_with_more_fields_than_this_version_knows_is_read(hub: Hub, proxy: Proxy, through: Client) -> None:
    """Programs elsewhere are older than their server for as long as they like."""
    sent = await through.send_command("acme", "pick")
    known = msgspec.json.decode(proxy.answered[-1])

    async def more(_: Asked) -> web.StreamResponse | None:
        return web.json_response({**known, "of_a_newer_server": {"x": 1}})

    proxy.before = more
    assert (await through.get_command(sent.command_id)).command_id == sent.command_id


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "store-unavailable", StoreUnavailable),
        (429, "mailbox-full", MailboxFull),
        (429, "too-many-attempts", TooManyAttempts),
        (500, "error", ServerRefused),
    ],
)
async def test_k1_what_the_server_cannot_do_now_is_asked_for_until_patience_ends(
    hub: Hub, proxy: Proxy, through: Client, status: int, code: str, error: type[PerdureError]
) -> None:
    async def refuse(_: Asked) -> web.StreamResponse | None:
        return problem(status, code)

    proxy.before = refuse
    begun = hub.clock.now()
    asking = asyncio.ensure_future(through.get_command("c"))
    await hub.pass_time(asking.done)

    with pytest.raises(error):
        await asking
    assert 6 < len(proxy.asked) < 20
    assert 30 * SECOND <= hub.clock.now() - begun <= 31 * SECOND


async def test_a_server_that_wants_more_time_than_there_is_patience_is_not_waited_for(proxy: Proxy, through: Client) -> None:
    async def refuse(_: Asked) -> web.StreamResponse | None:
        return problem(503, "store-unavailable", retry_after="3600")

    proxy.before = refuse
    with pytest.raises(StoreUnavailable):  # no time of the clock has passed
        await asyncio.wait_for(through.get_command("c"), 10)
    assert len(proxy.asked) == 1


async def test_a_server_that_wants_some_time_gets_it(hub: Hub, proxy: Proxy, through: Client) -> None:
    times = list[int]()

    async def refuse(_: Asked) -> web.StreamResponse | None:
        times.append(hub.clock.now())
        return problem(503, "store-unavailable", retry_after="7") if len(times) == 1 else None

    proxy.before = refuse
    asking = asyncio.ensure_future(through.commands())
    await hub.pass_time(asking.done)

    assert times[1] - times[0] == 7 * SECOND


async def test_k1_an_answer_without_end_is_refused(proxy: Proxy, through: Client) -> None:
    async def flood(_: Asked) -> web.StreamResponse | None:
        return web.Response(body=b" " * (limits.CLIENT_BODY_MAX + 1))

    proxy.before = flood
    with pytest.raises(ServerRefused, match="longer than"):
        await through.commands()


async def test_a_server_that_is_not_there_is_named_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Client("http://127.0.0.1:1/hub", token=SECRET, patience=0) as client:
            with pytest.raises(ServerUnreachable, match="no answer from http:") as error:
                await client.get_command("c")

    assert error.value.retryable
    assert str(error.value).startswith("GET /v1/tenants/default/commands/c: no answer from http://127.0.0.1:1/hub: ")
    assert SECRET not in str(error.value) + repr(error.value) + caplog.text + repr(client.__dict__)


async def test_c13_k1_no_refusal_tells_a_token_or_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with shop_on(VirtualClock(), dev=False) as hub:
        text = (await hub.store.tokens.create("c", [Grant.parse("read")], tenant="default")).text
        with caplog.at_level(logging.DEBUG):
            async with Client(hub.url, token=text, clock=hub.clock) as client:
                with pytest.raises(NotAllowed) as refused:
                    await client.send_command("acme", "pick", SECRET)

    for said in (str(refused.value), caplog.text):
        assert text.rpartition("_")[2] not in said
        assert SECRET not in said


async def test_k2_a_token_file_is_read_once_and_again_after_a_refusal(tmp_path: Path) -> None:
    async with shop_on(VirtualClock(), dev=False) as hub, proxy_to(hub.url) as proxy:
        tokens = [(await hub.store.tokens.create("c", [Grant.parse("read")], tenant="default")) for _ in range(2)]
        file = tmp_path / "token"
        file.write_text(tokens[0].text)
        async with Client(proxy.url, token_file=file, clock=hub.clock) as client:
            await client.commands()
            file.write_text(f"  {tokens[1].text}\r\n")
            await client.commands()
            await hub.store.tokens.revoke(tokens[0].text.split("_")[1])
            await asyncio.gather(client.commands(), client.commands())
            await client.commands()
            await hub.store.tokens.revoke(tokens[1].text.split("_")[1])
            with pytest.raises(TokenInvalid):
                await client.commands()

    shown = [one.headers["authorization"].removeprefix("Bearer ") for one in proxy.asked]
    assert shown[:2] == [tokens[0].text] * 2
    assert shown.count(tokens[1].text) == 4
    assert shown[-1] == tokens[1].text


# --- its end --------------------------------------------------------------------------------------------


async def test_a_client_is_closed_twice_and_not_used_after_that(hub: Hub) -> None:
    client = Client(hub.url, clock=hub.clock)
    await client.commands()
    await client.close()
    await client.close()

    with pytest.raises(UsageError, match="closed"):
        await client.commands()


@pytest.mark.parametrize("kind", [Client, SyncClient])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"url": "ftp://host"}, "url"),
        ({"url": "https://me:secret@host"}, "url"),
        ({"url": "https://host?x=1"}, "url"),
        ({"url": "https://host:port"}, "url"),
        ({"url": ""}, "url"),
        ({"token": ""}, "token"),
        ({"token": "secret", "token_file": "x"}, "not both"),
        ({"tenant": ""}, "TenantId"),
        ({"tenant": "../admin"}, "TenantId"),
        ({"patience": -1.0}, "patience"),
        ({"patience": float("nan")}, "patience"),
        ({"patience": timedelta(seconds=3)}, "patience"),
    ],
)
def test_c11_what_cannot_be_a_client_is_refused_by_its_name(kind: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises((UsageError, InvalidIdentifier), match=text) as refused:
        kind(**{"url": "http://127.0.0.1:1", **options})
    assert "secret" not in str(refused.value)


def test_a_url_may_have_a_path() -> None:
    assert Connection("https://host/hub/").url == "https://host/hub"
