"""The command line: looking into a store, and the few things that people do to it.

Tables are for people, `--json` is for programs. Errors go to stderr with their code; the exit status says their kind:
1 refused or not found, 2 wrong usage, 3 the store, 4 `verify` found something.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from perdure.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
FOUND_SOMETHING: Final = 4
_PAGE: Final = 100


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure")
def cli() -> None:
    """Durable, message-driven processes on your own database."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    from perdure.errors import PerdureError  # noqa: PLC0415  # `--help` needs nothing of the rest

    try:
        status = cli.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except PerdureError as error:
        click.echo(f"error [{error.code}]: {error}", err=True)
        sys.exit(_status(error))
    except BrokenPipeError:  # the reader of a long list has seen enough
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def _status(error: Exception) -> int:
    from perdure.errors import StoreError, UsageError  # noqa: PLC0415  # see main

    if isinstance(error, UsageError):
        return 2
    return 3 if isinstance(error, StoreError) else 1


# --- what commands share -----------------------------------------------------------------------------


def _on_store(command: F) -> F:
    options = [
        click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs."),
        click.option("--tenant", default="default", show_default=True, help="Whose."),
        click.option("--store", "url", default="sqlite:///perdure.db", envvar="PERDURE_STORE", show_default=True, help="URL of the store."),
    ]
    for option in options:
        command = option(command)
    return command


def _run(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    from perdure.store import open_store  # noqa: PLC0415  # see main

    async def opened() -> T:
        async with open_store(url, create=False) as store:
            return await work(store)

    return asyncio.run(opened())


def _plain(value: Any) -> Any:
    import msgspec  # noqa: PLC0415  # see main

    return msgspec.to_builtins(value, enc_hook=str)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console  # noqa: PLC0415  # see main
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else _visible(str(cell))) for cell in row))
    # Piped output is for other programs: it is not cut to the width of some terminal.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def _print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {_visible('' if value is None else str(value))}")


def _when(micros: int | None) -> str:
    if micros is None:
        return ""
    return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- perdure store -------------------------------------------------------------------------------------


@cli.group()
def store() -> None:
    """A store as a whole."""


@store.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def info(url: str, *, as_json: bool) -> None:
    """Show what a store holds, and how large it is."""
    found = _run(url, lambda opened: opened.info())
    if as_json:
        _print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("place", found.place),
        ("engine", found.engine),
        ("format", found.format),
        ("migrations", ", ".join(found.migrations)),
        ("shards", found.shards),
        ("open writers", found.writers),
        ("size", f"{found.data_bytes:,} bytes, and {found.log_bytes:,} in the log"),
    ]
    _print_pairs(pairs)
    click.echo()
    _print_table(("table", "rows"), [(table, f"{count:,}") for table, count in found.rows.items()], empty="no tables")


@store.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def verify(url: str, *, as_json: bool) -> None:
    """Check a store against itself; exit status 4 if something does not fit."""
    from perdure.engine import verification  # noqa: PLC0415  # see main

    found = _run(url, verification.verify)
    if as_json:
        _print_json([finding._asdict() for finding in found])
    else:
        _print_table(("tenant", "what", "detail"), found, empty="ok: everything fits")
    if found:
        raise click.exceptions.Exit(FOUND_SOMETHING)


@store.command()
@click.argument("url")
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def backup(url: str, target: str, *, as_json: bool) -> None:
    """Copy a store into the new file TARGET, while it is in use."""
    _run(url, lambda opened: opened.backup(target))
    if as_json:
        _print_json({"target": target})
    else:
        click.echo(f"copied to {target}")


# --- perdure processes -----------------------------------------------------------------------------------


@cli.group()
def processes() -> None:
    """Processes, and what happened in them."""


@processes.command("list")
@_on_store
@click.option("--status", help="Only those: idle, runnable, waiting, paused, stuck, failed, ended.")
@click.option("--after", help="The last id of the page before.")
@click.option("--limit", default=_PAGE, show_default=True, help="Rows of a page.")
def list_processes(url: str, tenant: str, *, as_json: bool, status: str | None, after: str | None, limit: int) -> None:
    """List processes by id."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.processes(opened, tenant=tenant, status=status, after=after, limit=limit))
    if as_json:
        _print_json(found)
        return
    rows = [(one.process_id, one.process_type, one.status, one.events, _when(one.updated_at), one.open_message, one.note) for one in found]
    _print_table(("process", "type", "status", "events", "updated", "open message", "note"), rows, empty="no processes")
    if len(found) == limit:
        click.echo(f"more: --after {found[-1].process_id}", err=True)


@processes.command("show")
@_on_store
@click.argument("process_id")
def show_process(url: str, tenant: str, process_id: str, *, as_json: bool) -> None:
    """Show one process with its durable fields, keys and tags."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main
    from perdure.identity import ProcessId, TenantId  # noqa: PLC0415

    async def look(opened: Store) -> tuple[Any, list[str], list[str]]:
        one = await inspection.process(opened, process_id, tenant=tenant)
        keys = await opened.processes.keys_of(TenantId(tenant), ProcessId(process_id))
        tags = await opened.processes.tags_of(TenantId(tenant), ProcessId(process_id))
        return one, [str(key) for key in keys], [str(tag) for tag in tags]

    found, keys, tags = _run(url, look)
    if as_json:
        _print_json({**_plain(found), "keys": keys, "tags": tags})
        return
    pairs: list[tuple[str, object]] = [
        ("process", found.process_id),
        ("type", found.process_type),
        ("status", found.status),
        ("note", found.note),
        ("open message", found.open_message),
        ("events", found.events),
        ("created", _when(found.created_at)),
        ("updated", _when(found.updated_at)),
        ("keys", ", ".join(keys)),
        ("tags", ", ".join(tags)),
        ("fields", json.dumps(found.fields, ensure_ascii=False)),
    ]
    _print_pairs(pairs)


@processes.command()
@_on_store
@click.argument("process_id")
@click.option("--after", default=-1, help="The last sequence of the page before.")
@click.option("--limit", default=_PAGE, show_default=True, help="Events of a page.")
def timeline(url: str, tenant: str, process_id: str, *, as_json: bool, after: int, limit: int) -> None:
    """Show the events of a process, in order."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.timeline(opened, process_id, tenant=tenant, after=after, limit=limit))
    if as_json:
        _print_json(found)
        return
    rows = [(one.seq, _when(one.at), one.event, one.message_id, one.name, one.detail) for one in found]
    _print_table(("seq", "at", "event", "message", "name", "detail"), rows, empty="no events")
    if len(found) == limit:
        click.echo(f"more: --after {found[-1].seq}", err=True)


@processes.command()
@_on_store
@click.argument("process_id")
@click.option("--reason", default="", help="For people; it stays with the process.")
@click.option("--force", is_flag=True, help="End it now, without running its code again.")
def cancel(url: str, tenant: str, process_id: str, *, as_json: bool, reason: str, force: bool) -> None:
    """Ask a process to stop for good; a running engine tells it at once, or the next one does."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    first = _run(url, lambda opened: inspection.cancel(opened, process_id, reason=reason, force=force, tenant=tenant))
    if as_json:
        _print_json({"process_id": process_id, "first": first})
    else:
        click.echo("asked to stop" if first else "nothing to do: it is over, or was asked before")


@processes.command()
@_on_store
@click.argument("process_id")
@click.option("--reason", default="", help="For people; it stands in the process's note.")
def pause(url: str, tenant: str, process_id: str, *, as_json: bool, reason: str) -> None:
    """Hold a process still until it is resumed."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    first = _run(url, lambda opened: inspection.pause(opened, process_id, reason=reason, tenant=tenant))
    if as_json:
        _print_json({"process_id": process_id, "first": first})
    else:
        click.echo("paused" if first else "it was paused already")


@processes.command()
@_on_store
@click.argument("process_id")
def resume(url: str, tenant: str, process_id: str, *, as_json: bool) -> None:
    """Let a paused process go on, or try a stuck one again."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    _run(url, lambda opened: inspection.resume(opened, process_id, tenant=tenant))
    if as_json:
        _print_json({"process_id": process_id})
    else:
        click.echo("resumed")


@processes.command()
@_on_store
@click.argument("process_id")
@click.argument("step")
def restart(url: str, tenant: str, process_id: str, step: str, *, as_json: bool) -> None:
    """Run the last turn of a process again from STEP on, as a new message; reopens one that has failed."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    new_id = _run(url, lambda opened: inspection.restart_from(opened, step, process_id, tenant=tenant))
    if as_json:
        _print_json({"message_id": new_id})
    else:
        click.echo(f"restarted from {step} as {new_id}")


@processes.command("export")
@_on_store
@click.argument("process_id")
@click.argument("target", type=click.Path(dir_okay=False), default="-")
def export_process(url: str, tenant: str, process_id: str, target: str, *, as_json: bool) -> None:
    """Write a process with its record, as JSON, to the new file TARGET; to the terminal when not given.

    Tests replay it against new code: perdure.testing.replay.
    """
    from perdure.engine.export import export_process  # noqa: PLC0415  # see main
    from perdure.errors import UsageError  # noqa: PLC0415

    exported = _run(url, lambda opened: export_process(opened, process_id, tenant=tenant)).to_json()
    if target == "-":
        click.echo(exported)
        return
    try:
        with Path(target).open("xb") as file:
            file.write(exported)
    except FileExistsError:
        raise UsageError(f"{target}: exists already; an export never overwrites, choose another name") from None
    if as_json:
        _print_json({"target": target})
    else:
        click.echo(f"exported to {target}")


# --- perdure messages --------------------------------------------------------------------------------------


@cli.group()
def messages() -> None:
    """Messages: where they are, and why."""


@messages.command()
@_on_store
@click.argument("message_id")
@click.option("--source", default="", help="Of the message, if it has one.")
def explain(url: str, tenant: str, message_id: str, *, as_json: bool, source: str) -> None:
    """Say where a message is, and why."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.explain(opened, message_id, source=source, tenant=tenant))
    if as_json:
        _print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("message", found.message_id),
        ("source", found.source),
        ("kind", found.kind),
        ("status", found.status),
        ("address", found.address),
        ("process", found.process_id),
        ("accepted", _when(found.accepted_at)),
        ("expires", _when(found.expires_at)),
        ("sent by", found.sender),
        ("reply", found.reply),
        ("because", found.text),
    ]
    _print_pairs(pairs)


@messages.command("dead-letters")
@_on_store
@click.option("--limit", default=_PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="TICK:SOURCE:ID of the last row of the page before, as --json shows them.")
def dead_letters(url: str, tenant: str, *, as_json: bool, limit: int, after: str | None) -> None:
    """List messages that will not be handled, with the reason."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.dead_letters(opened, tenant=tenant, limit=limit, after=inspection.dead_letter_place(after)))
    if as_json:
        _print_json(found)
        return
    rows = [(one.message_id, one.source, one.kind, one.reason, one.detail, one.redriven_as, _when(one.at)) for one in found]
    _print_table(("message", "source", "kind", "reason", "detail", "redriven as", "at"), rows, empty="no dead letters")
    if len(found) == limit:
        click.echo(f"more: --after {found[-1].tick}:{found[-1].source}:{found[-1].message_id}", err=True)


@messages.command()
@_on_store
@click.argument("message_id")
@click.option("--source", default="", help="Of the message, if it has one.")
def redrive(url: str, tenant: str, message_id: str, *, as_json: bool, source: str) -> None:
    """Deliver a dead letter again, as a new message; a running engine takes it up, or the next one does."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    new_id = _run(url, lambda opened: inspection.redrive(opened, message_id, source=source, tenant=tenant))
    if as_json:
        _print_json({"message_id": new_id})
    else:
        click.echo(f"redriven as {new_id}")
