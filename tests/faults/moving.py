"""Faults in moving processes to other versions."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure"
MOVING: Final = f"{HERE}/engine/moving.py"
TRYING: Final = f"{HERE}/engine/trying.py"
MANY: Final = f"{HERE}/deploying/moving.py"
STRANDED: Final = f"{HERE}/engine/stranded.py"
LEAVING: Final = f"{HERE}/engine/leaving.py"
ONE: Final = ("tests/engine/test_moving.py",)
MEANWHILE: Final = ("tests/engine/test_moving_meanwhile.py",)
CLI: Final = ("tests/e2e/test_cli_moving.py",)

FAULTS: Final = (
    Fault("move-looks-at-no-verdict", MOVING, '        if turn.verdict != "compatible":\n', "        if False:\n", ONE),
    Fault("move-lets-waiting-turns-raise", MOVING, "        if turn.raises and exported", "        if False and exported", ONE),
    Fault(
        "move-tries-the-fields-as-they-were",
        TRYING,
        "    return msgspec.structs.replace(exported, found=found, saved=saved)\n",
        "    return msgspec.structs.replace(exported, found=None, saved=None)\n",
        ONE,
    ),
    Fault("move-leaves-the-fields", MOVING, "            view.update(fields, self.fields)\n", "            pass\n", ONE),
    Fault(
        "move-forgets-what-was-found",
        TRYING,
        "(made.save(made.load(fields)) for fields in (exported.found, exported.saved))\n",
        "(exported.found, made.save(made.load(exported.saved)))\n",
        ONE,
    ),
    Fault("move-pins-nothing", MOVING, "            hold(view, self.package)\n", "            pass\n", MEANWHILE),
    Fault("move-leaves-old-identities", MOVING, "        self._name_again(view, moved)\n", "", ONE),
    Fault("move-leaves-old-identities-of-tags", MOVING, ", (TAGS_OF, _tag_again)", "", ONE),
    Fault(
        "move-overlooks-changes",
        MOVING,
        "        if (process, view.get(fields)) != (self.seen, self.state):\n",
        "        if False:\n",
        MEANWHILE,
    ),
    Fault(
        "move-leaves-it-in-memory", MOVING, "        handling.notes.append(Dropped(", "        0 and handling.notes.append(Dropped(", ONE
    ),
    Fault("move-lets-stuck-ones-be", MOVING, 'status=ProcessStatus.RUNNABLE, note=""))', 'note=""))', ONE),
    Fault("move-wakes-paused-ones", MOVING, "in (ProcessStatus.PAUSED, ProcessStatus.FAILED)", "in (ProcessStatus.FAILED,)", ONE),
    Fault("move-wakes-failed-ones", MOVING, "in (ProcessStatus.PAUSED, ProcessStatus.FAILED)", "in (ProcessStatus.PAUSED,)", ONE),
    Fault("move-begins-nothing-that-waited", MOVING, "            handling.start_next(self.key)\n", "            pass\n", ONE, hangs=True),
    Fault(
        "move-leaves-waiting-mail-of-other-nodes",
        MOVING,
        "            handling.leave_to_owner(self.key)\n",
        "            pass\n",
        MEANWHILE,
        hangs=True,
    ),
    Fault("move-records-before-the-first-turn", MOVING, "        if process.head:\n", "        if True:\n", ONE),
    Fault("move-tears-steps-out", MOVING, "    if under_way:\n", "    if False:\n", MEANWHILE),
    Fault("move-waits-for-steps-that-are-over", MOVING, "            under_way.pop(event.name, None)\n", "            pass\n", MEANWHILE),
    Fault("move-moves-what-has-ended", MOVING, "            if seen.status == ProcessStatus.ENDED:\n", "            if False:\n", ONE),
    Fault(
        "begins-on-an-engine-that-stops",
        "src/perdure/engine/reviving.py",
        "        if not self._owner.is_open:  # it is runnable",
        "        if False:  # it is runnable",
        MEANWHILE,
    ),
    Fault("stuck-on-code-that-it-left", LEAVING, "(self.ref, self.package):\n", "(self.ref, process.package_hash):\n", MEANWHILE),
    Fault("stranded-on-a-version-that-it-left", LEAVING, "process.package_hash != self.package:\n", "False:\n", MEANWHILE),
    Fault(
        "event-of-a-move-is-an-input",
        f"{HERE}/conversations/events.py",
        "ProcessingFinished, ProcessMoved)\n",
        "ProcessingFinished)\n",
        ONE,
    ),
    # --- many --------------------------------------------------------------------------------------------
    Fault("move-all-moves-other-types", MANY, "                if row.process_type == process_type:\n", "                if True:\n", CLI),
    Fault("move-all-stops-at-a-refusal", MANY, "        except _REFUSED as refused:\n", "        except KeyError as refused:\n", CLI),
    Fault("move-all-takes-any-tenant", MANY, "                    and tenant in {None, key.parts[0]}\n", "", CLI),
    Fault(
        "move-all-takes-local-for-all", MANY, "                    and not (origin == LOCAL and row.package_hash is not None)\n", "", CLI
    ),
    Fault(
        "move-all-sees-one-page", MANY, "            after = index.order_of(rows[-1][0].parts, rows[-1][1])\n", "            break\n", CLI
    ),
    Fault("dry-run-moves", MOVING, "                if not dry_run:\n", "                if True:\n", CLI),
    Fault("move-all-always-ends-well", f"{HERE}/cli/moving.py", "        raise click.exceptions.Exit(REFUSED)\n", "        pass\n", CLI),
    Fault("move-trusts-anybody", f"{HERE}/cli/moving.py", "trust=trust_in(trusted_keys)", "trust=None", CLI),
)
