"""`perdure send`, `perdure call` and `perdure worker`: over HTTP, from anywhere."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any, Final

import click

from perdure.cli.shared import AS_JSON, named, print_answer, print_json, with_options

TOKEN_FILE: Final = click.option(
    "--token-file",
    envvar="PERDURE_TOKEN_FILE",
    show_envvar=True,
    type=click.Path(dir_okay=False),
    help="A file that holds the server's token.",
)
PATIENCE: Final = click.option(
    "--patience",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds for which it is tried again while the server cannot be reached.",
)
on_server: Final = with_options(
    click.option("--url", envvar="PERDURE_URL", show_envvar=True, required=True, help="Of the server."),
    PATIENCE,
    TOKEN_FILE,
    click.option("--tenant", default="default", show_default=True, help="Whose things are meant."),
    AS_JSON,
)
"""Gives a command the options of every request to a server."""


@click.command()
@on_server
@click.argument("kind")
@click.argument("payload", default="{}")
@click.option("--id", "message_id", required=True, help="Of the message: one that was accepted before is not handled again.")
@click.option("--source", default="", help="Who sends it, when senders number their messages independently.")
@click.option("--process", help="To the process of this id.")
@click.option("--key", help="To the process that holds this key.")
@click.option("--tag", help="To all processes under this tag.")
def send(
    url: str,
    tenant: str,
    kind: str,
    payload: str,
    *,
    as_json: bool,
    token_file: str | None,
    patience: float,
    message_id: str,
    **to: str | None,
) -> None:
    """Deliver a message of KIND; PAYLOAD is JSON, or - for what comes on stdin. Without an address, the app says where it goes."""
    from perdure.client.sync import SyncClient  # noqa: PLC0415  # see `cli/__init__.py`

    source = to.pop("source") or ""
    with SyncClient(url, token_file=token_file, tenant=tenant, token=token_of(token_file), patience=patience) as client:
        accepted = client.deliver(_payload(payload), id=message_id, kind=kind, to=_to(**to), source=source)
    again = ", as it was before" if accepted.duplicate else ""
    where = "" if accepted.process_id is None else f" for process {accepted.process_id}"
    print_answer(accepted, f"accepted{again}: {accepted.status}{where}", as_json=as_json)


@click.command()
@on_server
@click.argument("kind")
@click.argument("payload", default="{}")
@click.option("--id", "message_id", required=True, help="Of the message: one that was answered before gets the same answer.")
@click.option("--source", default="", help="Who sends it, when senders number their messages independently.")
@click.option("--process", help="To the process of this id.")
@click.option("--key", help="To the process that holds this key.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait; the message is handled in any case.")
def call(
    url: str,
    tenant: str,
    kind: str,
    payload: str,
    *,
    as_json: bool,
    token_file: str | None,
    patience: float,
    message_id: str,
    timeout: float,
    **to: str | None,
) -> None:
    """Deliver a message of KIND and print its reply, as JSON. PAYLOAD is JSON, or - for what comes on stdin."""
    from perdure.client.sync import SyncClient  # noqa: PLC0415  # see `cli/__init__.py`

    del as_json  # it is JSON in any case
    source = to.pop("source") or ""
    with SyncClient(url, token_file=token_file, tenant=tenant, token=token_of(token_file), patience=patience) as client:
        print_json(
            client.call(_payload(payload), id=message_id, kind=kind, to=_to(**to, tag=None), source=source, timeout=_duration(timeout))
        )


@click.command()
@click.argument("worker", metavar="MODULE:NAME")
def worker(worker: str) -> None:
    """Run a worker until SIGTERM or SIGINT: then it finishes what it has, or gives it back."""
    import logging  # noqa: PLC0415  # see `cli/__init__.py`

    from perdure.worker.worker import Worker  # noqa: PLC0415

    found = named(worker, Worker, what="worker", default="worker")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    found.run()


def token_of(token_file: str | None) -> str | None:
    """Return the token of the environment, unless a file has it."""
    import os  # noqa: PLC0415  # see `cli/__init__.py`

    return None if token_file else os.environ.get("PERDURE_TOKEN")


def _duration(seconds: float) -> timedelta:
    try:
        found = timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        found = timedelta(-1)
    if found < timedelta(0):
        raise click.BadParameter(f"expected seconds, 0 or more, found {seconds}", param_hint="--timeout")
    return found


def _payload(text: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise click.BadParameter(f"expected JSON: {error}", param_hint="PAYLOAD") from None


def _to(*, process: str | None, key: str | None, tag: str | None) -> Any:
    from perdure.protocol.messages import ToKey, ToProcess, ToTag  # noqa: PLC0415  # see `cli/__init__.py`

    found = [make(name) for make, name in ((ToProcess, process), (ToKey, key), (ToTag, tag)) if name is not None]
    if len(found) > 1:
        raise click.UsageError("--process, --key and --tag exclude one another")
    return found[0] if found else None
