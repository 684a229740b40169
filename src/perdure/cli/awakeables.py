"""`perdure awakeables`: what turns wait for that somebody outside completes."""

from __future__ import annotations

from typing import Any

import click

from perdure.cli.shared import PAGE, on_store, print_answer, print_json, print_more, print_table, run


@click.group()
def awakeables() -> None:
    """Awakeables: tokens that somebody outside completes."""


@awakeables.command("list")
@on_store
@click.option("--process", "process_id", help="Only those of this process.")
@click.option("--after", help="Where the page before ended, as it says.")
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
def list_awakeables(url: str, tenant: str, *, as_json: bool, process_id: str | None, after: str | None, limit: int) -> None:
    """List the awakeables that nobody has completed."""
    from perdure.engine import awakeables as those  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: those.awakeables(opened, tenant=tenant, process_id=process_id, after=after, limit=limit))
    if as_json:
        print_json({"awakeables": found, "next": found.next})
        return
    rows = [(one.token, one.name, one.process_id, one.process_type, one.message_id) for one in found]
    print_table(("token", "name", "process", "type", "message"), rows, empty=f"no awakeables in tenant {tenant}")
    if found.next is not None:
        print_more(found.next)


@awakeables.command()
@on_store
@click.argument("token")
@click.argument("value", default="null")
def complete(url: str, tenant: str, token: str, value: str, *, as_json: bool) -> None:
    """Complete an awakeable with VALUE, which is JSON. A running engine tells its process at once, or the next one does."""
    from perdure.codec import JSON  # noqa: PLC0415
    from perdure.engine import awakeables as those  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.errors import PayloadInvalid, UsageError  # noqa: PLC0415

    try:
        read = JSON.decoder(Any)(value.encode())
    except PayloadInvalid as error:
        raise UsageError(f"value {value!r} is not JSON; quote text twice: '\"like this\"'") from error
    run(url, lambda opened: those.complete_awakeable(opened, token, read, tenant=tenant))
    print_answer({"token": token}, "completed", as_json=as_json)


@awakeables.command()
@on_store
@click.argument("token")
@click.argument("text")
def fail(url: str, tenant: str, token: str, text: str, *, as_json: bool) -> None:
    """Let an awakeable fail. Whoever waits for it gets AwakeableFailed with TEXT."""
    from perdure.engine import awakeables as those  # noqa: PLC0415  # see `cli/__init__.py`

    run(url, lambda opened: those.fail_awakeable(opened, token, text, tenant=tenant))
    print_answer({"token": token}, "failed", as_json=as_json)
