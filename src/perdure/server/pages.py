"""What the server says of itself: whether it lives, what it has done, and what routes it has."""

from __future__ import annotations

import html
from functools import cache
from typing import Any, Final, Literal

import msgspec

from perdure.errors import NodeNotReady, StoreError, StoreUnavailable
from perdure.server.metrics import METRICS_TYPE
from perdure.server.route import Answer, Call, answer

HTML_TYPE: Final = "text/html; charset=utf-8"
_PAGE_HEADERS: Final = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "x-content-type-options": "nosniff"}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}code{background:#eee;padding:0 .2em}dt{margin-top:1em}"
)


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server answers."""

    status: Literal["ok"]


async def live(call: Call) -> Answer:
    """Say that the server runs."""
    del call
    return answer(Health("ok"))


async def ready(call: Call) -> Answer:
    """Say whether the server takes requests: it does not stop, the store answers, and it can load what open processes are on."""
    if call.stopping.is_set():
        raise StoreUnavailable("the server stops")
    try:
        await call.engine.store.tokens.list_tokens(limit=1)
    except StoreError as error:
        raise StoreUnavailable("the store does not answer") from error
    if call.engine.strict and (unmet := call.engine.versions.unmet):
        raise NodeNotReady(sorted(unmet))
    return answer(Health("ok"))


async def metrics(call: Call) -> Answer:
    """Say what the server has done."""
    return Answer(body=call.metrics.text().encode(), media_type=METRICS_TYPE)


async def openapi(call: Call) -> Answer:
    """Say what routes there are, for programs."""
    del call
    return Answer(body=_document())


async def docs(call: Call) -> Answer:
    """Say what routes there are, for people."""
    del call
    return Answer(body=_page(), media_type=HTML_TYPE, headers=_PAGE_HEADERS)


@cache
def _document() -> bytes:
    from perdure.server.openapi import document  # noqa: PLC0415  # the document is made of the table that this module is in

    return msgspec.json.encode(document())


@cache
def _page() -> bytes:
    described: dict[str, Any] = msgspec.json.decode(_document())
    rows = [_row(path, method, operation) for path, methods in described["paths"].items() for method, operation in methods.items()]
    info = described["info"]
    title = html.escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{html.escape(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">/openapi.json</a>.</p><dl>{"".join(rows)}</dl></html>'
    ).encode()


def _row(path: str, method: str, operation: dict[str, Any]) -> str:
    answers = ", ".join(f"{status} {html.escape(one['description'])}" for status, one in operation["responses"].items())
    capability = operation.get("x-capability")
    needs = f"Needs <code>{html.escape(capability)}</code>." if capability else "Open to everybody."
    return (
        f"<dt><code>{method.upper()} {html.escape(path)}</code></dt>"
        f"<dd>{html.escape(operation['summary'])} {needs} Answers: {answers}.</dd>"
    )
