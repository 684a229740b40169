"""Kill the primary of a PostgreSQL cluster under the GitHub bot, again and again, and check what becomes of its webhooks.

Three PostgreSQL under Patroni with synchronous replication, and one etcd, on loopback; engines whose store has all three hosts in its URL;
webhooks that keep coming. Exit status 0; 1 when a webhook was lost, handled twice, or ended otherwise than in an undisturbed run; 2 for wrong
arguments; 77 when something that a cluster needs is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from examples.github_bot import cli
from examples.github_bot.effects import Ledger, in_world
from examples.github_bot.events import Delivery, by_tenant, routed
from examples.github_bot.job import settled
from examples.github_bot.outcome import Outcome, outcome_of
from examples.github_bot.processes import app
from examples.github_bot.recording import WEBHOOKS, disturbed, read, repeated
from perdure import Engine, Store, open_store
from perdure.engine.verification import verify
from perdure.errors import StoreWentBack
from tests.ha.cluster import Cluster, ClusterFailed, Disaster
from tests.ha.gaps import Failover, longest_gap
from tests.ha.needs import Missing, Programs, programs
from tests.ha.traffic import NoService, Traffic, Verdict, judged

MISSING = 77
FAILED = 1
DISASTERS: tuple[Disaster, ...] = get_args(Disaster)
ROUNDS: tuple[Disaster, ...] = ("postmaster", "postmaster", "machine", "postmaster", "postmaster")
COPIES = 20
DUPLICATES = 0.1
SEED = 7
BEFORE = 150  # webhooks acknowledged before a disaster, and after it
SETTLE_SECONDS = 300.0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="tests.ha", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=_rounds, default=ROUNDS, metavar="LIST", help=f"of {', '.join(DISASTERS)}; {','.join(ROUNDS)} unless given"
    )
    parser.add_argument("--engines", type=int, default=2, metavar="N", help="how many share the store (%(default)s)")
    parser.add_argument("--asynchronous", action="store_true", help="let no commit wait for a standby: shows what that costs")
    parser.add_argument("--verbose", action="store_true", help="show what Perdure logs")
    return parser.parse_args(arguments)


def _rounds(text: str) -> tuple[Disaster, ...]:
    found = tuple(one for word in text.split(",") for one in DISASTERS if one == word)
    if ",".join(found) != text:
        raise argparse.ArgumentTypeError(f"expected a list of {', '.join(DISASTERS)}, found {text!r}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    options = parsed(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.CRITICAL, format="%(relativeCreated)8d ms %(name)s: %(message)s")
    try:
        found = programs()
    except Missing as error:
        for line in error.lines:
            sys.stderr.write(f"ha: needs {line}\n")
        return MISSING
    try:
        verdict = asyncio.run(_run(found, options))
    except (ClusterFailed, NoService) as error:
        sys.stderr.write(f"ha: {error}\n")
        return FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("ha: stopped, and everything it had started\n")
        return 128 + signal.SIGINT
    return 0 if verdict.sound else FAILED


async def _run(found: Programs, options: argparse.Namespace) -> Verdict:
    task = asyncio.current_task()
    assert task is not None, "it runs in one"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="perdure-ha-bot-") as folder:
        async with Cluster(found, synchronous=not options.asynchronous) as cluster:
            _say(
                f"three nodes after {time.monotonic() - began:.1f} s, {'asynchronous' if options.asynchronous else 'synchronous and strict'}; {cluster.url}"
            )
            traffic, outcome, ledger = await _work(cluster, Path(folder), options)
        with ledger:
            effects = ledger.effects()
        calm = await _calm(Path(folder), traffic.accepted)
    verdict = judged(traffic.accepted, outcome, calm, effects)
    _say(f"errors that senders met and delivered again after: {dict(traffic.refusals) or 'none'}; by handlers: {len(traffic.errors)}")
    _say(verdict.line())
    return verdict


async def _work(cluster: Cluster, folder: Path, options: argparse.Namespace) -> tuple[Traffic, Outcome, Ledger]:
    webhooks = [routed(*hook) for hook in disturbed(repeated(read(WEBHOOKS), COPIES), duplicates=DUPLICATES, shuffle=SEED)]
    ledger = Ledger(folder / "effects.db")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(in_world(ledger))
        stores = [await stack.enter_async_context(open_store(cluster.url)) for _ in range(options.engines)]
        _say(f"{(await stores[0].info()).engine}, {options.engines} engines on one store")
        engines = [await stack.enter_async_context(Engine(store, app)) for store in stores]
        traffic = Traffic(engines, webhooks)
        sending = asyncio.create_task(traffic.run())
        try:
            for number, disaster in enumerate(options.rounds, 1):
                failover = asyncio.create_task(_fail_over(cluster, traffic, disaster))
                await asyncio.wait({sending, failover}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    failover.cancel()
                    break
                _say((await failover).line(number))
        except BaseException:
            cluster.close()  # an engine brings to its end what it has begun; without any server it gives up
            raise
        finally:
            traffic.end()
        await _sent(sending)
        outcome = await _outcome(engines[0], traffic)
        await _verified(stores[0])
    return traffic, outcome, ledger


async def _fail_over(cluster: Cluster, traffic: Traffic, disaster: Disaster) -> Failover:
    await traffic.more(BEFORE)
    old = await asyncio.to_thread(cluster.leader)
    if old is None:
        raise ClusterFailed(f"nobody leads: {cluster.members()}")
    struck = time.monotonic()
    cluster.strike(old, disaster)
    new = await cluster.successor(old)
    leader = time.monotonic() - struck
    await traffic.more(BEFORE)
    cluster.mend(old, disaster)
    await cluster.healthy()
    mended = time.monotonic()
    await traffic.more(BEFORE)
    accepted = sum(struck <= at <= mended for at in traffic.times)
    gap = longest_gap(traffic.times, struck, mended)
    return Failover(disaster, old.name, new.name, leader, gap, mended - struck, accepted)


async def _sent(sending: asyncio.Task[None]) -> None:
    try:
        await sending
    except* StoreWentBack as group:
        raise ClusterFailed(f"a store stopped: {group.exceptions[0]}") from None


async def _outcome(engine: Engine, traffic: Traffic) -> Outcome:
    tenants = by_tenant(traffic.accepted)
    _say(
        f"{len(traffic.times):,} acknowledgements of {len({(one.tenant, one.event.delivery) for one in traffic.accepted}):,} webhooks; waiting until nothing is left to do"
    )
    async with asyncio.timeout(SETTLE_SECONDS):
        await settled(engine.store, tenants)
    return await outcome_of(engine.store, tenants, traffic.errors)


async def _verified(store: Store) -> None:
    findings = await verify(store)
    _say(f"the store checked against itself: {len(findings)} findings")
    if findings:
        raise ClusterFailed("\n".join(map(str, findings)))


async def _calm(folder: Path, deliveries: Sequence[Delivery]) -> Outcome:
    """Do the same without any disturbance, on SQLite."""
    with Ledger(folder / "calm-effects.db") as ledger:
        report = await cli.run(open_store("sqlite:///:memory:"), ledger, deliveries, concurrency=64, accepted=lambda _delivery: None)
    return report.outcome


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
