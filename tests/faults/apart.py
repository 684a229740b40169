"""Faults in interpreters of versions' own: what is told to them, what becomes of their processes when they end, and their environments."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

APART: Final = "src/perdure/engine/apart"
LIFE: Final = "tests/engine/test_apart.py::test_the_record_of_a_life_is_that_of_shared_code"
ENDS: Final = "tests/engine/test_apart_ends.py"
CHECKED: Final = "tests/deploying/test_checking_apart.py"
MOVED: Final = "tests/engine/test_apart_moving.py"
ENVIRONMENTS: Final = "tests/engine/test_apart_environments.py"

FAULTS: Final = (
    Fault("apart-mail-is-taken-twice", f"{APART}/remote.py", "        if said.gone:\n", "        if False:\n", (LIFE,)),
    Fault(
        "apart-timer-is-not-told",
        f"{APART}/remote.py",
        "        self._rung.append(given.operation_id)\n",
        "        del given\n",
        (LIFE,),
    ),
    Fault(
        "apart-prints-into-a-socket-that-is-none",
        f"{APART}/children.py",
        "                stdout=2,\n",
        "                stdout=there.fileno(),\n",
        (LIFE,),
    ),
    Fault(
        "apart-end-loses-what-was-under-way",
        f"{APART}/deaths.py",
        "if resident.missed or not resident.quiet]",
        "if resident.missed]",
        (f"{ENDS}::test_a_step_in_the_middle_of_which_it_ends_is_run_again_and_those_recorded_are_not",),
        hangs=True,
    ),
    Fault(
        "apart-end-is-no-crash",
        f"{APART}/deaths.py",
        "process, first=True)",
        "process, first=False)",
        (f"{ENDS}::test_a_message_that_ends_it_each_time_becomes_a_dead_letter_and_is_tried_later_each_time",),
    ),
    Fault(
        "apart-suspects-wait-for-ever",
        f"{APART}/deaths.py",
        "    owner.later(owner.recovery.next_suspect)\n",
        "",
        (f"{ENDS}::test_a_message_that_ends_it_each_time_becomes_a_dead_letter_and_is_tried_later_each_time",),
    ),
    Fault(
        "apart-is-started-again-at-once",
        f"{APART}/children.py",
        "        slot.again_at = now + pause\n",
        "",
        (f"{ENDS}::test_one_that_ends_again_and_again_is_started_later_each_time",),
    ),
    Fault(
        "apart-outlives-its-engine",
        f"{APART}/child.py",
        'if sys.platform == "linux":',
        "if False:",
        (f"{ENDS}::test_it_ends_when_its_engine_is_killed_even_while_its_code_keeps_the_loop",),
        hangs=True,
    ),
    Fault(
        "apart-trial-is-never-over",
        f"{APART}/children.py",
        "            async with asyncio.timeout(limits.APART_CALL_SECONDS):\n",
        "            async with asyncio.timeout(None):\n",
        (CHECKED,),
        hangs=True,
    ),
    Fault(
        "apart-end-is-not-told-to-who-tries",
        f"{APART}/children.py",
        "                waiting.set_exception(ChildGone(reason))\n",
        "                pass\n",
        (CHECKED,),
    ),
    Fault(
        "apart-is-not-started-again-for-a-check",
        f"{APART}/trials.py",
        "        if not self._child.lives:\n",
        "        if not self._child.types:\n",
        (CHECKED,),
    ),
    Fault("apart-mail-is-not-read-as-awaited", f"{APART}/child.py", "awaited=frame.awaited)", "awaited=False)", (CHECKED,)),
    Fault("apart-any-answer-will-do", f"{APART}/trials.py", "    if isinstance(said, expected):\n", "    if True:\n", (CHECKED,)),
    Fault("apart-move-leaves-the-fields", f"{APART}/child.py", "rewrites=frame.rewrites)", "rewrites=False)", (MOVED,)),
    Fault(
        "apart-end-is-no-refusal-of-a-move",
        "src/perdure/engine/moving.py",
        "    except CodeFailed as error:\n",
        "    except KeyError as error:\n",
        (MOVED,),
    ),
    Fault(
        "apart-environment-is-used-before-it-is-whole",
        f"{APART}/environments.py",
        "        await build(made)\n        await asyncio.to_thread(place.symlink_to, made.name)\n",
        "        await asyncio.to_thread(place.symlink_to, made.name)\n        await build(made)\n",
        (f"{ENVIRONMENTS}::test_a_distribution_without_a_hash_is_refused",),
    ),
    Fault(
        "apart-environment-is-made-where-others-write",
        f"{APART}/environments.py",
        'made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{place.name}.", dir=place.parent))',
        'made = Path(f"{place}.made")',
        (f"{ENVIRONMENTS}::test_what_was_left_of_an_environment_by_somebody_who_was_killed_is_made_anew_where_nobody_writes",),
    ),
    Fault(
        "apart-hashes-are-not-required",
        f"{APART}/environments.py",
        '"--require-hashes", ',
        "",
        (f"{ENVIRONMENTS}::test_a_distribution_without_a_hash_is_refused",),
    ),
    Fault(
        "apart-needs-of-a-node",
        "src/perdure/deploying/deploy.py",
        "package.manifest.requires if shared else ()",
        "package.manifest.requires",
        ("tests/deploying/test_deploy.py::test_a_package_with_an_interpreter_of_its_own_needs_nothing_of_a_node_but_its_python",),
    ),
)
