"""Webhooks that keep coming, whatever becomes of the database; and what has become of them in the end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from examples.github_bot.effects import Effect
from examples.github_bot.events import Delivery
from examples.github_bot.job import hand_in
from examples.github_bot.outcome import Outcome
from perdure import Engine
from perdure.errors import StoreError, StoreWentBack

SENDERS = 16
PAUSE_SECONDS = 0.25  # of a sender between two webhooks: together some 60 a second, which a small machine takes beside a cluster
REDELIVERY_SECONDS = 0.5  # of a webhook whose sender was told of an error
SERVICE_SECONDS = 180.0  # without which the run is given up


class NoService(RuntimeError):
    """Nothing was acknowledged for too long."""


class Traffic:
    """Senders, each with one webhook at a time, which it delivers until it is acknowledged."""

    def __init__(self, engines: Sequence[Engine], webhooks: Sequence[Delivery]) -> None:
        self._engines = engines
        self._arriving = itertools.cycle(webhooks)
        self._over = False
        self._arrived = asyncio.Event()
        self.times: list[float] = []
        self.accepted: list[Delivery] = []
        self.errors: dict[str, str] = {}
        self.refusals: Counter[str] = Counter()

    async def run(self) -> None:
        """Send until `end` is called."""
        async with asyncio.TaskGroup() as group:
            for n in range(SENDERS):
                group.create_task(self._send(self._engines[n % len(self._engines)]))

    def end(self) -> None:
        """Let each sender bring its last webhook to its end."""
        self._over = True

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        enough = len(self.times) + count
        try:
            async with asyncio.timeout(SERVICE_SECONDS):
                while len(self.times) < enough:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise NoService(
                f"{len(self.times)} acknowledged, no {enough} after {SERVICE_SECONDS:.0f} s; errors: {dict(self.refusals)}"
            ) from None

    async def _send(self, engine: Engine) -> None:
        while not self._over:
            await self._deliver(engine, next(self._arriving))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _deliver(self, engine: Engine, delivery: Delivery) -> None:
        while True:
            try:
                self.errors |= await hand_in(engine, [delivery], concurrency=1, accepted=self._accepted)
            except StoreWentBack:
                raise
            except StoreError as error:
                self.refusals[error.code] += 1
                await asyncio.sleep(REDELIVERY_SECONDS)
            else:
                return

    def _accepted(self, delivery: Delivery) -> None:
        self.times.append(time.monotonic())
        self.accepted.append(delivery)
        self._arrived.set()


class Verdict(NamedTuple):
    """What has become of the webhooks that were acknowledged.

    `lost` are not in the store, `unhandled` neither handled nor parked nor dead, `twice` steps stand in the record more than once, or their
    message is done twice; `rerun` effects ran again before they were recorded, which is allowed.
    """

    accepted: int
    lost: int
    unhandled: int
    twice: int
    refused: int
    rerun: int
    same: bool

    @property
    def sound(self) -> bool:
        """Whether each was handled exactly once, with the outcome of an undisturbed run."""
        return self.same and not (self.lost or self.unhandled or self.twice or self.refused)

    def line(self) -> str:
        """Return it for people."""
        return (
            f"{self.accepted:,} webhooks acknowledged: {self.lost} lost, {self.unhandled} not handled, {self.twice} handled twice, {self.refused} refused; "
            f"{self.rerun} effects run again before they were recorded; "
            f"{'the same' if self.same else 'ANOTHER'} end as on SQLite without any disturbance"
        )


def judged(accepted: Collection[Delivery], outcome: Outcome, calm: Outcome, effects: Iterable[Effect]) -> Verdict:
    """Compare what was acknowledged with what the store and the ledger tell, and with an undisturbed run."""
    fates = {(fate.tenant, fate.delivery): fate.outcome for fate in outcome.fates}
    places = {(delivery.tenant, delivery.event.delivery) for delivery in accepted}
    # Messages that processes send one another have no id that two runs share: those are compared with the undisturbed run only.
    deeds = Counter((deed.tenant, deed.origin, deed.subject) for deed in outcome.deeds if (deed.tenant, deed.origin) in fates)
    return Verdict(
        accepted=len(places),
        lost=sum(fates.get(place, "refused") == "refused" for place in places),
        unhandled=sum(fates.get(place) in {"queued", "open"} for place in places),
        twice=sum(one.times > 1 for one in outcome.recorded.values()) + sum(count > 1 for count in deeds.values()),
        refused=sum(fate == "refused" and place not in places for place, fate in fates.items()),
        rerun=sum(effect.attempts - 1 for effect in effects),
        same=outcome.digest() == calm.digest(),
    )
