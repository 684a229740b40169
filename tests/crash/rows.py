"""The rows of a store, read without the engine, with everything left out that two equal runs may differ in.

Left out: times, ticks, numbers of streams and of mail, attempts, ids that were made. Processes are named by their key,
messages by the webhook that they come from, and a check is the same whether it was parked for its pull request or copied to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from perdure.conversations.events import ProcessingFinished, ProcessingStarted, StepCompleted, decode_event

Row = dict[str, Any]


class Rows:
    """What is in one store."""

    def __init__(self, tables: dict[str, list[Row]]) -> None:
        self.tables = tables
        self._subject = {row["process_id"]: json.loads(row["saved"])["subject"] for row in self.tables["process_state"]}
        self._streams = {(row["tenant_id"], row["stream_no"]): row for row in self.tables["process"]}
        self._copied = {row["message_id"] for row in self.tables["message"] if row["copies"] is not None}
        self._names = {row["message_id"]: self._name(row) for row in self.tables["message"]}

    def _name(self, row: Row) -> str:
        payload = json.loads(row["payload"])
        origin = payload.get("delivery") or f"{self._subject[row['sender']]} says {payload}"
        return f"{row['tenant_id']} {origin} at {self._subject.get(row['process_id'])}"

    def comparable(self) -> list[str]:
        """Return one line per row, sorted."""
        parts = (self._processes(), self._messages(), self._turns(), self._events(), self._addresses(), self._under_way())
        return sorted(line for part in parts for line in part)

    def steps_recorded(self) -> list[tuple[Any, ...]]:
        """Return (tenant, stream, message, step) of each record of a step; one that is there twice was recorded twice."""
        events = [(row, decode_event(row["data"], stream="", seq=row["seq"])) for row in self.tables["event"]]
        return [
            (row["tenant_id"], row["stream_no"], event.message_id, event.name) for row, event in events if isinstance(event, StepCompleted)
        ]

    def _processes(self) -> Iterator[str]:
        for row in self.tables["process"]:
            yield _line("process", row, "tenant_id", "process_type", "status", "open_message", "timers", "note")
        for row in self.tables["process_state"]:
            yield _line("process_state", row, "tenant_id", "found", "saved")

    def _messages(self) -> Iterator[str]:
        for row in self.tables["message"]:
            if row["message_id"] not in self._copied:
                yield _line(self._names[row["message_id"]], row, "kind", "status", "parked_under", "note", "payload", "headers")
        for row in self.tables["operation"]:
            if row["operation_id"] not in self._copied:
                yield _line(self._names[row["operation_id"]], row, "scope", "state", "outcome", "codec", "root_type", "response")
        for row in self.tables["dead_letter"]:
            yield _line("dead_letter", row, "tenant_id", "message_id", "kind", "reason", "detail", "address", "payload", "redriven_as")

    def _turns(self) -> Iterator[str]:
        for row in self.tables["turn"]:
            yield _line(f"turn of {self._names[row['message_id']]}", row, "state", "steps", "effects", "awaits", "outcome", "result")

    def _events(self) -> Iterator[str]:
        for row in self.tables["event"]:
            process = self._streams[row["tenant_id"], row["stream_no"]]
            event = decode_event(row["data"], stream=process["process_id"], seq=row["seq"])
            values = msgspec.structs.asdict(event)
            name = self._names[values.pop("message_id")]
            values.pop("received_at", None)
            values.pop("step_index", None)  # two steps at the same time may end in either order
            if not isinstance(event, ProcessingStarted) or event.attempt == 1:
                yield f"{type(event).__name__} {name} at {self._subject[process['process_id']]}: {values}"
            assert not isinstance(event, ProcessingFinished) or event.outcome == "ok", event

    def _addresses(self) -> Iterator[str]:
        for table, name in (("registry_key", "key"), ("correlation", "tag")):
            for row in self.tables[table]:
                yield f"{table} {row['tenant_id']} {row[name]}: {self._subject.get(row['process_id'])} {row.get('parked')}"
        for row in self.tables["registry_event"]:
            yield f"registry_event {row['tenant_id']} {row['what']} {row['name']}: {self._subject[row['process_id']]}"
        for row in self.tables["parking"]:
            yield _line("parking", row, "tenant_id", "parked_under", "parked")

    def _under_way(self) -> Iterator[str]:
        """What has to be over at the end."""
        for table in ("timer", "fan_out"):
            yield from (f"{table} is left: {row}" for row in self.tables[table])
        yield from (f"mail is left: {row}" for row in self.tables["mailbox"] if row["queued"])


def _line(name: str, row: Row, *columns: str) -> str:
    return f"{name}: {[row[column] for column in columns]}"
