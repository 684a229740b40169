"""Programs of which every disturbance is tried, one after another; what random ones have found; and what they rely on."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from perdure.testing import Crash
from tests.stores import KINDS, store_url
from tests.testing import model, parts
from tests.testing.cases import Case, apart
from tests.testing.parts import (
    Arrival,
    Ask,
    Awake,
    Call,
    Chance,
    Claim,
    First,
    Hear,
    InTime,
    Outside,
    Patch,
    Program,
    Send,
    Sequence,
    Sleep,
    Spawn,
    Step,
    Together,
    Until,
)
from tests.testing.play import compare, play
from tests.testing.restless import Disturbance

PROBED = Step("probed", plain=False, works_at=1, attempts=1, retry=700, rounds=0)
STEP = Step("usual", plain=False, works_at=1, attempts=1, retry=700, rounds=0)


SLEEP = Sleep(2, plainly=True)
SEND = Send("", everybody=True, after=None)
HEARS = Together((Hear(0, (3, 3), "runner", frees=True), Hear(0, (3, 3), "runner", frees=True), Hear(0, (5,), "key", frees=True)), "group")
ENDS = Until((InTime(Awake(0, 9), 4), Call(Sequence((STEP, SLEEP))), First((SLEEP, Hear(0, (9,), "tag", frees=True)))), 3)
EVERYTHING = Sequence(
    (Patch(), SEND, HEARS, Chance(), Claim(0), Ask(""), Spawn(Sequence((SLEEP, SEND)), detached=False), PROBED, ENDS, SEND)
)
WORDS = (*(Arrival(slot, at, None) for slot in range(3) for at in (0, 4, 6, 8)), Arrival(3, 35, None))
CHOSEN = apart(
    Case(Program(EVERYTHING, fails=False, cleans="sleeps"), Outside(words=WORDS, completions={0: 30}, frees={0: 10}), luck=(0, 1))
)


async def test_a_program_with_everything_may_crash_at_any_commit() -> None:
    _, played = await play(CHOSEN)

    for commit in range(1, played.commits + 1):
        for lost in (True, False):
            await compare(msgspec.structs.replace(CHOSEN, crashes=(Crash(commit, lost),), narrow=commit % 2 == 0))


async def test_a_program_with_everything_may_be_asked_to_stop_at_any_round() -> None:
    _, played = await play(CHOSEN)

    for rounds in range(1, played.engine.rounds_in_all):
        await compare(msgspec.structs.replace(CHOSEN, cancel=rounds, narrow=rounds % 2 == 0))


async def test_a_probe_that_ends_while_a_key_is_asked_for_leaves_a_record_that_fits() -> None:
    binds = Sequence((STEP, Claim(0), Send("told", everybody=False, after=None)))
    crashes = (Crash(2, lost=False), Crash(2, lost=False))

    await compare(Case(Program(Together((PROBED, binds), "gather"), fails=False, cleans="raises"), crashes=crashes))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_case_goes_the_same_way_each_time(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    part = Together((PROBED, Sleep(700, plainly=False), Hear(0, (2_100,), "tag", frees=True), Step("usual", True, 3, 3, 700, 2)), "group")
    case = Case(
        Program(part, fails=False, cleans="raises"),
        Outside(words=(Arrival(0, 1_401, None),), pause=(704, 1_405)),
        crashes=(Crash(7, lost=True),),
        disturbances=(Disturbance(20, "evict"), Disturbance(9, "close"), Disturbance(30, "hold all"), Disturbance(9, "kill")),
        narrow=True,
    )

    ways = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        found, played = await play(case, store_url(request, kind, tmp_path / str(number)))
        ways.append((found, played.engine.rounds_in_all, played.commits))

    assert ways[1:] == ways[:-1]


def test_the_model_knows_nothing_of_the_engine() -> None:
    for module in (model, parts):
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}

        assert not {name for name in imported if "perdure" in name}
