"""The command line: looking into a store, and the few things that people do to it.

Tables are for people, `--json` is for programs. Errors go to stderr with their code; the exit status says their kind:
1 refused or not found, 2 wrong usage, 3 the store, 4 `verify` found something.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from perdure.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
FOUND_SOMETHING: Final = 4
_PAGE: Final = 100
_ATTRIBUTE: Final = re.compile(r"(?P<name>[^=<>^]+)(?P<sign>>=|<=|\^=|=)(?P<value>.*)", re.DOTALL)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:")


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
    from perdure.clock import text_of  # noqa: PLC0415  # see main

    return "" if micros is None else text_of(micros)


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
@click.option("--type", "process_type", help="Only those of this type.")
@click.option("--status", help="Only those: idle, runnable, waiting, paused, stuck, failed, ended.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only those with it; also NAME>=VALUE, NAME<=VALUE, NAME^=BEGINNING. Numbers, true and false, ISO times with a zone; quote text like those.",
)
@click.option("--created-after", help="Only those made later, an ISO time with a zone.")
@click.option("--updated-before", help="Only those that nothing has happened to since, an ISO time with a zone.")
@click.option("--order", help="id, created, or -created for the newest first.")
@click.option("--after", help="Where the page before ended, as it says.")
@click.option("--limit", default=_PAGE, show_default=True, help="Rows of a page.")
def list_processes(
    url: str,
    tenant: str,
    *,
    as_json: bool,
    process_type: str | None,
    attributes: tuple[str, ...],
    created_after: str | None,
    updated_before: str | None,
    after: str | None,
    limit: int,
    **filters: Any,
) -> None:
    """List processes."""
    filters |= {
        "type": process_type,
        "attributes": _attributes(attributes),
        "created_after": _time("--created-after", created_after),
        "updated_before": _time("--updated-before", updated_before),
    }
    found, more = _run(url, lambda opened: _listed(opened, limit, after, {"tenant": tenant, **filters}))
    if as_json:
        _print_json({"processes": found, "next": more})
        return
    rows = [(one.process_id, one.process_type, one.status, one.events, _when(one.updated_at), one.open_message, one.note) for one in found]
    _print_table(("process", "type", "status", "events", "updated", "open message", "note"), rows, empty="no processes")
    if more is not None:
        click.echo(f"more: --after {more}", err=True)


async def _listed(opened: Store, limit: int, after: str | None, filters: dict[str, Any]) -> tuple[list[Any], str | None]:
    """Return as many as were asked for: a page has fewer when it has looked at enough rows."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found: list[Any] = []
    while True:
        page = await inspection.processes(opened, limit=limit - len(found), after=after, **filters)
        found += page
        after = page.next
        if after is None or len(found) == limit:
            return found, after


def _attributes(texts: Sequence[str]) -> dict[str, Any]:
    """Return the filters that are written as NAME=VALUE and the like. Raises UsageError."""
    from perdure.engine.searching import Between, StartsWith  # noqa: PLC0415  # see main
    from perdure.errors import UsageError  # noqa: PLC0415

    found: dict[str, Any] = {}
    for text in texts:
        parts = _ATTRIBUTE.fullmatch(text)
        if parts is None:
            raise UsageError(f"--attribute {text!r}: expected NAME=VALUE, NAME>=VALUE, NAME<=VALUE or NAME^=BEGINNING")
        name, sign, value = parts["name"], parts["sign"], parts["value"]
        before = found.get(name)
        if before is not None and not (isinstance(before, Between) and sign in (">=", "<=")):
            raise UsageError(f"--attribute {text!r}: {name} is asked for twice")
        low, high = (before.low, before.high) if isinstance(before, Between) else (None, None)
        match sign:
            case "^=":
                found[name] = StartsWith(value)
            case ">=":
                found[name] = Between(_value(value), high)
            case "<=":
                found[name] = Between(low, _value(value))
            case _:
                found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """Return what a value on the command line means: a JSON scalar, a time, or else text."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, str) and value == text and _ISO.match(text):
        return _time("--attribute", text)
    return value if isinstance(value, str | int | float) else text


def _time(option: str, text: str | None) -> datetime | None:
    from perdure.errors import UsageError  # noqa: PLC0415  # see main

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected a time such as 2026-03-01T12:00:00Z") from error


@processes.command("show")
@_on_store
@click.argument("process_id")
def show_process(url: str, tenant: str, process_id: str, *, as_json: bool) -> None:
    """Show one process with its durable fields, attributes, keys and tags."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.process(opened, process_id, tenant=tenant))
    if as_json:
        _print_json(found)
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
        ("keys", ", ".join(found.keys)),
        ("tags", ", ".join(found.tags)),
        ("attributes", ", ".join(f"{name}={value}" for name, value in found.attributes.items())),
        ("fields", json.dumps(found.fields, ensure_ascii=False)),
    ]
    _print_pairs(pairs)


@processes.command()
@_on_store
@click.argument("process_id")
@click.option("--after", default=-1, help="The last sequence of the page before.")
@click.option("--limit", default=_PAGE, show_default=True, help="Events of a page.")
def timeline(url: str, tenant: str, process_id: str, *, as_json: bool, after: int, limit: int) -> None:
    """Show what happened in a process, and what it waits for now."""
    from perdure.engine import inspection  # noqa: PLC0415  # see main

    found = _run(url, lambda opened: inspection.timeline(opened, process_id, tenant=tenant, after=after, limit=limit))
    if as_json:
        _print_json({"events": found, "status": found.status, "waits_for": found.waits_for, "next": found.next})
        return
    rows = [(one.seq, _when(one.at), _duration(one.took), one.message_id, one.text) for one in found]
    _print_table(("seq", "at", "took", "message", "what"), rows, empty="no events")
    waits = [f"{wait.what} {wait.name}" + (f", due {_when(wait.due)}" if wait.due is not None else "") for wait in found.waits_for]
    click.echo(_visible(f"{found.status}" + (f"; waits for {'; '.join(waits)}" if waits else "")))
    if found.next is not None:
        click.echo(f"more: --after {found.next}", err=True)


def _duration(micros: int | None) -> str:
    return "" if micros is None else f"{micros / 1_000_000:.3f} s"


@processes.command()
@_on_store
@click.argument("process_id")
@click.argument("name")
@click.argument("arguments", nargs=-1)
@click.option("--app", "app_name", required=True, metavar="MODULE:NAME", help="Where the app is, such as shop.main:app.")
def query(url: str, tenant: str, process_id: str, name: str, *, as_json: bool, arguments: tuple[str, ...], app_name: str) -> None:
    """Ask a process: run its query NAME on what is committed. ARGUMENTS are JSON; nothing is changed."""
    from perdure.engine import queries  # noqa: PLC0415  # see main
    from perdure.errors import PerdureError  # noqa: PLC0415

    app, texts = _app(app_name), [argument.encode() for argument in arguments]
    try:
        found = _plain(_run(url, lambda opened: queries.ask_by_name(opened, app, name, texts, process_id=process_id, tenant=tenant)))
    except PerdureError:
        raise
    except Exception as error:  # the query is the user's: what it raises is an answer, and no fault of this program
        raise click.ClickException(f"query {name} raised {type(error).__name__}: {error}") from error
    if as_json:
        _print_json(found)
    elif isinstance(found, dict) and found:
        _print_pairs(
            [(str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) for key, value in found.items()]
        )
    else:
        click.echo(_visible(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)))


def _app(name: str) -> Any:
    """Return the app that MODULE:NAME names, importing the module from here. Raises UsageError."""
    import importlib  # noqa: PLC0415  # see main

    from perdure.engine.app import App  # noqa: PLC0415
    from perdure.errors import UsageError  # noqa: PLC0415

    module, mark, attribute = name.partition(":")
    if not (module and mark and attribute):
        raise UsageError(f"--app {name!r}: expected MODULE:NAME, such as shop.main:app")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise UsageError(f"--app {name!r}: {error}; run this where `import {module}` works") from error
    if not isinstance(found, App):
        raise UsageError(f"--app {name!r}: expected a perdure.App, found {found!r}")
    return found


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
        ("ahead of it", found.ahead),
        ("redriven as", found.redriven_as),
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
