"""Faults in what bounds the engine: slots, eviction, windows of mail, the clock."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
DISPATCHER: Final = f"{HERE}/dispatcher.py"
WINDOW: Final = f"{HERE}/window.py"
RESIDENT: Final = f"{HERE}/resident.py"
STAGE: Final = f"{HERE}/stage.py"
SLOTS: Final = "tests/engine/test_dispatcher.py"
MAIL: Final = "tests/engine/test_mail_windows.py"
RESTS: Final = "tests/engine/test_residency.py"
MEMORY: Final = "tests/engine/test_memory.py"
SUSPECTS: Final = "tests/engine/test_suspects.py"
CLOCK: Final = "tests/engine/test_clock_steps.py"
SERVERS: Final = (
    "tests/contracts/test_command_registry_nodes.py::test_section_5_5_nodes_go_by_the_clock_of_the_server_whatever_their_own_shows"
)

FAULTS: Final = (
    Fault(
        "engine-remembers-who-has-left",
        f"{HERE}/owner.py",
        '        """Let a process leave memory; one that waits is brought back by mail and timers."""\n',
        '        """Let a process leave memory; one that waits is brought back by mail and timers."""\n'
        "        self.why_stuck[resident.tenant_id, resident.process_id] = RuntimeError(resident.ref)\n",
        (f"{MEMORY}::test_what_sleeps_leaves_nothing_in_memory",),
    ),
    Fault(
        "suspects-side-by-side-after-a-failed-look",
        f"{HERE}/recovery.py",
        "                resident.alone = False  # it comes back: the next suspect waits until then\n",
        "",
        (f"{SUSPECTS}::test_a_suspect_that_cannot_be_read_keeps_the_others_waiting",),
    ),
    Fault(
        "stop-counts-for-who-waits-for-a-slot",
        f"{HERE}/owner.py",
        "        leaving |= self._unbegun | self.dispatcher.unbegun()\n",
        "        leaving |= self._unbegun\n",
        (f"{SUSPECTS}::test_turns_that_wait_for_a_slot_at_a_clean_stop_have_not_crashed",),
    ),
    Fault(
        "stop-counts-for-who-was-just-accepted",
        f"{HERE}/owner.py",
        "        leaving |= self._unbegun | self.dispatcher.unbegun()\n",
        "        leaving |= self.dispatcher.unbegun()\n",
        (f"{SUSPECTS}::test_turns_that_wait_for_a_slot_at_a_clean_stop_have_not_crashed",),
    ),
    Fault(
        "wake-ups-in-any-number",
        f"{HERE}/owner.py",
        "        if not self.dispatcher.wakes():\n",
        "        if not self.dispatcher.free:\n",
        ("tests/engine/test_bounds.py::test_no_more_are_woken_in_one_round_of_the_loop_than_the_limit",),
    ),
    Fault(
        "watchdog-names-the-library",
        f"{HERE}/watchdog.py",
        "next((line for line in reversed(lines) if not _is_ours(line.filename)), lines[-1])",
        "lines[-1]",
        ("tests/engine/test_watchdog.py::test_the_line_that_holds_up_the_loop_is_named",),
    ),
    Fault(
        "wheel-stops-for-good-after-a-bug",
        f"{HERE}/wheel.py",
        "            except Exception as error:  # an edge: what is due of one kind does not wait for a bug in another\n",
        "            except PerdureError as error:\n",
        ("tests/engine/test_looking.py::test_a_look_that_failed_for_a_bug_is_made_again",),
    ),
    Fault(
        "dispatcher-tenants-do-not-take-turns",
        DISPATCHER,
        "            self._tenants[tenant_id] = (other, lane)\n",
        "            self._tenants[tenant_id] = (other, lane)\n            self._tenants.move_to_end(tenant_id, last=False)\n",
        (f"{SLOTS}::test_tenants_take_turns_and_the_processes_of_one_go_in_order",),
    ),
    Fault(
        "dispatcher-a-flood-overtakes-who-waits",
        DISPATCHER,
        "        return not self._queue.size and len(self._with_slot) + self._coming < self._bound()\n",
        "        return True\n",
        (f"{SLOTS}::test_what_is_over_the_bound_is_accepted_and_runs_later",),
    ),
    Fault(
        "dispatcher-as-wide-beside-others",
        DISPATCHER,
        "        return self._narrow if self._beside_until and",
        "        return self._wide if self._beside_until and",
        (f"{SLOTS}::test_a_tenant_alone_has_more_slots_than_several_side_by_side",),
    ),
    Fault(
        "dispatcher-narrow-for-ever",
        DISPATCHER,
        "self._beside_until and self._owner.clock.now() < self._beside_until",
        "self._beside_until",
        (f"{SLOTS}::test_a_tenant_alone_has_more_slots_than_several_side_by_side",),
        hangs=True,
    ),
    Fault(
        "dispatcher-forgets-whom-it-refused",
        DISPATCHER,
        "            self._behind.add(tenant_id)\n",
        "",
        (f"{SLOTS}::test_more_starts_than_are_noted_all_run",),
        hangs=True,
    ),
    Fault(
        "dispatcher-long-steps-keep-others-out",
        DISPATCHER,
        "            if resident.only_steps():\n",
        "            if False:\n",
        (f"{SLOTS}::test_long_steps_keep_their_own_slots_and_no_others",),
    ),
    Fault(
        "dispatcher-messages-wait-for-all-that-is-due",
        DISPATCHER,
        "        self._queue.put(tenant_id, process_id, want, aside=want.wake)\n",
        "        self._queue.put(tenant_id, process_id, want)\n",
        (f"{CLOCK}::test_timers_due_at_one_instant_all_fire_once_and_messages_get_through_in_between",),
    ),
    Fault(
        "residency-evicts-what-moves",
        RESIDENT,
        "            and not (self.left or self.loading or self.has_slot or self.window.reading)\n            and self.quiet\n",
        "",
        (f"{RESTS}::test_a_turn_with_a_step_under_way_stays",),
    ),
    Fault(
        "residency-what-has-left-stays-in-memory",
        f"{HERE}/turn.py",
        "            self._root = None  #",
        "            pass  #",
        (f"{RESTS}::test_a_turn_that_has_left_memory_is_freed_without_the_collector_of_cycles",),
    ),
    Fault(
        "residency-replays-do-not-count",
        f"{HERE}/residency.py",
        "max(limits.REST_US, limits.REST_REPLAYS * resident.replay_time)",
        "limits.REST_US",
        (f"{RESTS}::test_a_turn_stays_for_twenty_times_its_replay",),
    ),
    Fault(
        "window-is-taken-for-the-whole-mailbox",
        RESIDENT,
        "        hidden = waiting and self.window.hides(turn)\n",
        "        hidden = False\n",
        (f"{MAIL}::test_receives_find_what_lies_beyond_the_window_and_then_begin_again_with_the_oldest",),
    ),
    Fault(
        "window-gives-what-is-not-the-oldest",
        STAGE,
        "        turn.may_take = self.window.gives_to\n",
        "",
        (f"{MAIL}::test_receives_find_what_lies_beyond_the_window_and_then_begin_again_with_the_oldest",),
    ),
    Fault(
        "window-misses-what-came-while-it-was-read",
        WINDOW,
        "        self.more = not whole or self._newest > self.seen\n",
        "        self.more = not whole\n",
        (f"{MAIL}::test_mail_announced_while_the_mailbox_is_read_is_not_taken_for_read",),
    ),
    Fault(
        "mail-of-a-tenant-has-no-bound",
        "src/perdure/messages/writes.py",
        "    if refuse and taken + places > limits.TENANT_MAIL_MAX:\n",
        "    if False:\n",
        (f"{MAIL}::test_a_tenant_with_too_much_mail_is_refused_and_others_are_not",),
    ),
    Fault(
        "clock-runs-backwards",
        "src/perdure/clock.py",
        "        if now >= self._last:\n",
        "        if True:\n",
        (f"{CLOCK}::test_after_a_step_backwards_time_goes_on_at_half_speed_until_the_machine_has_caught_up",),
    ),
    Fault(
        "clock-of-the-server-goes-on-from-the-machines",
        "src/perdure/clock.py",
        "            self._last = 0  # what",
        "            # what",
        (SERVERS,),
    ),
    Fault(
        "clock-of-the-server-passes-as-the-machines",
        "src/perdure/clock.py",
        "wall=lambda: boottime() * 1000 + self._ahead",
        "wall=lambda: time.time_ns() + self._ahead",
        (SERVERS,),
    ),
)
