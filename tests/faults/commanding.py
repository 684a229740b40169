"""Faults in the commands of processes: how they are sent, and how their end comes back."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

SENDING: Final = "src/perdure/engine/commanding.py"
RESIDENT: Final = "src/perdure/engine/resident.py"
TURN: Final = "src/perdure/engine/turn.py"
ENGINE: Final = "tests/engine/test_commands.py"
AGAIN: Final = "tests/engine/test_commands_again.py"

FAULTS: Final = (
    Fault(
        "commands-a-process-is-not-told",
        SENDING,
        "        handling.answer(end.tenant_id, end.command_id, outcome=end.outcome, response=end.response)\n",
        "        pass\n",
        (f"{ENGINE}::test_a_deadline_of_no_time_is_over_at_once",),
        hangs=True,
    ),
    Fault(
        "commands-what-ended-before-is-waited-for",
        SENDING,
        "    if row is not None and row.state in TERMINAL:\n",
        "    if False:\n",
        (f"{AGAIN}::test_a_turn_run_again_from_the_end_of_a_command_gets_this_end_again",),
        hangs=True,
    ),
    Fault(
        "commands-a-cancelled-process-stops-nothing",
        RESIDENT,
        "            effects=produced.stops if failed else produced.effects,\n",
        "            effects=[] if failed else produced.effects,\n",
        (f"{ENGINE}::test_a_process_that_is_cancelled_cancels_its_commands",),
        hangs=True,
    ),
    Fault(
        "commands-losers-go-on",
        TURN,
        "        if isinstance(operation.effect, CommandEffect) and not self.leaving:\n",
        "        if False:\n",
        (f"{ENGINE}::test_losers_of_a_race_are_cancelled",),
    ),
    Fault(
        "commands-who-leaves-memory-stops-all",
        TURN,
        "        if isinstance(operation.effect, CommandEffect) and not self.leaving:\n",
        "        if isinstance(operation.effect, CommandEffect):\n",
        (f"{ENGINE}::test_a_command_that_a_task_waits_for_goes_on_when_its_turn_is_over",),
    ),
    Fault(
        "commands-force-stops-nothing",
        "src/perdure/engine/cancelling.py",
        "    for waits in commands:\n",
        "    for waits in []:\n",
        (f"{ENGINE}::test_a_process_that_is_cancelled_cancels_its_commands",),
        hangs=True,
    ),
    Fault(
        "commands-of-a-process-have-no-trace",
        SENDING,
        "                traceparent=_trace_of(view, asker),\n",
        "",
        (f"{AGAIN}::test_section_5_9_a_command_of_a_process_carries_the_trace_of_its_message",),
    ),
    Fault(
        "commands-of-a-process-carry-what-is-no-trace",
        SENDING,
        "traceparent_of(_decode_headers(message.headers))",
        '_decode_headers(message.headers).get("traceparent", "")',
        (f"{AGAIN}::test_section_5_9_a_command_of_a_process_carries_the_trace_of_its_message",),
    ),
)
