"""Webhooks over HTTP: what somebody has signed becomes a message, by the rules of the app.

Source: commands.md; docs/webhooks.md.
"""

from __future__ import annotations

import logging

from perdure import limits
from perdure.engine.sources import Ignored
from perdure.errors import PayloadTooLarge, WebhookSecretInvalid
from perdure.headers import Headers
from perdure.protocol.webhooks import WebhookReceipt
from perdure.server import intake
from perdure.server.route import Answer, Call, answer

logger = logging.getLogger("perdure.server")


async def receive(call: Call) -> Answer:
    """Verify a webhook, byte for byte as it came, and deliver the message that it is."""
    source = call.engine.app.source(call.parts["source"])
    body = bytearray()
    async for piece in call.stream:
        body += piece
        if len(body) > limits.HTTP_BODY_MAX:
            raise PayloadTooLarge("body, so far", size=len(body), limit=limits.HTTP_BODY_MAX)
    try:
        read = source.read(Headers(list(call.headers.items())), bytes(body), now=call.engine.store.access.clock.now())
    except WebhookSecretInvalid as error:
        logger.error("webhooks of %s cannot be verified: %s", source.name, error)  # noqa: TRY400  # the lines of code say nothing
        raise
    if isinstance(read, Ignored):
        return answer(WebhookReceipt(ignored=True, source=read.source, message_id=read.id, kind=read.kind))
    receipt = await call.engine.deliver_encoded(
        read.kind,
        read.payload,
        id=read.id,
        to=read.to,
        source=read.source,
        tenant=call.tenant,
        headers=intake.trace(call.headers) or None,
        lasting=read.lasting,
    )
    receipted = WebhookReceipt(
        ignored=False,
        source=read.source,
        message_id=read.id,
        kind=read.kind,
        duplicate=receipt.duplicate,
        status=receipt.status,
        process_id=receipt.process_id,
    )
    return answer(receipted, status=202)
