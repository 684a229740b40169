"""Commands over HTTP, by whoever sends them and whoever works on them."""

from __future__ import annotations

import io
from typing import Any

import msgspec

from tests.server.conftest import Said, Served

COMMANDS = "/v1/tenants/acme/commands"
PICK: dict[str, Any] = {"deployment": "hall", "target": "w1", "command": "pick", "params": {"order": "7"}}


class Yard:
    """A server, and tokens of who sends, who works, and who looks."""

    def __init__(self, served: Served, sender: str, worker: str, operator: str) -> None:
        self.served = served
        self.sender = sender
        self.worker = worker
        self.operator = operator

    @classmethod
    async def of(cls, served: Served) -> Yard:
        return cls(
            served,
            await served.new_token("command:send", name="sender"),
            await served.new_token("command:work=hall/w1", name="worker"),
            await served.new_token("read", "admin", name="operator"),
        )

    async def post(self, path: str, body: Any = None, *, token: str, key: str | None = None, headers: dict[str, str] | None = None) -> Said:
        given = {**(headers or {}), **({} if key is None else {"Idempotency-Key": key})}
        more: dict[str, Any] = {}
        if body is not None:
            given["Content-Type"] = "application/json"
            more["data"] = io.BytesIO(msgspec.json.encode(body))
        return await self.served.ask("POST", path, token=token, headers=given, **more)

    async def send(self, *, wait_ms: int = 0, key: str | None = None, headers: dict[str, str] | None = None, **changes: Any) -> Said:
        body = {name: value for name, value in {**PICK, **changes}.items() if value is not ...}
        return await self.post(f"{COMMANDS}?wait_ms={wait_ms}", body, token=self.sender, key=key, headers=headers)

    async def sent(self, **changes: Any) -> str:
        said = await self.send(**changes)
        assert said.status == 201, said.body
        command_id: str = said.json["command_id"]
        return command_id

    async def lease(self, *, deployment: str = "hall", wait_ms: int = 0, token: str = "", key: str | None = None, **changes: Any) -> Said:
        body = {name: value for name, value in {"target": "w1", "worker": "host/1", **changes}.items() if value is not ...}
        path = f"/v1/tenants/acme/deployments/{deployment}/leases?wait_ms={wait_ms}"
        return await self.post(path, body, token=token or self.worker, key=key)

    async def leased(self, **changes: Any) -> Any:
        said = await self.lease(**changes)
        assert said.status == 200, said.body
        [one] = said.json["leases"]
        return one

    async def do(self, verb: str, lease: Any, *, by: str = "", key: str | None = None, **body: Any) -> Said:
        """Do what a worker does with a lease: renew, release or complete."""
        path = f"{COMMANDS}/{lease['command_id']}/{verb}"
        return await self.post(path, {"token": lease["token"], **body}, token=by or self.worker, key=key)

    async def succeed(self, lease: Any, result: Any = None) -> Said:
        return await self.do("complete", lease, outcome={"status": "succeeded", "result": result})

    async def show(self, command_id: str, *, wait_ms: int = 0) -> Any:
        said = await self.served.ask("GET", f"{COMMANDS}/{command_id}?wait_ms={wait_ms}", token=self.sender)
        assert said.status == 200, said.body
        return said.json

    async def kinds(self, command_id: str) -> list[str]:
        """Return what has happened to a command."""
        said = await self.served.ask("GET", f"{COMMANDS}/{command_id}/history", token=self.operator)
        return [one["kind"] for one in said.json["events"]]
