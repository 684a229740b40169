"""The shape of the code: sizes, names, comments, docstrings, caught exceptions, and who may read a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.gate import rules, seams
from tests.gate.tree import Module, modules, parsed, texts

Rule = Callable[[Module], Iterator[str]]
TextRule = Callable[[str, str], Iterator[str]]

RULES: list[Rule] = [
    rules.file_too_long,
    rules.function_too_long,
    rules.too_many_positional,
    rules.empty_name,
    rules.left_for_later,
    rules.swallowed,
    rules.caught_without_reason,
    rules.without_docstring,
    rules.waits_skips_or_mocks,
]
TEXT_RULES: list[TextRule] = [rules.registry_host, rules.machine_path]

# Who reads a clock or randomness itself: the file, what it reads, and why no seam serves it.
SEAMS = {
    ("clock.py", "time.time_ns"): "the system's clock",
    ("clock.py", "time.monotonic_ns"): "whether the system's clock was set back",
    ("clock.py", "time.clock_gettime_ns"): "how long a lease is surely held, whatever sleeps meanwhile",
    ("identity.py", "time.time_ns"): "`ProcessId.new()` works without a store",
    ("identity.py", "os.urandom"): "the default of the seam",
    ("engine/process.py", "random.Random"): "the type of a handler's own random numbers, which are derived from its turn",
    ("engine/owner.py", "random.Random"): "jitter; it is seeded from the store's randomness before it is used",
    ("testing/backend.py", "random.Random"): "the ids of a test: seeded with a constant, so that every run has the same",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_python_file_keeps_the_rule(rule: Rule) -> None:
    findings = [finding for module in modules() for finding in rule(module)]

    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: TextRule) -> None:
    findings = [finding for path, text in texts() for finding in rule(path, text)]

    assert not findings, "\n".join(findings)


def test_nothing_is_left_for_later_outside_of_python() -> None:
    code = [(path, text) for path, text in texts() if path.endswith((".sql", ".toml", "Makefile", ".sh")) or path.startswith(".ci/")]

    assert [finding for path, text in code for finding in rules.left_for_later_in_text(path, text)] == []


def test_only_the_seams_read_a_clock_or_randomness() -> None:
    found = {
        (module.path.removeprefix("src/perdure/"), name)
        for module in modules()
        if module.area == "src"
        for _line, name in seams.reads_clock_or_random(module)
    }

    assert found == set(SEAMS), "either pass the clock or the randomness, or list the reading in SEAMS with its reason"


def test_nothing_outside_the_backends_branches_on_one() -> None:
    inside = ("src/perdure/backends/", "src/perdure/store.py")  # `open_store` picks the backend by its URL
    outside = [module for module in modules() if module.area == "src" and not module.path.startswith(inside)]

    assert [finding for module in outside for finding in seams.branches_on_backend(module)] == []


# --- the rules themselves: each finds what it is for ---------------------------------------------------

LONG = "def f():\n" + "    x = 1\n" * 70
WRONG: list[tuple[Rule, str, str]] = [
    (rules.file_too_long, "tests/test_a.py", "x = 1\n" * 400),
    (rules.file_too_long, "src/perdure/a.py", "x = 1\n" * 601),
    (rules.function_too_long, "src/perdure/a.py", LONG),
    (rules.too_many_positional, "src/perdure/a.py", "def f(a, b, c, d, e): ..."),
    (rules.too_many_positional, "src/perdure/a.py", "class A:\n    def f(self, a, b, c, d, e): ..."),
    (rules.empty_name, "src/perdure/utils.py", ""),
    (rules.empty_name, "src/perdure/common/rows.py", ""),
    (rules.left_for_later, "src/perdure/a.py", "x = 1  # TO" + "DO: more"),
    (rules.swallowed, "src/perdure/a.py", "try:\n    f()\nexcept ValueError:\n    pass"),
    (rules.swallowed, "src/perdure/a.py", "try:\n    f()\nexcept ValueError:\n    ..."),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept Exception:\n    g()"),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept Exception:  # noqa: BLE001\n    g()"),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept (OSError, BaseException):\n    g()"),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept:\n    g()"),
    (rules.without_docstring, "src/perdure/a.py", "x = 1"),
    (rules.without_docstring, "src/perdure/a.py", '"""A."""\nclass A: ...'),
    (rules.without_docstring, "src/perdure/a.py", '"""A."""\nclass A:\n    """A."""\n    async def f(self): ...'),
    (rules.waits_skips_or_mocks, "tests/test_a.py", "import time\ntime.sleep(1)"),
    (rules.waits_skips_or_mocks, "tests/test_a.py", "from time import sleep as s"),
    (rules.waits_skips_or_mocks, "tests/test_a.py", "import pytest\n@pytest.mark.skipif(True)\ndef test(): ..."),
    (rules.waits_skips_or_mocks, "tests/test_a.py", "import pytest\npytest.skip('x')"),
    (rules.waits_skips_or_mocks, "tests/test_a.py", "from unittest import mock"),
    (seams.branches_on_backend, "src/perdure/a.py", "if scheme == 'sqlite': f()"),
    (seams.branches_on_backend, "src/perdure/a.py", "x = 1 if isinstance(b, SqliteBackend) else 2"),
    (seams.branches_on_backend, "src/perdure/a.py", "match scheme:\n    case 'postgresql': f()"),
]
RIGHT: list[tuple[Rule, str, str]] = [
    (rules.too_many_positional, "src/perdure/a.py", "class A:\n    def f(self, a, b, c, d, *, e, f): ..."),
    (rules.left_for_later, "src/perdure/a.py", "x = 'TO" + "DO'"),
    (rules.swallowed, "src/perdure/a.py", "try:\n    f()\nexcept ValueError:\n    x = 1"),
    (
        rules.caught_without_reason,
        "src/perdure/a.py",
        "try:\n    f()\nexcept Exception:  # noqa: BLE001  # callers must hear of it\n    g()",
    ),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept Exception:\n    # Others have to hear of theirs.\n    log()"),
    (rules.caught_without_reason, "src/perdure/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (rules.without_docstring, "src/perdure/a.py", '"""A."""\nclass _A:\n    def f(self): ...'),
    (rules.waits_skips_or_mocks, "src/perdure/a.py", "import time\ntime.sleep(1)"),
    (seams.branches_on_backend, "src/perdure/a.py", "if backend.absent: f('sqlite')"),
]


@pytest.mark.parametrize(("rule", "path", "text"), WRONG)
def test_a_rule_finds_what_breaks_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(parsed(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), RIGHT)
def test_a_rule_lets_pass_what_keeps_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(parsed(path, text))) == []


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("import time\ntime.monotonic()", "time.monotonic"),
        ("import time as t\nclock = t.perf_counter_ns", "time.perf_counter_ns"),
        ("from time import time\ntime()", "time.time"),
        ("import datetime as dt\ndt.datetime.now(dt.UTC)", "datetime.datetime.now"),
        ("from datetime import datetime\ndatetime.utcnow()", "datetime.datetime.utcnow"),
        ("import random\nrandom.random()", "random.random"),
        ("import random\nrandom.Random()", "random.Random"),
        ("from random import choice\nchoice([1])", "random.choice"),
        ("import os\nos.urandom(8)", "os.urandom"),
        ("from uuid import uuid4\nuuid4()", "uuid.uuid4"),
        ("import secrets\nsecrets.token_hex()", "secrets.token_hex"),
    ],
)
def test_a_reading_of_time_or_randomness_is_found_under_any_name(text: str, reading: str) -> None:
    assert [name for _line, name in seams.reads_clock_or_random(parsed("src/perdure/a.py", text))] == [reading]


def test_a_generator_with_a_seed_of_ours_is_no_randomness() -> None:
    assert list(seams.reads_clock_or_random(parsed("src/perdure/a.py", "import random\nrandom.Random(7).random()"))) == []


@pytest.mark.parametrize("path", ["/wo" + "rk/main", "sqlite:////ho" + "me/me/a.db", "C:\\Us" + "ers\\me"])
def test_a_path_of_one_machine_is_found(path: str) -> None:
    assert list(rules.machine_path("README.md", f"see {path}"))


@pytest.mark.parametrize("path", ["examples/work/data", "https://example.com/home/page", "~/work/x", "./tmp/x", "/work/"])
def test_other_paths_are_let_pass(path: str) -> None:
    assert list(rules.machine_path("README.md", f"see {path}")) == []


def test_a_registry_host_is_found() -> None:
    assert list(rules.registry_host("README.md", "https://files.python" + "hosted.org/x"))
