"""The bot as a server, to which GitHub sends its webhooks: `perdure serve --app examples.github_bot.server:app`."""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from typing import Final

from examples.github_bot import effects
from examples.github_bot.events import Event, delivery_id, routed
from examples.github_bot.job import address_of, patience_of
from examples.github_bot.processes import app
from perdure import Address, WebhookEvent

__all__ = ["app"]

SOURCE: Final = "github"
SECRET_ENV: Final = "GITHUB_WEBHOOK_SECRET"  # noqa: S105  # the name of the variable
LEDGER_ENV: Final = "GITHUB_BOT_LEDGER"


def _message(webhook: WebhookEvent) -> Event:
    return routed(webhook.kind, webhook.data).event


def _id(webhook: WebhookEvent) -> str:
    # GitHub does not sign `X-GitHub-Delivery`: who has seen one request could repeat it under another id. The content is signed.
    return delivery_id(webhook.kind, webhook.data)


def _address(webhook: WebhookEvent) -> Address | None:
    return address_of(_message(webhook))


def _patience(webhook: WebhookEvent) -> timedelta | None:
    return patience_of(_message(webhook))


@functools.cache
def _ledger() -> effects.Ledger:
    return effects.Ledger(os.environ.get(LEDGER_ENV, "github-bot-effects.db"))


app.webhook(SOURCE, scheme="github", secret_env=SECRET_ENV, message=_message, id=_id, to=_address, lasting=_patience)
effects.use(_ledger)
