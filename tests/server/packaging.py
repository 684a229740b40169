"""Packages over HTTP, as tests ask for them."""

from __future__ import annotations

from typing import Any

from tests.server.conftest import Said, Served

ZIP = {"Content-Type": "application/zip"}
PATH = "/v1/packages"


class Deployer:
    """Somebody whose token may deploy and read, for all tenants."""

    def __init__(self, served: Served, token: str) -> None:
        self.served = served
        self.token = token

    @classmethod
    async def of(cls, served: Served, name: str = "ci") -> Deployer:
        return cls(served, await served.new_token("deploy", "read", tenant="*", name=name))

    async def ask(self, method: str, path: str, **more: Any) -> Said:
        return await self.served.ask(method, path, token=self.token, **more)

    async def deploy(self, archive: bytes, query: str = "no_load=true", *, headers: dict[str, str] | None = None) -> Said:
        return await self.ask("POST", f"{PATH}?{query}", data=archive, headers={**ZIP, **(headers or {})})

    async def get(self, path: str) -> Any:
        said = await self.ask("GET", path)
        assert said.status == 200, said.body
        return said.json
