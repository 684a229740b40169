"""The job: hand every webhook to the engine, and wait until nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from examples.github_bot.events import CommitEvent, Delivery, Event, IssueEvent, PullRequestEvent, UnclaimedEvent
from examples.github_bot.outcome import listed
from examples.github_bot.processes import PullRequest
from perdure import Address, Engine, Store
from perdure.engine.inspection import Explanation
from perdure.errors import MailboxFull, Overloaded, StoreError

KEEP_CHECKS_FOR: Final = timedelta(days=7)
_POLL_SECONDS: Final = 0.02
_BACK_OFF_SECONDS: Final = 0.1


async def hand_in(
    engine: Engine, deliveries: Iterable[Delivery], *, concurrency: int, accepted: Callable[[Delivery], None]
) -> dict[str, str]:
    """Hand webhooks to the engine, `concurrency` at a time; each is durable when its turn in this is over.

    Args:
        engine: open.
        deliveries: the webhooks, in order of arrival.
        concurrency: how many are under way at the same time.
        accepted: called with each that the engine has accepted, when its sender has heard so.

    Returns:
        By delivery id, the texts of the errors that senders were told.
    """
    errors: dict[str, str] = {}
    arriving = iter(deliveries)

    async def work() -> None:
        for delivery in arriving:
            try:
                await _patient(engine, delivery)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001  # what the engine or a handler says to one sender; others go on
                errors[delivery.event.delivery] = f"{type(error).__name__}: {error}"
            else:
                accepted(delivery)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return errors


async def _patient(engine: Engine, delivery: Delivery) -> None:
    while True:
        try:
            await _deliver(engine, delivery)
        except (MailboxFull, Overloaded):
            await asyncio.sleep(_BACK_OFF_SECONDS)
        else:
            return


async def _deliver(engine: Engine, delivery: Delivery) -> None:
    event, id, tenant = delivery.event, delivery.event.delivery, delivery.tenant
    match event:
        case PullRequestEvent():  # for these two the sender waits for the reply
            await engine.call(PullRequest.changed, event, id=id, tenant=tenant)
        case IssueEvent():
            await engine.deliver(event, id=id, tenant=tenant, wait=True)
        case CommitEvent():
            await engine.deliver(event, id=id, tenant=tenant, keep_for=patience_of(event))
        case UnclaimedEvent():
            await engine.deliver(event, id=id, tenant=tenant, to=address_of(event), expires_after=patience_of(event))
        case _:
            await engine.deliver(event, id=id, tenant=tenant)


def address_of(event: Event) -> Address | None:
    """Return where a webhook goes when the handlers do not say.

    Nobody holds the key of an unclaimed one today, so it is a dead letter at once. When a process binds it one day, `redrive` brings it there.
    """
    return Address.key(event.subject) if isinstance(event, UnclaimedEvent) else None


def patience_of(event: Event) -> timedelta | None:
    """Return how long a webhook may wait for somebody who takes it. A check often comes before its pull request does: it is kept for it."""
    match event:
        case CommitEvent():
            return KEEP_CHECKS_FOR
        case UnclaimedEvent():
            return timedelta(0)
        case _:
            return None


async def settled(store: Store, tenants: Iterable[str]) -> None:
    """Wait until every message is handled, parked or dead, by whichever engine."""
    quiet: dict[str, int] = {}
    waiting = set(tenants)
    time = asyncio.get_running_loop().time
    while waiting:
        began = time()
        for tenant in sorted(waiting):
            messages, now = await listed(store, tenant), store.access.clock.now()
            before = quiet.pop(tenant, None)
            if not any(_under_way(message, now) for message in messages):
                # A list of several pages is no one moment: only two looks that see the same tell that nothing moves.
                quiet[tenant] = len(messages)
                if before == len(messages):
                    waiting.discard(tenant)
        if waiting:
            # A look at many messages takes its time; the engine gets at least as much.
            await asyncio.sleep(max(_POLL_SECONDS, time() - began))


def _under_way(message: Explanation, now: int) -> bool:
    overdue = message.expires_at is not None and message.expires_at <= now
    return message.status in {"queued", "open"} or (message.status == "parked" and overdue)
