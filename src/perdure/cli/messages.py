"""`perdure messages`: where messages are, and why."""

from __future__ import annotations

import click

from perdure.cli.shared import PAGE, on_store, print_answer, print_json, print_more, print_pairs, print_table, run, when


@click.group()
def messages() -> None:
    """Messages: where they are, and why."""


@messages.command()
@on_store
@click.argument("message_id")
@click.option("--source", default="", help="Of the message, if it has one.")
def explain(url: str, tenant: str, message_id: str, *, as_json: bool, source: str) -> None:
    """Say where a message is, and why."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: inspection.explain(opened, message_id, source=source, tenant=tenant))
    if as_json:
        print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("message", found.message_id),
        ("source", found.source),
        ("kind", found.kind),
        ("status", found.status),
        ("address", found.address),
        ("process", found.process_id),
        ("accepted", when(found.accepted_at)),
        ("expires", when(found.expires_at)),
        ("ahead of it", found.ahead),
        ("redriven as", found.redriven_as),
        ("sent by", found.sender),
        ("reply", found.reply),
        ("because", found.text),
    ]
    print_pairs(pairs)


@messages.command("dead-letters")
@on_store
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="TICK:SOURCE:ID of the last row of the page before, as --json shows them.")
def dead_letters(url: str, tenant: str, *, as_json: bool, limit: int, after: str | None) -> None:
    """List messages that will not be handled, with the reason."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: inspection.dead_letters(opened, tenant=tenant, limit=limit, after=inspection.dead_letter_place(after)))
    if as_json:
        print_json(found)
        return
    rows = [(one.message_id, one.source, one.kind, one.reason, one.detail, one.redriven_as, when(one.at)) for one in found]
    print_table(("message", "source", "kind", "reason", "detail", "redriven as", "at"), rows, empty=f"no dead letters in tenant {tenant}")
    if len(found) == limit:
        print_more(f"{found[-1].tick}:{found[-1].source}:{found[-1].message_id}")


@messages.command()
@on_store
@click.argument("message_id")
@click.option("--source", default="", help="Of the message, if it has one.")
def redrive(url: str, tenant: str, message_id: str, *, as_json: bool, source: str) -> None:
    """Deliver a dead letter again, as a new message. A running engine takes it up, or the next one does."""
    from perdure.engine import inspection  # noqa: PLC0415  # see `cli/__init__.py`

    new_id = run(url, lambda opened: inspection.redrive(opened, message_id, source=source, tenant=tenant))
    print_answer({"message_id": new_id}, f"redriven as {new_id}", as_json=as_json)
