"""Faults in the core: the view of a batch, and the writer."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

VIEW: Final = "src/perdure/core/view.py"
WRITER: Final = "src/perdure/core/writer.py"
SIGNALS: Final = "src/perdure/core/signals.py"

LAW: Final = ("tests/core/test_law.py::test_one_batch_of_n_is_n_batches_of_one",)
READS: Final = "tests/core/test_faults_core.py"
QUEUE: Final = "tests/core/test_writer.py"
OUTCOMES: Final = "tests/core/test_outcomes.py"

FAULTS: Final = (
    # --- the view ------------------------------------------------------------------------------------
    Fault(
        "view-unread-is-absent",
        VIEW,
        "        except KeyError:\n            self._fetch(key)\n            row = self._rows[key]\n",
        "        except KeyError:\n            row = None\n",
        LAW,
    ),
    Fault(
        "view-rollback-keeps-ticks",
        VIEW,
        "        self.last_tick = self._tick_before\n",
        "",
        LAW,
    ),
    Fault(
        "view-rollback-keeps-counters",
        VIEW,
        "            self._counts, self._counts_before = self._counts_before, None\n",
        "            self._counts_before = None\n",
        LAW,
    ),
    Fault(
        "view-rollback-keeps-signals",
        VIEW,
        "        while len(self._signals) > self._signals_before:\n",
        "        while False:\n",
        (READS,),
    ),
    Fault(
        "view-rollback-keeps-rows",
        VIEW,
        "            self._unset(key, row)\n",
        "",
        LAW,
    ),
    Fault(
        "view-rollback-keeps-overlay",
        VIEW,
        "            self._move(key, self._rows.get(key), before)\n",
        "            pass\n",
        LAW,
    ),
    Fault(
        "view-scan-ignores-after",
        VIEW,
        "    if scan.after is not None and place[: len(scan.after)] <= scan.after:\n",
        "    if False:\n",
        LAW,
    ),
    Fault(
        "view-scan-ignores-upto",
        VIEW,
        "    return scan.upto is None or place[: len(scan.upto)] <= scan.upto\n",
        "    return True\n",
        LAW,
    ),
    Fault(
        "view-scan-looks-beyond-what-was-loaded",
        VIEW,
        "(page.whole or place <= page.last)",
        "True",
        LAW,
    ),
    Fault(
        "view-scan-is-short-because-of-the-batch",
        VIEW,
        "        if len(found) < scan.limit and not page.whole:\n",
        "        if False:\n",
        LAW,
    ),
    Fault(
        "view-page-hides-the-batchs-changes",
        VIEW,
        "                if key not in rows:\n                    revs[key], rows[key] = found.rows[key]\n",
        "                if True:\n                    revs[key], rows[key] = found.rows[key]\n",
        LAW,
    ),
    Fault(
        "view-guard-is-not-read",
        VIEW,
        "            self.get(scan.guard)\n",
        "            pass\n",
        (READS,),
    ),
    Fault(
        "view-what-was-only-read-is-not-checked",
        VIEW,
        "        found = [(key, rev) for key, rev in revs.items() if key not in dirty",
        "        found = [(key, rev) for key, rev in revs.items() if key in dirty",
        (READS,),
    ),
    Fault(
        "view-signals-nobody",
        VIEW,
        "        return tuple(self._signals)\n",
        "        return ()\n",
        (f"{QUEUE}::test_signals_are_sent_after_the_commit_and_only_then",),
    ),
    # --- the writer ----------------------------------------------------------------------------------
    Fault(
        "writer-resolves-before-the-commit",
        WRITER,
        "        number = row.batch + 1\n",
        "        number = row.batch + 1\n        self._resolve(batch, decided)\n",
        (f"{QUEUE}::test_nobody_hears_of_a_result_or_a_rejection_before_the_commit",),
    ),
    Fault(
        "writer-signals-before-the-commit",
        WRITER,
        "        number = row.batch + 1\n",
        "        number = row.batch + 1\n        self._on_signals(view.signals())\n",
        (f"{QUEUE}::test_signals_are_sent_after_the_commit_and_only_then",),
    ),
    Fault(
        "writer-halving-loses-a-half",
        WRITER,
        "        await self._process(batch[middle:])\n",
        "",
        (READS,),
    ),
    Fault(
        "writer-refuses-the-whole-batch",
        WRITER,
        "                if not refused.divisible or len(batch) == 1:\n",
        "                if True:\n",
        (f"{OUTCOMES}::test_of_a_thousand_one_that_fails_and_one_that_is_refused_leave_the_others_untouched",),
    ),
    Fault(
        "writer-retries-instead-of-settling",
        WRITER,
        "            if not await self._was_committed(number, unknown):\n",
        "            if True:\n",
        (f"{OUTCOMES}::test_an_unknown_outcome_that_was_committed_is_told_as_success_and_written_once",),
    ),
    Fault(
        "writer-takes-an-unknown-outcome-for-done",
        WRITER,
        "        return fenced.batch == number\n",
        "        return True\n",
        (f"{OUTCOMES}::test_an_unknown_outcome_that_was_not_committed_is_run_again",),
    ),
    Fault(
        "writer-does-not-see-lost-commits",
        WRITER,
        "    if found.batch < known.batch and",
        "    if False and",
        (f"{OUTCOMES}::test_a_database_that_lost_acknowledged_commits_stops_the_store_loudly",),
    ),
    Fault(
        "writer-tells-a-rejection-of-an-unknown-batch",
        WRITER,
        "        _tell(waiting, None, unknown if rejection is None else nothing)\n",
        "        _tell(waiting, None, unknown)\n",
        (f"{OUTCOMES}::test_who_was_rejected_in_a_batch_of_unknown_outcome_is_told_that_nothing_was_written",),
    ),
    Fault(
        "writer-does-not-lock-after-a-conflict",
        WRITER,
        "locked=attempt > 0)",
        "locked=False)",
        (f"{OUTCOMES}::test_a_conflict_is_run_again_with_locks",),
    ),
    Fault(
        "writer-goes-on-after-poison",
        WRITER,
        "        self._poison = error\n",
        "",
        (f"{OUTCOMES}::test_a_store_that_became_unusable_refuses_everything",),
    ),
    Fault(
        "writer-queue-without-bound",
        WRITER,
        "        if len(self._queue) >= limits.QUEUE_MAX and not urgent:\n",
        "        if False:\n",
        (f"{QUEUE}::test_a_full_queue_refuses_at_once",),
    ),
    Fault(
        "writer-keeps-what-a-failed-decision-changed",
        WRITER,
        "                    view.rollback()\n                    outcomes.append((None, error))\n",
        "                    outcomes.append((None, error))\n",
        (READS,),
    ),
    Fault(
        "writer-closes-without-finishing",
        WRITER,
        "            await asyncio.wait([self._task])\n",
        "            pass\n",
        (READS,),
    ),
)
