"""Webhooks over the wire."""

from __future__ import annotations

import msgspec


class WebhookReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a webhook: the message that it is; or `ignored`, when the app has no use for it.

    `duplicate`: it had come before, and nothing was done again.
    """

    ignored: bool
    source: str
    message_id: str
    kind: str
    duplicate: bool = False
    status: str = ""
    process_id: str | None = None
