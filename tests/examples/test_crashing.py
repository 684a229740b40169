"""What the tests of examples compare: that they see what goes wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from perdure import App, Process
from perdure.testing import EffectLedger, VirtualEngine
from tests.examples import crashing

README = """\
# An example

| `nothing` | of this table |

## At least once

| step | what a repetition does |
|---|---|
| `charge` | the bank knows the key |
| `mail` | the customer gets it twice: `mail` has no keys |

## Files

| `main.py` | the program |
"""


class Bank:
    """An app of two steps, and its ledger."""

    def __init__(self) -> None:
        self.ledger = ledger = EffectLedger()
        self.app = app = App("bank")

        async def charge() -> None:
            ledger.note("charge")

        async def mail() -> None:
            ledger.note("mail")

        @app.process
        async def pay(p: Process) -> None:
            await p.step(charge)
            await p.step(mail)

        self.pay = pay

    async def scenario(self, engine: VirtualEngine) -> None:
        await engine.call(self.pay, id="p")


async def test_a_program_that_is_what_it_says_passes() -> None:
    bank = Bank()

    report = await crashing.survives(bank.app, bank.scenario, ledger=bank.ledger, windows={"charge", "mail"})

    assert len(report.runs) == 2 * report.commits


@pytest.mark.parametrize(
    ("windows", "text"),
    [({"charge"}, "not listed: step 'mail'"), ({"charge", "mail", "refund"}, "no crash brought it about: step 'refund'")],
)
async def test_a_window_that_is_not_listed_and_one_that_cannot_occur_fail(windows: set[str], text: str) -> None:
    bank = Bank()

    with pytest.raises(AssertionError, match=text):
        await crashing.survives(bank.app, bank.scenario, ledger=bank.ledger, windows=windows)


async def test_effects_in_another_order_after_a_crash_fail_unless_steps_run_side_by_side() -> None:
    bank, runs = Bank(), 0
    effects = bank.ledger.effects

    async def scenario(engine: VirtualEngine) -> None:
        nonlocal runs
        await bank.scenario(engine)
        runs += 1
        if runs > 1:
            effects.reverse()

    await crashing.survives(bank.app, scenario, ledger=bank.ledger, windows={"charge", "mail"}, in_order=False)
    runs = 0
    with pytest.raises(AssertionError, match="another order"):
        await crashing.survives(bank.app, scenario, ledger=bank.ledger, windows={"charge", "mail"})


async def test_a_ledger_that_nobody_writes_to_fails() -> None:
    bank = Bank()

    with pytest.raises(AssertionError, match="note nothing in this ledger"):
        await crashing.survives(bank.app, bank.scenario, ledger=EffectLedger(), windows=set())


async def test_a_handler_that_says_something_else_when_its_record_is_replayed_fails() -> None:
    bank, numbers = Bank(), itertools.count()

    @bank.app.process
    async def draw(p: Process) -> int:
        return next(numbers)

    async def scenario(engine: VirtualEngine) -> None:
        await bank.scenario(engine)
        await engine.call(draw, id="d")

    with pytest.raises(AssertionError, match=r"draw .* compatible: replies 1, the record says 0"):
        await crashing.survives(bank.app, scenario, ledger=bank.ledger, windows={"charge", "mail"})


def test_the_windows_of_a_readme_are_the_first_column_of_their_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashing, "EXAMPLES", tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "README.md").write_text(README)

    assert crashing.admitted("one") == {"charge", "mail"}
    (tmp_path / "one" / "README.md").write_text("# An example\n")
    with pytest.raises(AssertionError, match="has no section"):
        crashing.admitted("one")
