"""`perdure commands`: work for workers elsewhere, in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli.shared import PAGE, on_store, print_answer, print_json, print_more, print_pairs, print_table, run, visible, when

if TYPE_CHECKING:
    from perdure.commands.contract import CommandEvent, CommandStatus
    from perdure.store import Store

_STATES = ("PENDING_UPLOAD", "PENDING", "DISPATCHED", "SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED")


@click.group()
def commands() -> None:
    """Commands: work for workers elsewhere."""


@commands.command("list")
@on_store
@click.option("--deployment", help="Only for the workers of this one.")
@click.option("--target", help="Only for this one of them.")
@click.option("--name", help="Only commands of this name.")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only those in this state.")
@click.option("--dead", is_flag=True, default=None, help="Only dead letters: tried as often as their policy says.")
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="What the page before said.")
def list_(
    url: str,
    tenant: str,
    *,
    as_json: bool,
    deployment: str | None,
    target: str | None,
    name: str | None,
    state: str | None,
    dead: bool | None,
    limit: int,
    after: str | None,
) -> None:
    """List commands, the newest first."""
    from perdure.commands.contract import CommandFilter  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.commands.states import CommandState  # noqa: PLC0415

    wanted = None if state is None else CommandState(state.upper())
    matching = CommandFilter(deployment_id=deployment, target=target, command=name, state=wanted, dead=dead)
    page = run(url, lambda store: store.commands.list_commands(tenant_id=tenant, matching=matching, after=after, limit=limit))
    if as_json:
        print_json({"commands": [_plain(one) for one in page.commands], "next": page.next})
        return
    rows = [
        (
            one.command_id,
            one.deployment_id,
            one.target,
            one.command,
            one.state,
            f"{one.attempt}, {one.failures} failed" if one.failures else one.attempt,
            one.worker,
            "dead letter" if one.dead else "",
            when(one.created_at),
        )
        for one in page.commands
    ]
    columns = ("command", "deployment", "target", "name", "state", "attempt", "worker", "note", "created")
    print_table(columns, rows, empty=f"no commands in tenant {tenant}")
    if page.next is not None:
        print_more(page.next)


@commands.command()
@on_store
@click.argument("command_id")
def show(url: str, tenant: str, command_id: str, *, as_json: bool) -> None:
    """Show a command, and what happened to it."""

    async def look(store: Store) -> tuple[CommandStatus, list[CommandEvent], Any, Any]:
        found = store.commands
        status = await found.wait_command(command_id, 0, tenant_id=tenant)
        events = await found.history(command_id, tenant_id=tenant, limit=1_000)
        return status, events, await found.get_params(command_id, tenant_id=tenant), await found.get_result(command_id, tenant_id=tenant)

    status, events, params, result = run(url, look)
    if as_json:
        print_json({**_plain(status), "params": _body(params), "result": _body(result), "history": events})
        return
    progress = status.progress
    print_pairs(
        [
            ("command", status.command_id),
            ("name", status.command),
            ("deployment", status.deployment_id),
            ("target", status.target),
            ("state", f"{status.state}, a dead letter" if status.dead else status.state),
            ("attempt", status.attempt),
            ("failures", f"{status.failures} of {status.max_attempts}"),
            ("worker", status.worker),
            ("progress", None if progress is None else f"{progress.fraction:.0%} {progress.note}"),
            ("created", when(status.created_at)),
            ("available", when(status.available_at)),
            ("dispatched", when(status.dispatched_at)),
            ("lease ends", when(status.lease_expires_at)),
            ("deadline", when(status.deadline)),
            ("completed", when(status.completed_at)),
            ("asked to stop", "yes" if status.cancel_requested else None),
            ("redriven as", status.redriven_as),
            ("error", None if status.error is None else bytes(status.error).decode(errors="replace")),
            ("params", _short(params)),
            ("result", _short(result)),
        ]
    )
    click.echo()
    print_table(("at", "what", "attempt", "who", "why"), [_line(one) for one in events], empty="nothing happened to it")


@commands.command()
@on_store
@click.argument("command_id")
@click.option("--reason", default="", help="Why, for the history and the worker.")
def cancel(url: str, tenant: str, command_id: str, *, as_json: bool, reason: str) -> None:
    """Ask for a command not to be done; a worker that has it is told."""
    state = run(url, lambda store: store.commands.cancel(command_id, tenant_id=tenant, reason=reason, actor="perdure commands"))
    text = "its worker is told at its next renewal" if state == "DISPATCHED" else f"it is {state}"
    print_answer({"command_id": command_id, "state": str(state)}, text, as_json=as_json)


@commands.command()
@on_store
@click.argument("command_id")
def redrive(url: str, tenant: str, command_id: str, *, as_json: bool) -> None:
    """Make a new command of one that was not done."""
    new_id = run(url, lambda store: store.commands.redrive(command_id, tenant_id=tenant, actor="perdure commands"))
    print_answer({"command_id": new_id}, f"redriven as {new_id}", as_json=as_json)


@commands.command()
@on_store
@click.argument("command_id")
def watch(url: str, tenant: str, command_id: str, *, as_json: bool) -> None:
    """Show what happens to a command until it is over; the exit status is 1 if it was not done."""
    import asyncio  # noqa: PLC0415  # see `cli/__init__.py`

    async def follow(store: Store) -> CommandStatus:
        shown = 0
        over = asyncio.ensure_future(store.commands.wait_command(command_id, _A_DAY_US * 36_500, tenant_id=tenant))
        try:
            while True:
                done, _ = await asyncio.wait((over,), timeout=_LOOK_SECONDS)
                events = await store.commands.history(command_id, tenant_id=tenant, after=shown or None, limit=1_000)
                for one in events:
                    if as_json:
                        print_json(one)
                    else:
                        click.echo("  ".join(visible(str(part)) for part in _line(one) if part != ""))
                shown += len(events)
                if done:
                    return over.result()
        finally:
            over.cancel()

    status = run(url, follow)
    if status.state != "SUCCEEDED":
        raise SystemExit(1)


_A_DAY_US = 86_400 * 1_000_000
_LOOK_SECONDS = 0.5


def _plain(status: CommandStatus) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415  # see `cli/__init__.py`

    found = {name: getattr(status, name) for name in status.__struct_fields__}
    found["error"] = None if status.error is None else msgspec.json.decode(status.error)
    return found


def _body(body: Any) -> Any:
    import msgspec  # noqa: PLC0415  # see `cli/__init__.py`

    return msgspec.json.decode(body) if isinstance(body, bytes) else body


def _short(body: Any) -> str | None:
    if body is None:
        return None
    text = body.decode(errors="replace") if isinstance(body, bytes) else f"{body.size:,} bytes, SHA-256 {body.sha256}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


_SHOWN = 200


def _line(one: CommandEvent) -> tuple[object, ...]:
    return when(one.at), one.kind, one.attempt, one.actor, one.detail
