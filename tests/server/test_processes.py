"""Processes over HTTP: looked at, held, let go, stopped, asked."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure import limits
from tests.server.conftest import Said, Served, until

PROCESSES = "/v1/tenants/acme/processes"


async def placed(served: Served, id: str = "o", order: str = "7") -> str:
    """Let an order be placed by a process of this id, and return its path."""
    to = {"way": "start", "process_type": "Order", "key": f"order/{order}", "process_id": id}
    await served.deliver(f"place-{id}", "Place", {"order": order, "amount": 3}, to=to)
    return f"{PROCESSES}/{id}"


async def test_a_process_is_shown_with_all_that_it_has(served: Served) -> None:
    path = await placed(served)

    said = await served.ask("GET", path)

    assert said.status == 200
    shown = said.json
    assert (shown["process_type"], shown["status"], shown["fields"], shown["keys"]) == ("Order", "idle", {"total": 3}, ["order/7"])
    assert shown["created_at"] == "2023-11-14T22:13:20Z"


async def test_processes_come_in_pages(served: Served) -> None:
    for number in range(5):
        await placed(served, f"o{number}", str(number))

    found: list[str] = []
    after = ""
    while True:
        page = (await served.ask("GET", f"{PROCESSES}?limit=2&type=Order{after}")).json
        found += [one["process_id"] for one in page["processes"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert found == [f"o{number}" for number in range(5)]


async def test_processes_are_found_by_type_status_and_time(served: Served) -> None:
    await placed(served)
    served.clock.advance(1)
    await served.deliver("g", "greet()", ["you"])

    async def ids(query: str) -> list[str]:
        return [one["process_id"] for one in (await served.ask("GET", f"{PROCESSES}?{query}")).json["processes"]]

    assert await ids("type=greet") == ["g"]
    assert await ids("status=idle") == ["o"]
    assert await ids("created_after=2023-11-14T22:13:21Z") == []
    assert await ids("updated_before=2030-01-01T00:00:00%2B01:00&order=-created") == ["g", "o"]


async def test_a_process_is_paused_and_resumed(served: Served) -> None:
    path = await placed(served)

    paused = await served.ask("POST", f"{path}/pause", json={"reason": "a look"})
    again = await served.ask("POST", f"{path}/pause")
    held = (await served.ask("GET", path)).json
    resumed = await served.ask("POST", f"{path}/resume")
    once_more = await served.ask("POST", f"{path}/resume", json={})

    assert (paused.json["changed"], again.json["changed"], resumed.json["changed"]) == (True, False, True)
    assert (held["status"], held["note"]) == ("paused", "paused: a look")
    assert (once_more.status, once_more.code) == (409, "illegal-transition")


async def test_a_process_is_cancelled(served: Served) -> None:
    path = await placed(served)

    said = [await served.ask("POST", f"{path}/cancel", json={"reason": "enough"}) for _ in range(2)]

    assert [one.json for one in said] == [{"process_id": "o", "changed": True}, {"process_id": "o", "changed": False}]
    assert (await served.ask("GET", path)).json["note"] == "cancelled: enough"
    assert (await served.ask("POST", f"{path}/pause")).code == "process-ended"


async def test_a_process_is_asked(served: Served) -> None:
    path = await placed(served)

    plain = await served.ask("POST", f"{path}/query/summary")
    doubled = await served.ask("POST", f"{path}/query/summary", json={"arguments": [2]})

    assert (plain.json, doubled.json) == ({"value": 3}, {"value": 6})


async def test_a_question_that_makes_no_sense_is_refused(served: Served) -> None:
    path = await placed(served)

    unknown = await served.ask("POST", f"{path}/query/nothing")
    wrong = await served.ask("POST", f"{path}/query/summary", json={"arguments": ["x"]})
    many = await served.ask("POST", f"{path}/query/summary", json={"arguments": [1, 2]})

    assert [(one.status, one.code) for one in (unknown, wrong, many)] == [
        (404, "query-not-found"),
        (422, "payload-invalid"),
        (422, "usage"),
    ]


async def test_what_happened_comes_in_pages(served: Served) -> None:
    path = await placed(served)

    first = (await served.ask("GET", f"{path}/events?limit=2")).json
    rest = (await served.ask("GET", f"{path}/events?after={first['next']}")).json

    assert [one["seq"] for one in first["events"] + rest["events"]] == list(range(len(first["events"]) + len(rest["events"])))
    assert (first["events"][0]["event"], rest["next"], rest["status"]) == ("MessageReceived", None, "idle")


async def test_what_a_process_waits_for_is_told(served: Served) -> None:
    await served.deliver("w", "waits()", [], wait_ms=0)
    await until(lambda: _is_waiting(served, "w"))

    assert (await served.ask("GET", f"{PROCESSES}/w/events")).json["waits_for"] == [{"what": "message", "name": "Odd", "due": None}]


async def _is_waiting(served: Served, process_id: str) -> bool:
    return (await served.engine.process(process_id, tenant="acme")).status == "waiting"


# --- events as they come -----------------------------------------------------------------------------------


class Stream:
    """A stream of events, read one by one."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def next(self) -> tuple[str, str | None, Any]:
        """Return name, id and data of the next event; comments have the name ''."""
        fields: dict[str, str] = {}
        while True:
            async with asyncio.timeout(30):
                line = (await self.response.content.readline()).decode()
            assert line, "the stream has ended"
            if line == "\n" and "retry" not in fields:
                break
            name, _, value = line.rstrip("\n").partition(": ")
            fields = {} if line == "\n" else {**fields, name: value}
        if "data" not in fields:
            return "", None, fields.get("")
        return fields["event"], fields.get("id"), msgspec.json.decode(fields["data"])

    async def at_end(self) -> bool:
        return bool(await self.response.content.read() == b"")


def streaming(served: Served, path: str, **headers: str) -> Any:
    return served.session.get(
        served.server.url + path, headers={"Authorization": f"Bearer {served.token}", "Accept": "text/event-stream", **headers}
    )


async def test_events_come_as_they_happen_until_the_process_is_over(served: Served) -> None:
    path = await placed(served)
    async with streaming(served, f"{path}/events") as response:
        stream = Stream(response)
        first = [await stream.next() for _ in range(3)]
        await served.deliver("again", "Place", {"order": "7", "amount": 1})
        await served.pass_time(limits.SSE_LOOK_US)
        second = [await stream.next() for _ in range(3)]
        await served.engine.cancel("o", tenant="acme")
        await served.pass_time(limits.SSE_LOOK_US)
        *_, last = [await stream.next() for _ in range(1)]
        ended = await stream.at_end()

    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert [int(id or "") for _, id, _ in first + second] == list(range(6))
    assert {data["message_id"] for _, _, data in second} == {"again"}
    assert (last, ended) == (("end", None, {"status": "ended"}), True)


async def test_a_stream_goes_on_behind_the_last_event_that_was_seen(served: Served) -> None:
    await served.deliver("g", "greet()", ["you"])
    async with streaming(served, f"{PROCESSES}/g/events", **{"Last-Event-ID": "1"}) as response:
        stream = Stream(response)
        said = [await stream.next(), await stream.next()]
    async with streaming(served, f"{PROCESSES}/g/events?after=1") as response:
        asked = [await Stream(response).next()]

    assert [(name, id) for name, id, _ in said] == [("event", "2"), ("end", None)]
    assert asked == said[:1]


async def test_a_stream_on_which_nothing_happens_stays_open(served: Served) -> None:
    path = await placed(served)
    async with streaming(served, f"{path}/events", **{"Last-Event-ID": "2"}) as response:
        stream = Stream(response)
        for _ in range(limits.SSE_HEARTBEAT_US // limits.SSE_LOOK_US):
            await served.pass_time(limits.SSE_LOOK_US)
        beat = await stream.next()
        assert served.server.application.metrics.streams == 1

    assert beat == ("", None, "still here")
    await until(lambda: served.server.application.metrics.streams == 0)


async def test_a_stream_from_nowhere_is_refused(local: Served) -> None:
    async with streaming(local, f"{PROCESSES}/none/events") as response:
        absent = Said(response.status, response.headers, await response.read())
    await local.deliver("g", "greet()", ["you"])
    async with streaming(local, f"{PROCESSES}/g/events", **{"Last-Event-ID": "x"}) as response:
        wrong = Said(response.status, response.headers, await response.read())
    page = await local.ask("GET", f"{PROCESSES}/g/events", headers={"Last-Event-ID": "x"})

    refused = [(one.status, one.code) for one in (absent, wrong, page)]
    assert refused == [(404, "process-not-found"), (422, "request-invalid"), (422, "request-invalid")]
