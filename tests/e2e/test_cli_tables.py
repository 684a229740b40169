"""Tables on a narrow terminal: what people copy stays whole."""

from __future__ import annotations

import io
import sys

import pytest

from perdure.cli.shared import FOLDED, WHOLE, print_table

ID = "01a21881-6384-7348-ad42-514f03c26ef4"
AT = "2026-11-26T15:37:50.464Z"
NOTE = "the books of the shop are not closed, and will not be before tomorrow"


class Out(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Out:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return Out(terminal=request.param)


def printed(out: Out, columns: tuple[str, ...], row: tuple[str, ...]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        print_table(columns, [row], empty="")
    return out.getvalue()


def test_ids_and_times_are_never_folded(out: Out) -> None:
    long_id = "i" * WHOLE

    text = printed(out, ("process", "also", "at", "note"), (ID, long_id, AT, NOTE))

    assert ID in text
    assert long_id in text
    assert AT in text


def test_nothing_of_a_folded_text_is_lost(out: Out) -> None:
    endless = "x" * (3 * WHOLE)

    text = printed(out, ("process", "note", "more"), (ID, NOTE, endless))

    assert text.count("x") == len(endless)
    assert all(word in text for word in NOTE.split())
    assert len(NOTE) > FOLDED


def test_a_terminal_is_not_shown_empty_columns(out: Out) -> None:
    text = printed(out, ("process", "source"), (ID, ""))

    assert ("source" in text) is not out.terminal
