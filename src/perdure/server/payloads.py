"""Params and results that are streamed: into blobs, and out of them.

Source: commands.md, "Payloads".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Final

import msgspec

from perdure import limits
from perdure.blob import Blob
from perdure.commands.contract import Body
from perdure.commands.states import CommandState
from perdure.commands.wire import ref_of
from perdure.errors import BlobNotFound, CommandNotFound, IllegalTransition, RequestInvalid
from perdure.headers import BINARY_TYPE, digest_header
from perdure.protocol.commands import StateNow, Token
from perdure.server.commands import actor_of, check_work, commands_of, state_now
from perdure.server.doorkeeper import nothing_here
from perdure.server.route import Answer, Call, answer

_DIGESTS: Final = ("content-digest", "repr-digest")
_SHA256: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]*={0,2}):\s*(?=,|$)", re.ASCII)
_DIGEST_BYTES: Final = 32

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="What the bytes have to be, in hex.")]


class UploadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bytes have to be."""

    sha256: Sha256 | None = None


class ResultQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lease the result is of, and what its bytes have to be."""

    token: Token
    sha256: Sha256 | None = None


async def put_params(call: Call) -> Answer:
    """Take in the params of a command that waits for them."""
    command_id, commands = call.parts["id"], commands_of(call)
    status = await commands.get_command_status(command_id, tenant_id=call.tenant)
    if status is None:
        raise CommandNotFound(nothing_here())
    waits = status.state == CommandState.PENDING_UPLOAD
    if not waits and not isinstance(await commands.get_params(command_id, tenant_id=call.tenant), Blob):
        raise IllegalTransition(f"command {command_id}: it is {status.state}, and its params are what they are")
    blob = await _stored(call, size=status.request_size_bytes if waits else None)
    await commands.set_params(command_id, blob, tenant_id=call.tenant, actor=actor_of(call))
    return answer(StateNow(command_id=command_id, state=await state_now(call)))


async def get_params(call: Call) -> Answer:
    """Give a worker the params of a command."""
    await check_work(call)
    return await _given(call, await commands_of(call).get_params(call.parts["id"], tenant_id=call.tenant), "params")


async def put_result(call: Call) -> Answer:
    """Take in a result that is too large to go with the outcome; it counts once the outcome names it."""
    await check_work(call)
    await commands_of(call).check_lease(call.parts["id"], call.query.token, tenant_id=call.tenant)
    ref = ref_of(await _stored(call, size=None))
    return answer(ref)


async def get_result(call: Call) -> Answer:
    """Give the result of a command that has succeeded."""
    found = await commands_of(call).get_command_metadata(call.parts["id"], tenant_id=call.tenant)
    if found is None:
        raise CommandNotFound(nothing_here())
    return await _given(call, await commands_of(call).get_result(call.parts["id"], tenant_id=call.tenant), "result")


async def _stored(call: Call, *, size: int | None) -> Blob:
    announced = call.headers.get("content-length")
    expected = size if announced is None else int(announced)
    if size not in {None, expected}:
        raise RequestInvalid(f"body: {size:,} bytes were announced when the command was created, found {expected:,}")
    return await call.engine.store.blobs.put(
        call.tenant,
        call.stream,
        content_type=_content_type(call.headers),
        expected_sha256=_expected(call.headers, call.query.sha256),
        expected_size=expected,
    )


async def _given(call: Call, body: Body | None, what: str) -> Answer:
    if body is None:
        raise BlobNotFound(f"command {call.parts['id']} has no {what}")
    if isinstance(body, bytes):
        return Answer(body=body, headers=headers_of(body))
    if await call.engine.store.blobs.stat(call.tenant, body.sha256) is None:
        raise BlobNotFound(f"the {what} of command {call.parts['id']} were removed")
    stream: AsyncIterator[bytes] = call.engine.store.blobs.open(call.tenant, body.sha256)
    kind = body.content_type if body.content_type.isascii() and body.content_type.isprintable() else ""
    return Answer(stream=stream, headers={**_headers(body.sha256, body.size), "content-type": kind or BINARY_TYPE})


def headers_of(body: bytes) -> dict[str, str]:
    """Return what is told of bytes that are given as they were taken in."""
    return _headers(hashlib.sha256(body).hexdigest(), len(body))


def _headers(sha256: str, size: int) -> dict[str, str]:
    return {
        "content-length": str(size),
        "etag": f'"{sha256}"',
        "repr-digest": digest_header(bytes.fromhex(sha256)),
        # Whatever somebody uploaded is no page of this server's.
        "content-disposition": "attachment",
        "content-security-policy": "default-src 'none'; sandbox",
    }


def _content_type(headers: Mapping[str, str]) -> str:
    text = headers.get("content-type", "").strip() or BINARY_TYPE
    if not (text.isascii() and text.isprintable() and len(text) <= limits.COMMAND_NAME_MAX):
        raise RequestInvalid(f"content-type: expected at most {limits.COMMAND_NAME_MAX} printable ASCII characters")
    return text


def _expected(headers: Mapping[str, str], sha256: str | None) -> str | None:
    """Return the hash that a request names for its body; other algorithms than SHA-256 do not count. Raises RequestInvalid."""
    found = {sha256} if sha256 is not None else set()
    for name in _DIGESTS:
        for text in _SHA256.findall(headers.get(name, "")):
            try:
                digest = base64.b64decode(text, validate=True)
            except binascii.Error:
                digest = b""
            if len(digest) != _DIGEST_BYTES:
                raise RequestInvalid(f"{name}: expected sha-256=:…: with 32 bytes in Base64")
            found.add(digest.hex())
    if len(found) > 1:
        raise RequestInvalid("the body is said to have several SHA-256 hashes; it has one")
    return found.pop() if found else None
