"""`perdure commands`: work for workers elsewhere, in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.cli.shared import PAGE, on_store, plain, print_answer, print_json, print_more, print_pairs, print_table, run, visible, when

if TYPE_CHECKING:
    from perdure.commands.contract import CommandEvent, CommandStatus
    from perdure.commands.states import CommandState
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
            f"{one.attempt}, {one.failures} of {one.max_attempts} failed" if one.failures else one.attempt,
            one.worker,
            _note(one),
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
    error, said, details = status.error, *_said(status)
    pairs = [
        ("command", status.command_id),
        ("name", status.command),
        ("deployment", status.deployment_id),
        ("target", status.target),
        ("state", f"{status.state}, a dead letter" if status.dead else status.state),
        ("attempt", status.attempt),
        ("failures", f"{status.failures} of {status.max_attempts}"),
        ("worker", status.worker),
        ("progress", _progress(status)),
        ("created", when(status.created_at)),
        ("available", when(status.available_at)),
        ("dispatched", when(status.dispatched_at)),
        ("lease ends", when(status.lease_expires_at)),
        ("deadline", when(status.deadline)),
        ("completed", when(status.completed_at)),
        ("asked to stop", "yes" if status.cancel_requested else None),
        ("redriven as", status.redriven_as),
        ("error", None if error is None else said),
        ("details", details),
        ("params", _short(params)),
        ("result", _short(result)),
    ]
    print_pairs([(name, value) for name, value in pairs if value not in (None, "")])
    click.echo()
    print_table(("at", "what", "attempt", "who", "why"), [_line(one) for one in events], empty="nothing happened to it")


@commands.command()
@on_store
@click.argument("command_id")
@click.option("--reason", default="", help="Why, for the history and the worker.")
def cancel(url: str, tenant: str, command_id: str, *, as_json: bool, reason: str) -> None:
    """Ask for a command not to be done; a worker that has it is told."""

    async def stop(store: Store) -> tuple[CommandStatus, CommandState]:
        before = await store.commands.wait_command(command_id, 0, tenant_id=tenant)
        return before, await store.commands.cancel(command_id, tenant_id=tenant, reason=reason, actor="perdure commands")

    before, state = run(url, stop)
    if before.completed_at is not None:
        text = f"it was over already: {state}"
    elif state == "DISPATCHED":
        text = f"{visible(before.worker) or 'a worker'} has it, and is told at its next renewal"
    else:
        text = str(state).lower()
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
    """Show what happens to a command until it is over; the exit status is 1 if it was not done. With --json, each event is a line."""
    import asyncio  # noqa: PLC0415  # see `cli/__init__.py`
    import json  # noqa: PLC0415

    from perdure import limits  # noqa: PLC0415

    def show_one(one: CommandEvent) -> None:
        if as_json:
            click.echo(json.dumps(plain(one), ensure_ascii=False))
        else:
            click.echo("  ".join(visible(str(part)) for part in _line(one) if part != ""))

    async def follow(store: Store) -> CommandStatus:
        shown, over = 0, asyncio.ensure_future(store.commands.wait_command(command_id, limits.DURATION_MAX, tenant_id=tenant))
        try:
            while True:
                done, _ = await asyncio.wait((over,), timeout=_LOOK_SECONDS)
                while events := await store.commands.history(command_id, tenant_id=tenant, after=shown or None, limit=1_000):
                    for one in events:
                        show_one(one)
                    shown += len(events)
                if done:
                    return over.result()
        finally:
            over.cancel()

    status = run(url, follow)
    if not as_json:
        click.echo(visible(str(status.state) if status.error is None else f"{status.state}, {_said(status)[0]}"))
    if status.state != "SUCCEEDED":
        raise SystemExit(1)


_LOOK_SECONDS = 0.5


def _note(status: CommandStatus) -> str:
    """Return what an operator looks for in a list."""
    said = [
        "dead letter" if status.dead else "",
        _said(status)[0].partition(":")[0],
        "asked to stop" if status.cancel_requested and status.completed_at is None else "",
        (_progress(status) or "") if status.completed_at is None else "",
        "redriven" if status.redriven_as else "",
    ]
    return ", ".join(part for part in said if part)


def _progress(status: CommandStatus) -> str | None:
    return None if status.progress is None else f"{status.progress.fraction:.0%} {status.progress.note}".rstrip()


def _said(status: CommandStatus) -> tuple[str, str | None]:
    """Return why a command was not done, as text, and the details."""
    import json  # noqa: PLC0415  # see `cli/__init__.py`

    import msgspec  # noqa: PLC0415

    error = None if status.error is None else msgspec.json.decode(status.error)
    if not isinstance(error, dict) or "code" not in error:
        return "" if error is None else json.dumps(error, ensure_ascii=False), None
    text = f"{error['code']}: {error['message']}" if error.get("message") else str(error["code"])
    details = error.get("details")
    return text, None if details is None else json.dumps(details, ensure_ascii=False, separators=(",", ":"))


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
