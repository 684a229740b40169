"""`perdure schedules`: what starts when."""

from __future__ import annotations

import click

from perdure.cli.shared import PAGE, on_store, print_answer, print_json, print_more, print_pairs, print_table, run, when


@click.group()
def schedules() -> None:
    """Schedules: what starts when. They are made by code; here they are looked at, held still and set off."""


@schedules.command("list")
@on_store
@click.option("--after", help="The last id of the page before.")
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
def list_schedules(url: str, tenant: str, *, as_json: bool, after: str | None, limit: int) -> None:
    """List schedules by id, with the time when each fires next."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: Schedules(opened).list(tenant=tenant, after=after, limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (one.schedule_id, one.expression, one.tz, one.status, when(one.next[0] if one.next else None), when(one.last_slot), one.fired)
        for one in found
    ]
    print_table(
        ("schedule", "expression", "time zone", "status", "next", "last slot", "fired"), rows, empty=f"no schedules in tenant {tenant}"
    )
    if len(found) == limit:
        print_more(found[-1].schedule_id)


@schedules.command("show")
@on_store
@click.argument("schedule_id")
def show_schedule(url: str, tenant: str, schedule_id: str, *, as_json: bool) -> None:
    """Show one schedule: its policies, its next firings, and what became of the last slots."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: Schedules(opened).describe(schedule_id, tenant=tenant))
    if as_json:
        print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("schedule", found.schedule_id),
        ("status", found.status),
        ("expression", f"{found.expression} ({found.tz})"),
        ("sends", f"{found.kind} to {found.address}"),
        ("overlap", found.overlap),
        ("catch-up", f"{found.catch_up}, at most {found.window / 86_400_000_000:g} days"),
        ("jitter", f"{found.jitter / 1_000_000:g} s"),
        ("declared by", found.declared_by or "no app: made at run time"),
        ("slots", f"{found.fired} fired, {found.skipped} skipped, {found.missed} missed, {found.waiting} waiting"),
        ("next", ", ".join(when(at) for at in found.next)),
    ]
    print_pairs(pairs)
    click.echo()
    rows = [(when(one.slot), one.outcome, when(one.at), one.message_id) for one in reversed(found.recent)]
    print_table(("slot", "outcome", "at", "message"), rows, empty="no slot has come yet")


@schedules.command("pause")
@on_store
@click.argument("schedule_id")
def pause_schedule(url: str, tenant: str, schedule_id: str, *, as_json: bool) -> None:
    """Let a schedule fire no more until it is resumed."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: Schedules(opened).pause(schedule_id, tenant=tenant))
    print_answer(found, "paused", as_json=as_json)


@schedules.command("resume")
@on_store
@click.argument("schedule_id")
def resume_schedule(url: str, tenant: str, schedule_id: str, *, as_json: bool) -> None:
    """Let a paused schedule fire again, from its next slot on."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, lambda opened: Schedules(opened).resume(schedule_id, tenant=tenant))
    print_answer(found, f"fires next at {when(found.next[0])}" if found.next else "resumed; no slot is to come", as_json=as_json)


@schedules.command()
@on_store
@click.argument("schedule_id")
def trigger(url: str, tenant: str, schedule_id: str, *, as_json: bool) -> None:
    """Fire a schedule now. A running engine takes it up at once, or the next one does."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    message_id = run(url, lambda opened: Schedules(opened).trigger(schedule_id, tenant=tenant))
    print_answer({"message_id": message_id}, f"fired as {message_id}", as_json=as_json)


@schedules.command("delete")
@on_store
@click.argument("schedule_id")
def delete_schedule(url: str, tenant: str, schedule_id: str, *, as_json: bool) -> None:
    """Forget a schedule that no app declares. What it has started goes on."""
    from perdure.engine.schedules import Schedules  # noqa: PLC0415  # see `cli/__init__.py`

    run(url, lambda opened: Schedules(opened).delete(schedule_id, tenant=tenant))
    print_answer({"schedule_id": schedule_id}, "deleted", as_json=as_json)
