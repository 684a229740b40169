"""What Schemathesis cannot know when it makes requests of the OpenAPI document, as its hooks.

Only requests that are to be accepted are touched, and only where the document says why: `x-opaque` is what only the server makes, `x-max-bytes`
counts bytes where JSON Schema counts characters, and which kinds of messages and which queries there are is the app's.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import urllib.parse
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.generation.meta import TestPhase

WAIT_MS_MAX = 5  # a long poll is waited for, but not for long
KEY_MAX = 256
QUERY_MAX = 16_384  # characters; there are headers, too
SECRET = "whsec_" + "c2VzYW1lLXNlc2FtZS1zZXNhbWUtc2VzYW1l"
_numbers = itertools.count()
_known_ids: dict[str, list[str]] = json.loads(os.environ.get("PERDURE_TEST_KNOWN", "{}"))


def _is_positive(case: Case[Any]) -> bool:
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


def _fits(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether a value that fits a schema has no more bytes than that says."""
    while "$ref" in schema:
        schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    most = schema.get("x-max-bytes")
    if most is not None and value is not None:
        # Of an object it is the size as JSON, where a character may take six.
        size = len(value.encode()) if isinstance(value, str) else 6 * sum(len(name) + len(text) + 1 for name, text in value.items())
        if size > most:
            return False
    inside = [one for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())) if one.get("type") != "null"]
    if not all(_fits(value, one, root) for one in inside):
        return False
    if isinstance(value, dict):
        return all(_fits(value[name], one, root) for name, one in schema.get("properties", {}).items() if name in value)
    if isinstance(value, list):
        return all(_fits(one, schema.get("items", {}), root) for one in value)
    return True


@schemathesis.deserializer("application/octet-stream")
def any_bytes(context: Any, response: Any) -> str:
    """Return bytes as text: they may be any."""
    content: bytes = response.content
    return content.decode("latin-1")


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Leave out what has too many bytes though not too many characters."""
    if not _is_positive(case):  # one whose head is over its limit is refused for that, whatever else is wrong
        return len(urllib.parse.urlencode(case.query or {}, doseq=True)) < QUERY_MAX
    raw, root = case.operation.definition.raw, case.operation.schema.raw_schema
    given = {"path": case.path_parameters, "query": case.query, "header": case.headers}
    parts = [(given[one["in"]], one) for one in raw["parameters"]]
    for values, one in parts:
        if one["name"] in (values or {}) and not _fits(values[one["name"]], one["schema"], root):
            return False
    body = raw.get("requestBody", {}).get("content", {}).get("application/json")
    return body is None or not isinstance(case.body, dict) or _fits(case.body, body["schema"], root)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Make a request that is to be accepted acceptable to this app at this time."""
    wait = case.query.get("wait_ms")
    if isinstance(wait, int | str) and str(wait).isdecimal() and WAIT_MS_MAX < int(wait) <= 30_000:
        case.query["wait_ms"] = WAIT_MS_MAX
    if not _is_positive(case):
        return
    if "Idempotency-Key" in case.headers:  # each is a new request
        case.headers["Idempotency-Key"] = _fresh(case.headers["Idempotency-Key"])
    for one in case.operation.definition.raw["parameters"]:
        if one["in"] == "query" and one["schema"].get("x-opaque"):
            case.query.pop(one["name"], None)
    if case.meta is not None and case.meta.phase.name == TestPhase.FUZZING:
        _name_known(case)
    name = case.operation.definition.raw["operationId"]
    if name == "listProcesses" and case.query.get("attribute"):  # which exclude one another, and each may be asked for once
        case.query.pop("order", None)
        case.query["attribute"] = case.query["attribute"][:1]
    body: Any = case.body
    if (
        name == "deployPackage"
    ):  # what a package is, and which types it has, is no matter of a schema; a trial takes as long as a hundred requests
        case.body = base64.b64decode(_known_ids["archive"][0])
        case.query = {"no_load": "true"}
        case.headers.pop("Built-With", None)
    elif isinstance(body, dict):
        case.body = _acceptable(name, _whole(body), case)


def _fresh(key: str) -> str:
    """Return a key of the same form that nobody has had."""
    end = '"' if key.startswith('"') else ""
    longer = f"{key.removesuffix(end)}-{next(_numbers)}{end}"
    return longer if len(longer) <= KEY_MAX else f'"{next(_numbers)}"'


def _acceptable(name: str, body: dict[str, Any], case: Case[Any]) -> dict[str, Any]:
    match name:
        case "deliverMessage" if case.media_type == "application/cloudevents+json":
            # Of an event, its extensions may say where it goes, or what its data is: they have tests of their own.
            kept = {name: body[name] for name in ("specversion", "source")}
            number = str(next(_numbers))
            return {**kept, "id": f"event-{number}", "type": "Place", "data": {"order": number, "amount": 1}}
        case "deliverMessage":
            return _known(body, case)
        case "moveProcess":  # whether code can go on with a process is no matter of a schema
            return {"content_hash": "0" * 64}
        case "queryProcess":
            return {"arguments": []}
        case "completeCommand" if {"result", "result_blob"} <= body["outcome"].keys():  # a result is in one of two places
            return {**body, "outcome": {**body["outcome"], "result_blob": None}}
        case "setRoute" if body.get("tenant") is not None:  # a rule is for a tenant or has a weight
            return {"content_hash": body["content_hash"], "tenant": body["tenant"]}
        case "setRoute":
            return {"content_hash": body["content_hash"] or "0" * 64, "weight": min(body.get("weight") or 0, 1_000)}
        case "putEndpoint":  # which URLs and secrets there are is no matter of a pattern, and a result takes longer than a request
            kept = {name: body[name] for name in ("target", "enabled") if name in body}
            return {**kept, "url": "https://hooks.example/in", "secrets": [SECRET]}
    return body


def _name_known(case: Case[Any]) -> None:
    """Let every other request be about a thing that is there."""
    number, words = next(_numbers), case.operation.path.split("/")
    kind = words[words.index("{id}") - 1] if "{id}" in words else ""
    if number % 2 and (ids := _known_ids.get(kind)):
        case.path_parameters = {**case.path_parameters, "tenant": "acme", "id": ids[number // 2 % len(ids)]}
    for part in {"{hash}", "{type}"} & set(words) if number % 2 else ():
        case.path_parameters = {**case.path_parameters, part.strip("{}"): _known_ids[part.strip("{}")][0]}


def _whole(value: Any) -> Any:
    """Return data with `5.0` as `5`, which is the same to JSON Schema."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _whole(one) for name, one in value.items()}
        case list():
            return [_whole(one) for one in value]
    return value


def _known(body: dict[str, Any], case: Case[Any]) -> dict[str, Any]:
    body.update(kind="Place", payload={"order": str(next(_numbers)), "amount": 1})
    if body.get("expires_after_ms") is not None:
        body.pop("keep_for_ms", None)
    if isinstance(body.get("to"), dict) and "process_type" in body["to"]:
        body["to"] = {**body["to"], "process_type": "Order"}
    if isinstance(body.get("to"), dict) and body["to"].get("way") == "tag":
        case.query.pop("wait_ms", None)
    return body
