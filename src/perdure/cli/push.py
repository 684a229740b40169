"""`perdure push`: where commands are sent that do not wait for workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.shared import PAGE, F, on_store, plain, print_answer, print_json, print_more, print_pairs, print_table, run, when
from perdure.cli.store import age

if TYPE_CHECKING:
    from datetime import timedelta


@click.group()
def push() -> None:
    """Push: where commands are sent instead of waiting for workers."""


def _on_endpoint(command: F) -> F:
    command = click.option("--target", help="Only for this one; without it, for all that have none of their own.")(command)
    return on_store(click.argument("deployment")(command))


@push.command("set")
@_on_endpoint
@click.argument("address", metavar="URL")
@click.option(
    "--secrets-env",
    "variable",
    metavar="NAME",
    help="Variable of the environment with secrets, whsec_…, separated by spaces; without it, one is made when there is none.",
)
@click.option("--timeout", type=age, metavar="AGE", help="What one request may take, such as 15s.  [default: 15s]")
@click.option("--result-within", type=age, metavar="AGE", help="What a result may take, before a command is sent again.  [default: 1h]")
def set_(
    url: str,
    tenant: str,
    deployment: str,
    address: str,
    *,
    as_json: bool,
    target: str | None,
    variable: str | None,
    timeout: timedelta | None,
    result_within: timedelta | None,
) -> None:
    """Send the commands of DEPLOYMENT to URL, and show the secret if one was made, this once.

    An endpoint that is there keeps its secrets, unless others are given. What was sent before goes on as it was.
    """
    from perdure.engine.process import micros  # noqa: PLC0415  # see `cli/__init__.py`

    given: dict[str, Any] = {"tenant_id": tenant, "target": target}
    if variable is not None:
        given["secrets"] = os.environ.get(variable, "").split()
    given |= {name: micros(value) for name, value in (("timeout", timeout), ("result_within", result_within)) if value is not None}
    made = run(url, lambda store: store.push.put(deployment, address, **given))
    _show_secret(made, as_json=as_json)


@push.command("list")
@on_store
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="Where the page before ended, as it says.")
def list_(url: str, tenant: str, *, as_json: bool, limit: int, after: str | None) -> None:
    """List endpoints, without their secrets and the queries of their URLs."""
    from perdure.commands.push_contract import PushPlace  # noqa: PLC0415  # see `cli/__init__.py`

    place = None if after is None else PushPlace.named_by(after)
    found = run(url, lambda store: store.push.list_endpoints(tenant_id=tenant, after=place, limit=limit))
    if as_json:
        print_json([plain(one) for one in found])
        return
    rows = [
        (
            one.deployment_id,
            one.target,
            one.url,
            _state(enabled=one.enabled, open_until=one.open_until),
            one.failures,
            one.secrets,
            f"{one.timeout / 1e6:g} s",
            f"{one.result_within / 1e6:g} s",
            when(one.updated_at),
        )
        for one in found
    ]
    columns = ("deployment", "target", "url", "state", "failures", "secrets", "timeout", "result within", "updated")
    print_table(columns, rows, empty="no endpoints")
    if len(found) == limit:
        print_more(found[-1].place.cursor)


def _state(*, enabled: bool, open_until: int | None) -> str:
    if not enabled:
        return "disabled"
    return "enabled" if open_until is None else f"fails; asked again at {when(open_until)}"


@push.command()
@_on_endpoint
def rotate(url: str, tenant: str, deployment: str, *, as_json: bool, target: str | None) -> None:
    """Make a new secret, which signs beside the one before, and show it, this once."""
    _show_secret(run(url, lambda store: store.push.rotate(deployment, tenant_id=tenant, target=target)), as_json=as_json)


@push.command()
@_on_endpoint
def remove(url: str, tenant: str, deployment: str, *, as_json: bool, target: str | None) -> None:
    """Remove an endpoint. Commands that were for it wait."""
    found = run(url, lambda store: store.push.remove(deployment, tenant_id=tenant, target=target))
    print_answer({"removed": found}, "removed" if found else "there was none", as_json=as_json)


@push.command()
@_on_endpoint
def enable(url: str, tenant: str, deployment: str, *, as_json: bool, target: str | None) -> None:
    """Let an endpoint be sent to, at once also if it has failed."""
    found = run(url, lambda store: store.push.enable(deployment, tenant_id=tenant, target=target))
    print_answer({"changed": found}, "enabled" if found else "it was enabled before", as_json=as_json)


@push.command()
@_on_endpoint
def disable(url: str, tenant: str, deployment: str, *, as_json: bool, target: str | None) -> None:
    """Send nothing more to an endpoint. Commands that are for it wait, new ones are for workers."""
    found = run(url, lambda store: store.push.enable(deployment, tenant_id=tenant, target=target, enabled=False))
    print_answer({"changed": found}, "disabled" if found else "it was disabled before", as_json=as_json)


def _show_secret(made: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"secret": made})
    elif made is None:
        click.echo("set")
    else:
        print_pairs([("secret", made)])
        click.echo("Give it to the receiver: it is not shown again.", err=True)
