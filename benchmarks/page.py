"""`python -m benchmarks.page RESULTS`: docs/benchmarks.md, from the JSON lines of a side-by-side run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.contenders import CONTENDERS, OUR_LEVELS, OURS, OWN_LOG, POSTGRESQL, REMARKS, SQLITE, Contender
from benchmarks.environments import ROOT

DOCS = ROOT / "docs" / "benchmarks.md"
QUIET = 0.2  # cores that others may use while this is measured
DATABASES = (SQLITE, POSTGRESQL)
MISSING = "-"

INTRODUCTION = """\
The same work for all: a workflow of 4 steps, each of which returns an integer, started by a client that waits for the result. C clients
in a closed loop: each starts the next workflow when it has the result of the one before. What is confirmed is on the disk, on every side:
SQLite with `synchronous=FULL`, PostgreSQL with `fsync` and `synchronous_commit` on. Each level is a new process on empty data, beside no
other server; what ends in its warm-up, a second or the time of one answer at that level, is not counted. Everybody runs before anybody
runs again. Absolute numbers move from machine to machine; what counts is the ratio within one run.
"""
LIMITS = """\
With one client a workflow of 4 steps is five commits, one after the other: no step begins before the record of the one before is durable. Each of them
is an fsync and, on PostgreSQL, a way to the server and back; the rest is Python. With many clients they share commits, and
this program's processor is what limits: Python, for the handlers, the engine and the statements. On PostgreSQL the next turns run while a batch is on its way,
but not all of them: the rest is waiting for the server.
"""
OTHER_TARGETS = "The other targets have no peer beside them: `make bench` measures those."


class Figures(NamedTuple):
    """The medians of one level; no milliseconds where no call ended in time."""

    per_s: float
    p50_ms: float | None
    p99_ms: float | None


class Results(NamedTuple):
    """What a run has found.

    Attributes:
        rounds: how often everything was run.
        busy_cores: how many cores others used before a round; None when nobody could tell.
        gaps: why a contender has no figure, or not at every level.
        split: where our own time goes, as `benchmarks.split` says it.
        spread: the largest distance between two rounds of a level, as a part of its median.
    """

    about: dict[str, Any]
    rounds: int
    busy_cores: float | None
    spread: float
    figures: dict[tuple[str, int], Figures]
    gaps: dict[str, str]
    split: list[dict[str, Any]]

    def best(self, contenders: Iterable[Contender]) -> float | None:
        """Return the highest rate that one of them reaches at any level."""
        return max((self.figures[key].per_s for key in self._of(contenders)), default=None)

    def fastest_ms(self, contenders: Iterable[Contender]) -> float | None:
        """Return the lowest p50 that one of them has at one client."""
        found = (self.figures[key].p50_ms for key in self._of(contenders) if key[1] == 1)
        return min((p50 for p50 in found if p50), default=None)

    def _of(self, contenders: Iterable[Contender]) -> list[tuple[str, int]]:
        names = {contender.name for contender in contenders}
        return [key for key in self.figures if key[0] in names]


def read(path: Path) -> Results:
    """Read the JSON lines of a run."""
    about, *lines = (json.loads(line) for line in path.read_text().splitlines())
    levels: dict[tuple[str, int], list[Any]] = {}
    for line in lines:
        if "per_s" in line:
            levels.setdefault((line["contender"], line["clients"]), []).append(line)
    busy = [line["busy_cores"] for line in lines if line.get("busy_cores") is not None]
    return Results(
        about=about["about"],
        rounds=max((line["round"] for line in lines), default=0),
        busy_cores=median(busy) if busy else None,
        spread=max((_spread([line["per_s"] for line in level]) for level in levels.values()), default=0),
        figures={key: _medians(level) for key, level in levels.items()},
        gaps={line["contender"]: said.splitlines()[0] for line in lines if (said := line.get("skipped") or line.get("error"))},
        split=[line["split"] for line in lines if "split" in line],
    )


def written(results: Results) -> str:
    """Return the page."""
    parts = [
        "# Benchmarks",
        "This page is written by `make bench-peers`, from what it has measured.",
        *_warnings(results),
        INTRODUCTION.strip(),
        "## Workflows per second",
        _table(["", *_heads()], _rates(results)),
        f"Medians of {results.rounds} round{'s' * (results.rounds != 1)}; two rounds of a level differ by {results.spread:.0%} at most.",
        *_gaps(results),
        "## How many times as fast Perdure is",
        "Perdure's rate divided by the peer's, on the same database; for a peer with a log of its own, Perdure's on SQLite.",
        _table(["", *_heads(peers=True)], _ratios(results)),
        "## Milliseconds until the client has the result",
        _table(["p50 / p99", *_heads()[:-1]], _latencies(results)),
        "## Targets",
        _table(["what", "target", "measured", ""], _targets(results)),
        OTHER_TARGETS,
        *_where(results),
        "## Clients and settings, and what is not the same",
        "\n".join(f"- **{system}**: {remark}" for system, remark in REMARKS.items()),
        "## Machine and versions",
        _table(["", ""], _machine(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _warnings(results: Results) -> Iterator[str]:
    if results.about["short"]:
        yield "> **A trial run**: a second for each level, one round. It shows that everything works, and no more."
    if results.busy_cores is not None and results.busy_cores > QUIET:
        yield (
            f"> **Measured on a busy machine**: other programs used {results.busy_cores:.1f} of its cores. "
            "Measure again on a quiet one before you quote a number."
        )


def _gaps(results: Results) -> Iterator[str]:
    if results.gaps:
        yield "Not measured, or not at every level:\n\n" + "\n".join(f"- {name}: {why}" for name, why in sorted(results.gaps.items()))


def _heads(*, peers: bool = False) -> list[str]:
    return [*(f"C = {clients}" for clients in _levels(peers=peers)), "best"]


def _levels(*, peers: bool = False) -> list[int]:
    return [level for level in OUR_LEVELS if not peers or any(level in contender.levels for contender in _peers())]


def _rates(results: Results) -> Iterator[list[str]]:
    for contender in CONTENDERS:
        found = [results.figures.get((contender.name, clients)) for clients in _levels()]
        yield [_bold(contender), *(_number(figures and figures.per_s) for figures in found), _number(results.best([contender]))]


def _ratios(results: Results) -> Iterator[list[str]]:
    for contender in _peers():
        ours = _ours_beside(contender)
        cells = []
        for clients in _levels(peers=True):
            mine, theirs = (results.figures.get((one.name, clients)) for one in (ours, contender))
            cells.append(_times(mine and mine.per_s, theirs and theirs.per_s))
        yield [contender.name, *cells, _times(results.best([ours]), results.best([contender]))]


def _latencies(results: Results) -> Iterator[list[str]]:
    for contender in CONTENDERS:
        found = [results.figures.get((contender.name, clients)) for clients in _levels()]
        cells = [f"{_number(figures.p50_ms)} / {_number(figures.p99_ms)}" if figures else MISSING for figures in found]
        yield [_bold(contender), *cells]


def _targets(results: Results) -> Iterator[list[str]]:
    for database in DATABASES:
        ours = [_ours(database)]
        dbos = [contender for contender in _peers() if contender.system == "DBOS" and contender.backend == database]
        mine, best, theirs = results.best(ours), results.best(_peers()), results.best(dbos)
        yield [f"best rate on {database}, beside the best peer on any database", *_reached(_ratio(mine, best), 20, 50, _of_times)]
        yield [f"best rate on {database}, beside DBOS on the same database", *_reached(_ratio(mine, theirs), 50, 100, _of_times)]
        faster = _ratio(results.fastest_ms(_peers()), results.fastest_ms(ours))
        yield [f"p50 at C = 1 on {database}: how often it goes into the best peer's", *_reached(faster, 5, 5, _of_times)]
    figures = results.figures.get((_ours(SQLITE).name, 256))
    yield ["workflows per second on SQLite at C = 256", *_reached(figures and figures.per_s, 4000, 5000, _number)]


def _reached(measured: float | None, target: float, aim: float, shown: Callable[[float], str]) -> list[str]:
    wanted = f"at least {shown(target)}" + (f", aim for {shown(aim)}" if aim > target else "")
    if measured is None:
        return [wanted, MISSING, "not measured"]
    verdict = "missed" if measured < target else "met"
    return [wanted, shown(measured), verdict + (", the aim as well" if aim > target and measured >= aim else "")]


def _where(results: Results) -> Iterator[str]:
    if not results.split:
        return
    heads = [
        "microseconds of each workflow",
        "in all",
        "this program's processor",
        "the server's processor",
        "commits",
        "until one is durable",
    ]
    rows = [
        [
            f"{line['backend']}, C = {line['clients']}",
            _number(line["us_each"]),
            _number(line["cpu_us_each"]),
            _number(line["server_cpu_us_each"]) if line["server_cpu_us_each"] else MISSING,
            f"{line['commits_each']:.2f}",
            _number(line["us_of_an_answer"]),
        ]
        for line in results.split
    ]
    yield "## Where the time goes"
    yield _table(heads, rows)
    yield LIMITS.strip()


def _machine(results: Results) -> Iterator[list[str]]:
    for name in ("date", "machine", "processor", "memory", "disk"):
        yield [name, results.about[name]]
    for name, version in sorted(results.about["versions"].items(), key=lambda item: item[0].lower()):
        yield [name, version]


def _peers() -> list[Contender]:
    return [contender for contender in CONTENDERS if contender.system != OURS]


def _ours(backend: str) -> Contender:
    return next(contender for contender in CONTENDERS if contender.system == OURS and contender.backend == backend)


def _ours_beside(peer: Contender) -> Contender:
    return _ours(SQLITE if peer.backend == OWN_LOG else peer.backend)


def _medians(level: list[Any]) -> Figures:
    p50, p99 = ([line[name] / 1000 for line in level if line[name]] for name in ("p50_us", "p99_us"))
    return Figures(median(line["per_s"] for line in level), median(p50) if p50 else None, median(p99) if p99 else None)


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / (median(values) or 1)


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _times(mine: float | None, theirs: float | None) -> str:
    ratio = _ratio(mine, theirs)
    return MISSING if ratio is None else _of_times(ratio)


def _of_times(ratio: float) -> str:
    return f"{_number(ratio)} times"


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 20 or value == int(value) else f"{value:.1f}"


def _bold(contender: Contender) -> str:
    return f"**{contender.name}**" if contender.system == OURS else contender.name


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    DOCS.write_text(written(read(Path(sys.argv[1]))))
