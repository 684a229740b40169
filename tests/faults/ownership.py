"""Faults in the ownership of shards, and in what an engine does with those that it gains and loses."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

LEASES: Final = "src/perdure/backends/postgres/ownership.py"
STATEMENTS: Final = "src/perdure/backends/postgres/statements.py"
WRITER: Final = "src/perdure/core/writer.py"
ENGINE: Final = "src/perdure/engine"
UNIT: Final = "tests/postgres/test_ownership.py"
MEETINGS: Final = "tests/postgres/test_ownership_meetings.py"
ENGINES: Final = "tests/postgres/test_ownership_engines.py"
TWO: Final = "tests/engine/test_two_nodes.py"
LEADING: Final = "tests/engine/test_two_nodes_leading.py"
TAKING: Final = "tests/engine/test_two_nodes_taking_over.py"

FAULTS: Final = (
    Fault(
        "ownership-late-nodes-share",
        LEASES,
        "1 + sum(in_time for node, _, _, in_time in nodes",
        "1 + sum(not expired for node, _, expired, _ in nodes",
        (f"{UNIT}::test_a_node_that_is_late_with_its_lease_gets_no_share_before_it_is_in_time_again",),
    ),
    Fault(
        "leases-fenced-node-is-never-registered-again",
        LEASES,
        "        if self._node not in {node for node, *_ in nodes}:\n            await self._again()\n",
        "",
        (f"{UNIT}::test_a_fenced_node_registers_again_and_gets_its_share",),
    ),
    Fault(
        "leases-registered-with-what-was-owned-before",
        LEASES,
        'f"update {schema}.shard set node = null where node = $1 and exists (select 1 from me)"',
        'f"update {schema}.shard set node = null where node = $1 and false and exists (select 1 from me)"',
        (f"{UNIT}::test_a_node_owns_nothing_from_before_it_registered",),
    ),
    Fault(
        "leases-a-refused-start-keeps-a-lease",
        LEASES,
        "        except BaseException:\n            await self._unregister()\n            raise\n",
        "        except BaseException:\n            self._renewed_at = 0\n            raise\n",
        (f"{ENGINES}::test_a_start_that_fails_leaves_no_lease",),
    ),
    Fault(
        "leases-taken-over-without-looking-at-the-expiry-again",
        LEASES,
        "where node = $1 and lane = 0 and incarnation = $2 and expires_at < {NOW} returning node",
        "where node = $1 and lane = 0 and incarnation = $2 returning node",
        (f"{UNIT}::test_a_takeover_waits_for_a_batch_in_flight_and_one_that_has_renewed_lives",),
    ),
    Fault(
        "leases-taken-of-who-has-taken-them-again",
        LEASES,
        "join {schema}.shard o on o.shard = u.shard and o.epoch = u.epoch where",
        "join {schema}.shard o on o.shard = u.shard where",
        (f"{MEETINGS}::test_shards_that_another_node_takes_meanwhile_are_not_taken_from_it",),
    ),
    Fault(
        "leases-renewed-only-between-two-looks",
        LEASES,
        '            loop.create_task(self._keep(), name="perdure-keeps-lease"),\n',
        "",
        (f"{MEETINGS}::test_a_node_renews_its_lease_while_its_look_at_the_others_waits",),
    ),
    Fault(
        "leases-taken-over-without-raising-the-incarnation",
        LEASES,
        "set incarnation = incarnation + 1, expires_at = null ",
        "set expires_at = null ",
        (f"{UNIT}::test_an_expired_node_loses_its_shards_and_its_incarnation_is_raised_first",),
    ),
    Fault(
        "leases-claimed-after-the-lease-is-over",
        LEASES,
        "and incarnation = $2 and expires_at > {NOW} for share",
        "and incarnation = $2 for share",
        (f"{UNIT}::test_a_node_whose_lease_is_over_claims_nothing",),
    ),
    Fault(
        "leases-unfair",
        LEASES,
        "        live = 1 + sum(in_time for node, _, _, in_time in nodes if node != self._node)\n",
        "        live = 1\n",
        (f"{UNIT}::test_a_second_node_gets_its_fair_share_and_nothing_is_owned_twice",),
    ),
    Fault(
        "leases-given-back-before-all-is-committed",
        LEASES,
        "            await self._keeper.release(given)\n",
        "            asyncio.get_running_loop().create_task(self._keeper.release(given))  # noqa: RUF006\n",
        (f"{UNIT}::test_shards_are_given_back_only_when_all_that_was_begun_is_committed",),
    ),
    Fault(
        "leases-given-back-are-held-though-another-has-taken-over",
        LEASES,
        "        for lease in self._giving:\n            lease.held = False\n        self._lose(list(self._leases))\n",
        "        self._lose(list(self._leases))\n",
        (f"{UNIT}::test_what_is_given_back_ends_when_another_takes_over_meanwhile",),
    ),
    Fault(
        "leases-answered-before-they-are-dropped",
        WRITER,
        "            except WriterFenced as fenced:\n                found",
        "            except WriterFenced as fenced:\n                _fail(batch, LeaseLost('early'))\n                found",
        (f"{UNIT}::test_a_fenced_node_drops_everything_before_it_writes_again",),
    ),
    Fault(
        "leases-not-renewed-by-batches",
        STATEMENTS,
        "then {NOW} + {limits.LEASE_US} end",
        "then expires_at end",
        (f"{UNIT}::test_a_batch_renews_the_lease_that_it_is_written_with",),
    ),
    Fault(
        "leases-are-not-looked-at-before-a-step",
        f"{ENGINE}/stage.py",
        "return self.lease.held and self.owner.ownership.safe()",
        "return self.lease.held",
        (f"{TAKING}::test_a_step_does_not_begin_while_the_lease_may_be_over_and_begins_when_it_is_renewed",),
    ),
    Fault(
        "a-process-is-read-before-its-commits-under-way",
        f"{ENGINE}/recovery.py",
        "            elif not crashed:\n                # Commits of the process that are under way still count: read before them, its steps would run again.\n"
        "                await owner.store.access.writer.commit()\n",
        "",
        ("tests/engine/test_attack_commits.py::test_a_process_is_read_again_only_behind_its_commits_that_are_under_way",),
    ),
    Fault(
        "leases-are-not-looked-at-on-the-thread",
        f"{ENGINE}/steps.py",
        "    if not may_begin():\n        raise NotBegun\n",
        "",
        (f"{TAKING}::test_a_function_that_waited_for_a_thread_does_not_begin_when_the_lease_is_over",),
    ),
    Fault(
        "shards-queued-turns-outlive-them",
        f"{ENGINE}/shards.py",
        "        begun |= owner.dispatcher.forget(lambda *key: self._shard(key) in shards)\n",
        "        begun |= {key for key in owner.dispatcher.unbegun() if self._shard(key) in shards}\n",
        (f"{TAKING}::test_a_turn_that_was_queued_before_its_shard_was_given_away_is_not_run_again_from_what_was_noted_then",),
    ),
    Fault(
        "shards-given-back-count-attempts",
        f"{ENGINE}/shards.py",
        "for key, lease in found.items() if lease is not None]",
        "for key, lease in found.items() if lease is not None and False]",
        (f"{TAKING}::test_turns_of_shards_that_are_given_back_go_on_elsewhere_and_count_no_attempt",),
    ),
    Fault(
        "shards-gained-without-waiting-for-what-was-decided-before",
        f"{ENGINE}/recovery.py",
        "        await self._owner.store.access.writer.commit()\n        await self.take_up(shards, first=True)\n",
        "        await self.take_up(shards, first=True)\n",
        (f"{TAKING}::test_word_that_is_committed_after_its_shard_was_gained_is_heard",),
        hangs=True,
    ),
    Fault(
        "shards-word-for-others-is-taken-out",
        f"{ENGINE}/leaving.py",
        "if self.rules.owns(int(str(key.parts[1]))) and view.get(key) is not None:",
        "if view.get(key) is not None:",
        (f"{TAKING}::test_word_for_another_node_is_not_taken_out_by_one_that_has_lost_the_shard",),
    ),
    Fault(
        "shards-nobody-is-told-of-foreign-work",
        f"{ENGINE}/handling.py",
        "            self.view.insert(inbox, InboxRow(str(process_key.parts[1])))\n",
        "",
        (f"{TWO}::test_a_message_by_key_or_by_id_reaches_the_other_nodes_process_and_its_reply_comes_back",),
        hangs=True,
    ),
    Fault(
        "shards-everybody-sweeps",
        f"{ENGINE}/engine.py",
        "leads=lambda: self._owner.rules.leads)",
        "leads=lambda: True)",
        (f"{LEADING}::test_only_the_node_that_leads_sweeps",),
    ),
    Fault(
        "shards-a-firing-on-another-node-is-never-over",
        f"{ENGINE}/waiters.py",
        "[*self._waiters, *self._watchers]",
        "[*self._waiters]",
        (f"{LEADING}::test_a_slot_that_waits_for_the_firing_before_it_is_released_though_that_ran_on_the_other_node",),
        hangs=True,
    ),
)
