"""`perdure package check` and `perdure check-upgrade`: what is stored, against code that does not run yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli.shared import AS_JSON, OF_STORE, named, print_json, print_table, run, short, trust_in, with_options

if TYPE_CHECKING:
    from perdure.deploying.candidates import Candidate
    from perdure.deploying.findings import CheckReport, Finding, Progress
    from perdure.store import Store

    _Opens = Callable[[Store], AbstractAsyncContextManager[Candidate]]

BREAKS: Final = 1
_TOLD: Final = 10_000  # processes between two lines

_options: Final = with_options(
    OF_STORE,
    click.option("--type", "types", multiple=True, metavar="TYPE", help="Look at this process type only; may be repeated."),
    click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Look at N processes of each type only."),
    click.option("--key", "keys", multiple=True, metavar="HEX", help="A public key that has to have signed the package; one of several."),
    AS_JSON,
)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@_options
def check(file: Path, **options: Any) -> None:
    """Try the package FILE on all that is stored: open turns are replayed, and what waits is read; no step runs, nothing is written.

    Ends with 0 when the package can go on with everything, with 1 when something would break. FILE is imported: check who has signed it
    with --key.
    """
    _check(_packaged(file, options["keys"]), **options)


@click.command("check-upgrade")
@click.option("--app", "app_name", metavar="MODULE:NAME", help="Where the app is, such as shop.main:app.")
@click.option("--package", "file", type=_FILE, metavar="FILE", help="The package, instead of an app.")
@_options
def check_upgrade(app_name: str | None, file: Path | None, **options: Any) -> None:
    """Try new code on all that is stored, before it is deployed: for CI.

    Ends with 0 when the code can go on with everything, with 1 when stored data or open processes would break, with 2 when it was called
    in a wrong way.
    """
    if (app_name is None) == (file is None):
        raise click.UsageError("give either --app MODULE:NAME or --package FILE")
    if app_name is not None and options["keys"]:
        raise click.UsageError("--key is for a package")
    _check(_local(app_name or "") if file is None else _packaged(file, options["keys"]), **options)


def _local(name: str) -> _Opens:
    from perdure.deploying.candidates import candidate_of_app  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.engine.app import App  # noqa: PLC0415

    candidate = candidate_of_app(named(name, App, what="--app"))
    return lambda _: nullcontext(candidate)


def _packaged(file: Path, keys: tuple[str, ...]) -> _Opens:
    from perdure.deploying.candidates import candidate_of_archive  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.deploying.files import read_package  # noqa: PLC0415

    archive, trust = read_package(file), trust_in(keys)
    return lambda store: candidate_of_archive(archive, store, trust=trust)


def _check(
    opens: _Opens,
    *,
    url: str,
    types: tuple[str, ...],
    sample: int | None,
    as_json: bool,
    keys: tuple[str, ...],
) -> None:
    from perdure.deploying.checking import check as checked  # noqa: PLC0415  # see `cli/__init__.py`

    del keys  # they were looked at when the package was opened

    async def work(store: Store) -> CheckReport:
        async with opens(store) as candidate:
            with _telling() as progress:
                return await checked(store, candidate, types=types or None, sample=sample, progress=progress)

    report = run(url, work)
    if as_json:
        print_json({"ok": report.ok, **_plain(report)})
    else:
        _print(report)
    if not report.ok:
        raise click.exceptions.Exit(BREAKS)


@contextmanager
def _telling() -> Iterator[Callable[[Progress], None]]:
    """Tell on stderr how far it is: a bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _tell
        return
    from rich.console import Console  # noqa: PLC0415  # see `cli/__init__.py`
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("processes", total=None)
        yield lambda progress: bar.update(task, completed=progress.done, total=progress.total)


def _tell(progress: Progress) -> None:
    if progress.done % _TOLD == 0:
        click.echo(f"{progress.done:,} of {progress.total:,} processes; {progress.breaking:,} found that would break", err=True)


def _plain(report: CheckReport) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415  # see `cli/__init__.py`

    return {
        **msgspec.structs.asdict(report),
        "findings": [{**msgspec.structs.asdict(finding), "result": finding.result} for finding in report.findings],
    }


def _print(report: CheckReport) -> None:
    rows = [
        (
            one.process_type,
            short(one.version),
            *map("{:,}".format, (one.processes, one.checked, one.open_turns, one.finished_turns, one.breaking)),
        )
        for one in report.types
    ]
    columns = ("type", "version", "open", "checked", "open turns", "finished turns", "breaking")
    print_table(columns, rows, empty=f"{report.candidate}: no open processes")
    for title, findings in (
        ("breaks", [one for one in report.findings if one.breaks]),
        ("note", [one for one in report.findings if not one.breaks]),
    ):
        if findings:
            click.echo()
            print_table((title, "type", "version", "message", "result", "why"), [_row(one) for one in findings], empty="")
    click.echo()
    hidden = report.breaking + report.notes - len(report.findings)
    if hidden:
        click.echo(f"… and {hidden:,} more")
    for missing in report.missing:
        click.echo(f"version {missing} is not stored, or cannot be read: its schemas were not compared", err=True)
    for process_id in report.not_checked:
        click.echo(f"process {process_id} changed at every look, and was not checked: try again", err=True)
    click.echo(f"{report.candidate}: " + ("compatible" if report.ok else f"not compatible; {report.breaking:,} found that would break"))


def _row(finding: Finding) -> tuple[object, ...]:
    where = finding.process_id or finding.what
    return where, finding.process_type, short(finding.version), finding.message or finding.kind, finding.result, finding.text
