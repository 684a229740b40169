"""Faults in trying new code on what is stored, and in reading what older code wrote."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure"
CHECK: Final = f"{HERE}/deploying/checking.py"
EARLIER: Final = f"{HERE}/deploying/earlier.py"
WAITING: Final = f"{HERE}/deploying/waiting.py"
REPORT: Final = f"{HERE}/deploying/findings.py"
TRYING: Final = f"{HERE}/engine/trying.py"
UPCASTING: Final = f"{HERE}/engine/upcasting.py"
EDITS: Final = ("tests/deploying/test_checking.py",)
APART: Final = ("tests/deploying/test_checking_apart.py",)
WAITS: Final = ("tests/deploying/test_waiting.py",)
OLD: Final = ("tests/engine/test_upcasting.py",)
CLI: Final = ("tests/e2e/test_cli_checking.py",)
FIELDS: Final = ("tests/testing/test_replay.py::test_a_durable_field_comes_and_goes_while_a_turn_is_open",)

FAULTS: Final = (
    # --- processes ---------------------------------------------------------------------------------------
    Fault(
        "check-leaves-out-what-is-on-a-version", CHECK, "and self._wanted(row.process_type):\n", "and row.package_hash is None:\n", EDITS
    ),
    Fault("check-takes-every-process-for-its-own", CHECK, "await self._earlier.is_of_candidate(*process.of)\n", "True\n", EDITS),
    Fault(
        "check-overlooks-types-that-are-gone",
        CHECK,
        "        if kinds is None:\n            self._add(",
        "        if kinds is None:\n            0 and self._add(",
        EDITS,
    ),
    Fault("check-takes-finished-turns-for-open-ones", CHECK, "            breaks=turn.open,\n", "            breaks=True,\n", EDITS),
    Fault(
        "check-overlooks-turns-that-raise",
        CHECK,
        "exported.status == ProcessStatus.WAITING\n",
        "exported.status == ProcessStatus.ENDED\n",
        EDITS,
    ),
    Fault("check-reads-no-fields", TRYING, "        made.load(fields)\n", "        made.load(None)\n", EDITS),
    Fault("check-stops-at-code-that-fails", CHECK, "except CodeFailed as error:  # how", "except KeyError as error:  # how", APART),
    Fault("check-reads-no-mail", CHECK, "in mail_of(self._store, *process.place):\n", 'in mail_of(self._store, "", ""):\n', EDITS),
    Fault("check-forgets-who-was-busy", CHECK, "                self._found.busy(process_id)\n", "", WAITS),
    Fault(
        "check-stops-at-a-corrupt-record",
        CHECK,
        "            except _CORRUPT as error:\n",
        "            except KeyError as error:\n",
        WAITS,
    ),
    Fault("check-samples-over-all-types", CHECK, "chosen.setdefault(process.row.process_type, [])\n", 'chosen.setdefault("", [])\n', EDITS),
    Fault("check-tells-every-finding", REPORT, "][: limits.CHECK_FINDINGS_MAX],\n", "],\n", EDITS),
    # --- what waits --------------------------------------------------------------------------------------
    Fault("check-overlooks-parked-for-keys", WAITING, "        if key.parked:\n", "        if False:\n", WAITS),
    Fault(
        "check-overlooks-parked-for-tags", WAITING, "in _pages(store, PARKED, parts[:2]):\n", 'in _pages(store, PARKED, ("", "")):\n', WAITS
    ),
    Fault("check-overlooks-schedules", WAITING, "(_parked, _delayed, _fanned_out, _scheduled)", "(_parked, _delayed, _fanned_out)", WAITS),
    Fault("check-overlooks-delayed", WAITING, "(_parked, _delayed, _fanned_out, _scheduled)", "(_parked, _fanned_out, _scheduled)", WAITS),
    Fault("check-overlooks-fan-outs", WAITING, "(_parked, _delayed, _fanned_out, _scheduled)", "(_parked, _delayed, _scheduled)", WAITS),
    Fault("check-forgets-which-type-is-started", WAITING, "address_of(row).process_type", '""', WAITS),
    Fault("check-reads-all-that-waits-for-a-sample", CHECK, "seen[message.what] > self._sample:\n", "seen[message.what] < 0:\n", WAITS),
    # --- earlier versions --------------------------------------------------------------------------------
    Fault("check-compares-no-replies", EARLIER, "    if old.result is not None and new.result is not None:\n", "    if False:\n", EDITS),
    Fault("check-overlooks-kinds-that-are-gone", EARLIER, "            if message.kind not in kinds:\n", "            if False:\n", EDITS),
    Fault("check-looks-at-no-routes", EARLIER, "                await self.read(rule.content_hash)\n", "                pass\n", EDITS),
    Fault(
        "check-uses-no-upcasters",
        EARLIER,
        "        while error is not None and writer in leads.to:\n",
        "        while False:\n",
        EDITS,
    ),
    # --- trying ------------------------------------------------------------------------------------------
    Fault("trial-names-the-step-behind", TRYING, "    if turn.done and left:\n", "    if left:\n", EDITS),
    Fault(
        "trial-lets-errors-of-fields-out",
        TRYING,
        "    except PerdureError as error:\n        raise _Differs(",
        "    except KeyError as error:\n        raise _Differs(",
        EDITS,
    ),
    Fault("trial-sees-no-path", TRYING, '    return "$" if found is None else found[1]\n', '    return "$"\n', EDITS),
    # --- older types -------------------------------------------------------------------------------------
    Fault("fields-are-compared-as-stored", f"{HERE}/engine/replay.py", " and fields != self.rewrite(saved):\n", ":\n", FIELDS),
    Fault("upcaster-not-for-fields", f"{HERE}/engine/app.py", "self._upcasting.decoder(self.base)", "JSON.decoder(self.base)", OLD),
    Fault("upcaster-not-for-outputs", f"{HERE}/engine/app.py", "StepFunctions(self._upcasting.decoder)", "StepFunctions()", OLD),
    Fault(
        "upcaster-not-for-receive",
        f"{HERE}/engine/app.py",
        "turn.decoder, turn.replay.rewrite = self._upcasting.decoder, self",
        "turn.replay.rewrite = self",
        OLD,
    ),
    Fault("upcaster-reads-the-newer-type-first", UPCASTING, "            if exact or not strictly:\n", "            if True:\n", OLD),
    Fault("upcaster-does-one-step-only", UPCASTING, "            paths.extend(found)\n", "", OLD),
    Fault(
        "upcaster-knows-one-name-only",
        UPCASTING,
        "            yield renamed(ref, documents, name)\n",
        "            yield ref, documents\n",
        OLD,
    ),
    Fault("upcaster-runs-in-circles", UPCASTING, "        if new is old or any(", "        if new is old and any(", OLD),
    # --- the command line --------------------------------------------------------------------------------
    Fault("check-always-ends-well", f"{HERE}/cli/checking.py", "        raise click.exceptions.Exit(BREAKS)\n", "        pass\n", CLI),
    Fault("check-trusts-anybody", f"{HERE}/cli/checking.py", "read_package(file), trust_in(keys)", "read_package(file), None", CLI),
)
