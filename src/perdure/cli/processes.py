"""`perdure processes`: looking at processes, and what people do with them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.moving import move
from perdure.cli.shared import (
    PAGE,
    named,
    on_store,
    plain,
    print_answer,
    print_json,
    print_more,
    print_pairs,
    print_table,
    run,
    visible,
    when,
)

if TYPE_CHECKING:
    from perdure.store import Store


@click.group()
def processes() -> None:
    """Processes, and what happened in them."""


processes.add_command(move)


@processes.command("list")
@on_store
@click.option("--type", "process_type", help="Only those of this type.")
@click.option("--status", help="Only those: idle, runnable, waiting, paused, stuck, stranded, failed, ended.")
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
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
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
    """List processes: all of a tenant, or those that the options name."""
    from perdure.engine.filters import filters_of  # noqa: PLC0415  # see `cli/__init__.py`

    filters |= {
        "type": process_type,
        "attributes": filters_of(attributes, what="--attribute"),
        "created_after": _time("--created-after", created_after),
        "updated_before": _time("--updated-before", updated_before),
    }
    found, more = run(url, lambda opened: _listed(opened, limit, after, {"tenant": tenant, **filters}))
    if as_json:
        print_json({"processes": found, "next": more})
        return
    rows = [(one.process_id, one.process_type, one.status, one.events, when(one.updated_at), one.open_message, one.note) for one in found]
    print_table(
        ("process", "type", "status", "events", "updated", "open message", "note"), rows, empty=f"no such processes in tenant {tenant}"
    )
    if more is not None:
        print_more(more)


async def _listed(opened: Store, limit: int, after: str | None, filters: dict[str, Any]) -> tuple[list[Any], str | None]:
    """Return as many as were asked for: a page has fewer when it has looked at enough rows."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found: list[Any] = []
    while True:
        page = await inspection.processes(opened, limit=limit - len(found), after=after, **filters)
        found += page
        after = page.next
        if after is None or len(found) == limit:
            return found, after


def _time(option: str, text: str | None) -> datetime | None:
    from perdure.errors import UsageError  # noqa: PLC0415  # see `cli/__init__.py`

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected a time such as 2026-03-01T12:00:00Z") from error


@processes.command("show")
@on_store
@click.argument("process_id")
def show_process(url: str, tenant: str, process_id: str, *, as_json: bool) -> None:
    """Show one process with its durable fields, attributes, keys and tags."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: inspection.process(opened, process_id, tenant=tenant))
    if as_json:
        print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("process", found.process_id),
        ("type", found.process_type),
        ("package", found.package_hash),
        ("status", found.status),
        ("note", found.note),
        ("parent", found.parent),
        ("open message", found.open_message),
        ("events", found.events),
        ("created", when(found.created_at)),
        ("updated", when(found.updated_at)),
        ("keys", ", ".join(found.keys)),
        ("tags", ", ".join(found.tags)),
        ("attributes", ", ".join(f"{name}={value}" for name, value in found.attributes.items())),
        ("fields", json.dumps(found.fields, ensure_ascii=False)),
    ]
    print_pairs(pairs)


@processes.command()
@on_store
@click.argument("process_id")
@click.option("--after", help="Where the page before ended, as it says.")
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
def children(url: str, tenant: str, process_id: str, *, as_json: bool, after: str | None, limit: int) -> None:
    """List the children of a process that have not ended. It may have ended itself."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: inspection.children(opened, process_id, tenant=tenant, after=after, limit=limit))
    if as_json:
        print_json({"children": found, "next": found.next})
        return
    rows = [(one.process_id, one.process_type, one.status, when(one.created_at), when(one.updated_at), one.note) for one in found]
    print_table(("process", "type", "status", "created", "updated", "note"), rows, empty="no children")
    if found.next is not None:
        print_more(found.next)


@processes.command()
@on_store
@click.argument("process_id")
@click.argument("name", required=False)
@click.option("--after", type=int, default=-1, help="The last position of the page before.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many entries.")
@click.option("--limit", default=PAGE, show_default=True, help="Entries of a page.")
def log(url: str, tenant: str, process_id: str, name: str | None, *, as_json: bool, **page: Any) -> None:
    """Show the entries of the log NAME of a process. It is a field of type perdure.Log; without NAME, which logs there are."""
    from perdure.engine import log_reading  # noqa: PLC0415  # see `cli/__init__.py`

    if name is None:
        logs = run(url, lambda opened: log_reading.logs(opened, process_id, tenant=tenant))
        if as_json:
            print_json(logs)
        else:
            print_table(("log", "entries"), [(one.name, f"{one.length:,}") for one in logs], empty="no logs with entries")
        return
    entries = run(url, lambda opened: log_reading.log(opened, process_id, name, tenant=tenant, **page))
    if as_json:
        print_json(entries)
        return
    rows = [
        (one.seq, when(one.at), one.value if isinstance(one.value, str) else json.dumps(one.value, ensure_ascii=False)) for one in entries
    ]
    print_table(("seq", "at", "entry"), rows, empty="no more entries")
    if len(entries) == page["limit"]:
        print_more(entries[-1].seq)


@processes.command()
@on_store
@click.argument("process_id")
@click.option("--after", type=int, help="The last sequence of the page before.")
@click.option("--limit", default=PAGE, show_default=True, help="Events of a page.")
def timeline(url: str, tenant: str, process_id: str, *, as_json: bool, after: int | None, limit: int) -> None:
    """Show what happened in a process, and what it waits for now."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: inspection.timeline(opened, process_id, tenant=tenant, after=after, limit=limit))
    if as_json:
        print_json({"events": found, "status": found.status, "waits_for": found.waits_for, "next": found.next})
        return
    rows = [(one.seq, when(one.at), _duration(one.took), one.message_id, one.text) for one in found]
    print_table(("seq", "at", "took", "message", "what"), rows, empty="no events")
    waits = [f"{wait.what} {wait.name}" + (f", due {when(wait.due)}" if wait.due is not None else "") for wait in found.waits_for]
    click.echo(visible(f"{found.status}" + (f"; waits for {'; '.join(waits)}" if waits else "")))
    if found.next is not None:
        print_more(found.next)


def _duration(micros: int | None) -> str:
    return "" if micros is None else f"{micros / 1_000_000:.3f} s"


@processes.command()
@on_store
@click.argument("process_id")
@click.argument("name")
@click.argument("arguments", nargs=-1)
@click.option("--app", "app_name", required=True, metavar="MODULE:NAME", help="Where the app is, such as shop.main:app.")
def query(url: str, tenant: str, process_id: str, name: str, *, as_json: bool, arguments: tuple[str, ...], app_name: str) -> None:
    """Run the query NAME of a process on what is committed. ARGUMENTS are JSON; nothing is changed."""
    from perdure.engine import queries  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.engine.app import App  # noqa: PLC0415
    from perdure.engine.versions import Versions  # noqa: PLC0415
    from perdure.errors import PerdureError  # noqa: PLC0415

    app, texts = named(app_name, App, what="--app"), [argument.encode() for argument in arguments]

    async def asked(opened: Store) -> Any:
        versions = Versions(opened, app)
        try:
            return await queries.ask_by_name(opened, versions, name, texts, process_id=process_id, tenant=tenant)
        finally:
            await versions.close()

    try:
        found = plain(run(url, asked))
    except PerdureError:
        raise
    except Exception as error:  # the query is the user's: what it raises is an answer, and no fault of this program
        raise click.ClickException(f"query {name} raised {type(error).__name__}: {error}") from error
    if as_json:
        print_json(found)
    elif isinstance(found, dict) and found:
        print_pairs(
            [(str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) for key, value in found.items()]
        )
    else:
        click.echo(visible(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)))


@processes.command()
@on_store
@click.argument("process_id")
@click.option("--reason", default="", help="For people; it stays with the process.")
@click.option("--force", is_flag=True, help="End it now, without running its code again; its children are asked.")
def cancel(url: str, tenant: str, process_id: str, *, as_json: bool, reason: str, force: bool) -> None:
    """Ask a process to stop for good, and its children. A running engine tells them at once, or the next one does."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    first = run(url, lambda opened: inspection.cancel(opened, process_id, reason=reason, force=force, tenant=tenant))
    print_answer(
        {"process_id": process_id, "first": first},
        "asked to stop" if first else "nothing to do: it is over, or was asked before",
        as_json=as_json,
    )


@processes.command()
@on_store
@click.argument("process_id")
@click.option("--reason", default="", help="For people; it stands in the process's note.")
def pause(url: str, tenant: str, process_id: str, *, as_json: bool, reason: str) -> None:
    """Hold a process still until it is resumed."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    first = run(url, lambda opened: inspection.pause(opened, process_id, reason=reason, tenant=tenant))
    print_answer({"process_id": process_id, "first": first}, "paused" if first else "it was paused already", as_json=as_json)


@processes.command()
@on_store
@click.argument("process_id")
def resume(url: str, tenant: str, process_id: str, *, as_json: bool) -> None:
    """Let a paused process go on, or try a stuck one again."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    run(url, lambda opened: inspection.resume(opened, process_id, tenant=tenant))
    print_answer({"process_id": process_id}, "resumed", as_json=as_json)


@processes.command()
@on_store
@click.argument("process_id")
@click.argument("step")
def restart(url: str, tenant: str, process_id: str, step: str, *, as_json: bool) -> None:
    """Run the last turn of a process again from STEP on. It is a new message; a process that has failed is open again."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    new_id = run(url, lambda opened: inspection.restart_from(opened, step, process_id, tenant=tenant))
    print_answer({"message_id": new_id}, f"restarted from {step} as {new_id}", as_json=as_json)


@processes.command("export")
@on_store
@click.argument("process_id")
@click.argument("target", type=click.Path(dir_okay=False), default="-")
def export_process(url: str, tenant: str, process_id: str, target: str, *, as_json: bool) -> None:
    """Write a process with its record, as JSON. TARGET is the new file; without it, to the terminal.

    Tests replay it against new code: perdure.testing.replay.
    """
    from perdure.engine.export import export_process  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.errors import UsageError  # noqa: PLC0415

    exported = run(url, lambda opened: export_process(opened, process_id, tenant=tenant)).to_json()
    if target == "-":
        click.echo(exported)
        return
    try:
        with Path(target).open("xb") as file:
            file.write(exported)
    except FileExistsError:
        raise UsageError(f"{target}: exists already; an export never overwrites, choose another name") from None
    print_answer({"target": target}, f"exported to {target}", as_json=as_json)
