"""`perdure deploy`, `route`, `rollback`, `versions`, `retire`, `collect` and `unload`: packages, in a store or through a server."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure import limits
from perdure.cli.remote import PATIENCE, TOKEN_FILE, token_of
from perdure.cli.shared import (
    AS_JSON,
    OF_STORE,
    PAGE,
    TRUSTED,
    print_answer,
    print_json,
    print_more,
    print_table,
    run,
    short,
    trust_in,
    visible,
    with_options,
)
from perdure.cli.store import age

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.client.client import Client
    from perdure.deploying.door import PackageDoor
    from perdure.protocol.packages import DeploymentEntry, PackageVersion, RouteView, RuleView

T = TypeVar("T")
_POINTS: Final = 100  # basis points of a per cent
_SHARE: Final = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?%|(\d{1,5})", re.ASCII)


class Place:
    """Where the packages are: a store, or the server that has it.

    Args:
        url: of the store.
        server: URL of the server; with it, the store is not opened.
        token_file: a file that holds the token.
        patience: seconds for which a request is repeated.
        actor: who does it, for a store's deployment log; a server says it of the token.
        trusted_keys: who has to have signed what is deployed into a store.
        create: the store is made if there is none.
    """

    def __init__(
        self,
        url: str,
        *,
        server: str | None,
        token_file: str | None,
        patience: float,
        actor: str | None = None,
        trusted_keys: tuple[str, ...] = (),
        create: bool = False,
    ) -> None:
        if server is not None and actor is not None:
            raise click.UsageError("--actor is for a store; a server says it of the token")
        if server is not None and create:
            raise click.UsageError("--create is for a store; a server has one")
        self.server = server
        self._url = url
        self._token_file = token_file
        self._patience = patience
        self._actor = actor
        self._trusted_keys = trusted_keys
        self._create = create

    def ask(self, work: Callable[[PackageDoor | Client], Awaitable[T]]) -> T:
        """Do the work there, and return what it returned."""
        if self.server is None:
            return run(self._url, lambda store: work(self._door(store)), create=self._create)
        import asyncio  # noqa: PLC0415  # see `cli/__init__.py`

        from perdure.client.client import Client  # noqa: PLC0415

        server = self.server

        async def remote() -> T:
            async with Client(server, token=token_of(self._token_file), token_file=self._token_file, patience=self._patience) as client:
                return await work(client)

        return asyncio.run(remote())

    def _door(self, store: Any) -> PackageDoor:
        from perdure.deploying.door import PackageDoor  # noqa: PLC0415  # see `cli/__init__.py`

        return PackageDoor(store, actor=self._actor or login(), trust=trust_in(self._trusted_keys))


def login() -> str:
    """Return who is logged in here; nobody is in some containers."""
    import getpass  # noqa: PLC0415  # see `cli/__init__.py`

    from perdure.packages.contract import UNKNOWN_ACTOR  # noqa: PLC0415

    try:
        return getpass.getuser() or UNKNOWN_ACTOR
    except (KeyError, OSError, ImportError):
        return UNKNOWN_ACTOR


_on_packages: Final = with_options(
    OF_STORE,
    click.option("--server", metavar="URL", help="Of the server that has the store, instead of the store itself."),
    TOKEN_FILE,
    PATIENCE,
    AS_JSON,
)
"""Gives a command the options that say where the packages are."""
_BY: Final = click.option(
    "--actor", help="Who does it, for the deployment log; the login name when not given. Of a server, it is the token's name."
)


# --- deploying ----------------------------------------------------------------------------------------------------------------


@click.command()
@_on_packages
@_BY
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--hash", "content_hash", help="Of the package that it has to be, 64 hex digits.")
@click.option(
    "--route", "routes", multiple=True, metavar="TYPE", help="Point only the route of this type at it; several times for several."
)
@click.option("--no-route", is_flag=True, help="Only store it.")
@click.option("--create", is_flag=True, help="Make the store if there is none.")
@click.option("--no-load", is_flag=True, help="Do not import its code for a trial: it is not to run here.")
@TRUSTED
def deploy(
    url: str,
    file: str,
    *,
    as_json: bool,
    content_hash: str | None,
    routes: tuple[str, ...],
    no_route: bool,
    no_load: bool,
    **where: Any,
) -> None:
    """Verify the package in FILE, import it for a trial, store it, and let new processes start on it.

    What its build has left beside FILE, such as the commit, goes into the deployment log.
    """
    from perdure.deploying.files import read_built_with, read_package  # noqa: PLC0415  # see `cli/__init__.py`

    place = Place(url, **where)
    if no_route and routes:
        raise click.UsageError("--route and --no-route exclude one another")
    if place.server is not None and where["trusted_keys"]:
        raise click.UsageError("--trusted-key is for a store; a server has its own")
    data = read_package(Path(file))
    given: dict[str, Any] = {
        "content_hash": content_hash,
        "routes": () if no_route else routes or None,
        "load": not no_load,
        "built_with": read_built_with(Path(file)),
    }
    with _progress(len(data), shown=not as_json, uploads=place.server is not None) as progress:
        more = given if place.server is None else {**given, "progress": progress}
        done = place.ask(lambda packages: packages.deploy(data, **more))
    for warning in done.warnings:
        click.echo(f"warning [{warning.code}]: {visible(warning.text)}", err=True)
    routed = f"new processes of {', '.join(done.routes_changed)} start on it" if done.route_changed else "no route has changed"
    stored = "stored" if done.freshly_stored else "was stored before"
    print_answer(done, visible(f"{done.name} {done.content_hash} {stored}; {routed}"), as_json=as_json)


@contextmanager
def _progress(size: int, *, shown: bool, uploads: bool) -> Iterator[Callable[[int], None]]:
    """Show on stderr how far an upload is, or that something goes on, while a terminal is looked at."""
    from rich.console import Console  # noqa: PLC0415  # see `cli/__init__.py`

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield _unseen
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*(columns if uploads else columns[:2]), console=console, transient=True) as bar:
        task = bar.add_task("uploading" if uploads else "deploying", total=size if uploads else None)
        yield lambda sent: bar.update(task, completed=sent, description="uploading" if sent < size else "deploying")


def _unseen(sent: int) -> None:
    del sent


@click.command()
@_on_packages
@_BY
@click.argument("workflow_type", metavar="TYPE")
def rollback(url: str, workflow_type: str, *, as_json: bool, **where: Any) -> None:
    """Let new processes of TYPE start on what they started on before. A second time undoes that."""
    done = Place(url, **where).ask(lambda packages: packages.rollback(workflow_type))
    print_answer(done, visible(f"new processes of {workflow_type} start on {done.content_hash}"), as_json=as_json)


@click.command()
@_on_packages
@_BY
@click.argument("workflow_type", metavar="TYPE")
def retire(url: str, workflow_type: str, *, as_json: bool, **where: Any) -> None:
    """Let no process of TYPE be started any more; those that run go on. A deploy or a new route brings it back."""
    done = Place(url, **where).ask(lambda packages: packages.retire(workflow_type))
    print_answer(done, visible(f"{workflow_type} is retired") if done.changed else "it was retired before", as_json=as_json)


# --- routes -------------------------------------------------------------------------------------------------------------------


def _share_of(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Return a share in basis points. Raises BadParameter."""
    del context, parameter
    if text is None:
        return None
    found = _SHARE.fullmatch(text)
    points = -1 if found is None else int(found[3]) if found[3] else int(found[1]) * _POINTS + int((found[2] or "").ljust(2, "0"))
    if not 0 <= points <= 100 * _POINTS:
        raise click.BadParameter(f"expected basis points from 0 to 10000, or a share such as 5% or 0.25%, found {text!r}")
    return points


@click.command()
@_on_packages
@_BY
@click.argument("workflow_type", metavar="TYPE")
@click.argument("content_hash", metavar="[HASH]", required=False)
@click.option("--show", is_flag=True, help="Only show the route.")
@click.option("--tenant", help="Only for processes of this tenant.")
@click.option(
    "--weight", callback=_share_of, metavar="SHARE", help="Only for this share of processes: basis points, or such as 5%; 0 takes it away."
)
@click.option("--remove", "away", is_flag=True, help="Take the rule of --tenant away.")
def route(
    url: str,
    workflow_type: str,
    content_hash: str | None,
    *,
    as_json: bool,
    show: bool,
    tenant: str | None,
    weight: int | None,
    away: bool,
    **where: Any,
) -> None:
    """Let new processes of TYPE start on the package of HASH, or --show on which they do."""
    place = Place(url, **where)
    if show:
        if content_hash is not None or weight is not None or away:
            raise click.UsageError("--show changes nothing: it is for TYPE and --tenant only")
        _show_route(place.ask(lambda packages: packages.route(workflow_type, tenant=tenant)), as_json=as_json)
        return
    if (content_hash is None) != away or (away and tenant is None):
        raise click.UsageError("expected HASH, --show, or --tenant with --remove")
    done = place.ask(lambda packages: packages.set_route(workflow_type, content_hash, tenant=tenant, weight=weight))
    print_answer(done, "routed" if done.changed else "it was so before", as_json=as_json)


def _show_route(found: RouteView, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    left = 100 * _POINTS - sum(rule.weight or 0 for rule in found.rules)
    rows = [
        (_for(rule), _per_cent(left if rule.weight is None else rule.weight) if rule.tenant is None else "", rule.content_hash)
        for rule in found.rules
    ]
    print_table(("for", "share", "package"), rows, empty=visible(f"{found.workflow_type} has no route: none is started from a package"))


def _for(rule: RuleView) -> str:
    if rule.tenant is not None:
        return f"tenant {rule.tenant}"
    return "the others" if rule.weight is None else "a share"


def _per_cent(points: int) -> str:
    return f"{points / _POINTS:g}%"


# --- what there is --------------------------------------------------------------------------------------------------------------


@click.command()
@_on_packages
@click.argument("workflow_type", metavar="[TYPE]", required=False)
@click.option("--log", is_flag=True, help="What was done to the versions of TYPE, and by whom, newest first.")
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="What the page before said.")
def versions(url: str, workflow_type: str | None, *, as_json: bool, log: bool, limit: int, after: str | None, **where: Any) -> None:
    """List the versions of TYPE, or of all types: on which new processes start, and what still runs on each."""
    place = Place(url, **where)
    if log:
        if workflow_type is None:
            raise click.UsageError("--log is of one TYPE")
        _show_log(place, workflow_type, as_json=as_json, limit=limit, after=after)
        return
    page = place.ask(lambda packages: packages.versions(workflow_type, processes=True, after=after, limit=limit))
    if as_json:
        print_json(page)
        return
    columns = ("type", "package", "deployed", "size", "new processes", "tenants", "still on it")
    print_table(columns, [_row(one) for one in page.versions], empty="no packages")
    if page.next is not None:
        print_more(page.next)


def _row(one: PackageVersion) -> tuple[object, ...]:
    return (
        one.workflow_type,
        short(one.content_hash),
        _at(one.deployed_at),
        f"{one.size:,}",
        _per_cent(one.share) if one.share else "",
        one.tenants or "",
        ", ".join(f"{count:,}{'+' if one.more_processes else ''} {status}" for status, count in (one.processes or {}).items()),
    )


def _show_log(place: Place, workflow_type: str, *, as_json: bool, limit: int, after: str | None) -> None:
    if after is not None and not after.isdecimal():
        raise click.BadParameter(f"expected the number that the page before said, found {after!r}", param_hint="--after")
    page = place.ask(lambda packages: packages.deployments(workflow_type, after=None if after is None else int(after), limit=limit))
    if as_json:
        print_json(page)
        return
    columns = ("at", "what", "package", "before", "for", "who")
    print_table(columns, [_line(one) for one in page.entries], empty=visible(f"nothing was done to {workflow_type}"))
    if page.next is not None:
        print_more(page.next)


def _line(one: DeploymentEntry) -> tuple[object, ...]:
    to = f"tenant {one.tenant}" if one.tenant else "" if one.weight is None else _per_cent(one.weight)
    return (_at(one.at), one.action, short(one.content_hash), short(one.previous_hash), to, one.actor)


def _at(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


# --- what goes ------------------------------------------------------------------------------------------------------------------


@click.command()
@_on_packages
@_BY
@click.argument("content_hash", metavar="HASH")
def unload(url: str, content_hash: str, *, as_json: bool, **where: Any) -> None:
    """Remove the package of HASH, to which no route leads and that no process needs."""
    gone = Place(url, **where).ask(lambda packages: packages.unload(content_hash))
    print_answer(gone, f"{gone.content_hash} is gone, {gone.size:,} bytes", as_json=as_json)


@click.command()
@_on_packages
@_BY
@click.option(
    "--keep-last",
    type=click.IntRange(min=0),
    default=limits.PACKAGE_KEEP_LAST,
    show_default=True,
    help="So many of the latest versions of each type stay.",
)
@click.option(
    "--older-than",
    type=age,
    metavar="AGE",
    default=f"{timedelta(microseconds=limits.PACKAGE_KEEP_US).days}d",
    show_default=True,
    help="What was used within this time stays: 90s, 15m, 12h or 30d.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def collect(url: str, *, as_json: bool, keep_last: int, older_than: timedelta, dry_run: bool, **where: Any) -> None:
    """Remove every package that is old, to which no route leads and that no process needs."""
    done = Place(url, **where).ask(lambda packages: packages.collect(keep_last=keep_last, older_than=older_than, dry_run=dry_run))
    if as_json:
        print_json(done)
        return
    rows = [(one.content_hash, ", ".join(one.types), f"{one.size:,}") for one in done.packages]
    print_table(("would go" if dry_run else "gone", "of types", "size"), rows, empty="nothing is old and not needed")


COMMANDS: Final = (deploy, rollback, route, versions, retire, collect, unload)
