"""`perdure store`: a store as a whole."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli.shared import AS_JSON, FOUND_SOMETHING, plain, print_answer, print_json, print_pairs, print_table, run, visible, when

if TYPE_CHECKING:
    from perdure.core.transfer import Moved
    from perdure.store import Store

_AGE_DIGITS: Final = 5
_TOLD_ROWS: Final = 100_000
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.group()
def store() -> None:
    """A store as a whole."""


@store.command()
@click.argument("url")
@AS_JSON
def info(url: str, *, as_json: bool) -> None:
    """Show what a store holds, and how large it is."""
    found = run(url, lambda opened: opened.info())
    if as_json:
        print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("place", found.place),
        ("engine", found.engine),
        ("format", found.format),
        ("migrations", ", ".join(found.migrations)),
        ("waiting migrations", ", ".join(found.waiting) or "none"),
        ("shards", found.shards),
        ("open writers", found.writers),
        ("size", f"{found.data_bytes:,} bytes, and {found.log_bytes:,} in the log"),
    ]
    print_pairs(pairs)
    click.echo()
    print_table(("table", "rows"), [(table, f"{count:,}") for table, count in found.rows.items()], empty="no tables")


@store.command()
@click.argument("url")
@AS_JSON
def verify(url: str, *, as_json: bool) -> None:
    """Check a store against itself. Exit status 4 if something does not fit."""
    from perdure.engine import verification  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, verification.verify)
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        print_table(("tenant", "what", "detail"), found, empty="ok: everything fits")
    if found:
        raise click.exceptions.Exit(FOUND_SOMETHING)


@store.command()
@click.argument("url")
@click.argument("target", type=click.Path(dir_okay=False))
@AS_JSON
def backup(url: str, target: str, *, as_json: bool) -> None:
    """Copy a store into the new SQLite file TARGET, while it is in use."""
    run(url, lambda opened: opened.backup(target))
    print_answer({"target": target}, f"copied to {target}", as_json=as_json)


@store.command()
@click.argument("source")
@click.argument("target")
@AS_JSON
def copy(source: str, target: str, *, as_json: bool) -> None:
    """Copy the store at the URL SOURCE into a new one at the URL TARGET, and compare them.

    No engine may run on either of them. When it is stopped in the middle, run it again: it goes on where it was.
    """
    from perdure.copying import copy_store  # noqa: PLC0415  # see `cli/__init__.py`

    found = asyncio.run(copy_store(source, target, progress=_Told()))
    if as_json:
        print_json({table: digest._asdict() for table, digest in found.items()})
    else:
        print_table(("table", "rows", "sha256"), [(table, f"{rows:,}", sha256) for table, (rows, sha256) in found.items()], empty="nothing")


class _Told:
    """Tells on stderr how far a copy is: the first chunk of each table, then a line for every so many rows."""

    def __init__(self) -> None:
        self._told = ("", 0)

    def __call__(self, moved: Moved) -> None:
        table, rows = self._told
        if moved.what == "verified":
            click.echo(f"{moved.table}: {moved.rows:,} rows, the same in both", err=True)
        elif moved.table != table or moved.rows >= rows + _TOLD_ROWS:
            self._told = (moved.table, moved.rows)
            click.echo(f"{moved.table}: {moved.rows:,} rows copied", err=True)


def age(text: str) -> timedelta:
    """Return the duration that 90s, 15m, 12h or 30d says."""
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdecimal() or len(number) > _AGE_DIGITS:
        raise click.BadParameter(f"{text!r}: expected a number of up to {_AGE_DIGITS} digits and s, m, h or d, such as 30d")
    return timedelta(**{unit: int(number)})


@store.command()
@click.argument("url")
@click.option("--turns", type=age, metavar="AGE", help="Age of the events of finished turns; that of messages if only that is given.")
@click.option("--messages", type=age, metavar="AGE", help="Age of messages that are done, with their replies.")
@click.option("--processes", "finished_processes", type=age, metavar="AGE", help="Age of processes that have ended or failed.")
@click.option("--commands", type=age, metavar="AGE", help="Age of commands that are over, with all that is kept of them.")
@click.option(
    "--tombstones", type=age, metavar="AGE", default="90d", show_default=True, help="How long the ids of what is removed are refused."
)
@click.option("--archive", "folder", type=click.Path(file_okay=False), help="Where events are written to before they are removed.")
@AS_JSON
def sweep(url: str, *, as_json: bool, folder: str | None, **ages: Any) -> None:
    """Remove what is over and old enough. For a store that no engine runs; what has no age (90s, 15m, 12h, 30d) is kept."""
    from perdure.engine import sweeper  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.engine.archive import Folder  # noqa: PLC0415
    from perdure.engine.retention import Retention  # noqa: PLC0415

    retention = Retention(**ages)

    async def work(opened: Store) -> Any:
        return await sweeper.sweep(opened, retention, archive=None if folder is None else Folder(folder, opened.access.clock.now))

    swept = plain(run(url, work))
    if as_json:
        print_json(swept)
    else:
        print_table(("what", "removed"), [(what, f"{count:,}") for what, count in swept.items()], empty="nothing")


@store.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--tenant", help="Only of this tenant.")
@click.option("--process", "process_id", help="Only of this process.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on each line.")
def archive(folder: str, *, tenant: str | None, process_id: str | None, as_json: bool) -> None:
    """Show the events that sweeps have written to FOLDER. One that was written twice is shown once."""
    from perdure.engine.archive import read_archive  # noqa: PLC0415  # see `cli/__init__.py`

    for record in read_archive(folder, tenant=tenant, process_id=process_id):
        if as_json:
            click.echo(json.dumps(plain(record), ensure_ascii=False))
            continue
        whose = f"{record.tenant_id}  {record.process_id}"
        for event in record.events:
            values = json.dumps(event.values, ensure_ascii=False)
            click.echo(visible(f"{whose}  {event.seq}  {when(event.at)}  {event.event}  {values}"))
        if record.status:
            click.echo(visible(f"{whose}  {record.status}  {record.fields or ''}"))
