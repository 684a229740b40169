"""`perdure processes move` and `perdure package move`: processes go on on another version of their code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure.cli.deploying import login
from perdure.cli.shared import (
    AS_JSON,
    OF_STORE,
    TRUSTED,
    on_store,
    print_answer,
    print_json,
    print_table,
    run,
    short,
    trust_in,
    visible,
    with_options,
)

if TYPE_CHECKING:
    from perdure.deploying.door import PackageDoor
    from perdure.deploying.moving import Moving, TriedMove
    from perdure.store import Store

T = TypeVar("T")
REFUSED: Final = 1
_by: Final = with_options(TRUSTED, click.option("--actor", help="Who does it; it stands in the timelines. The login name when not given."))


def _moving(url: str, work: Callable[[Moving, PackageDoor], Awaitable[T]], *, actor: str | None, trusted_keys: tuple[str, ...]) -> T:
    from perdure.deploying.door import PackageDoor  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.deploying.moving import Moving  # noqa: PLC0415

    async def opened(store: Store) -> T:
        moving = Moving(store, actor=actor or login(), trust=trust_in(trusted_keys))
        try:
            return await work(moving, PackageDoor(store))
        finally:
            await moving.close()

    return run(url, opened)


@click.command()
@on_store
@_by
@click.argument("process_id")
@click.argument("content_hash", metavar="HASH")
def move(url: str, tenant: str, process_id: str, content_hash: str, *, as_json: bool, **by: Any) -> None:
    """Let a process go on on the package of HASH, after its open turn was replayed by that code; a stuck or stranded one goes on.

    The package is imported here. Nothing is written when it cannot go on with the process.
    """

    async def work(moving: Moving, door: PackageDoor) -> tuple[str, bool]:
        package = await door.named(content_hash)
        return package, await moving.move(process_id, package, tenant=tenant)

    package, moved = _moving(url, work, **by)
    print_answer(
        {"process_id": process_id, "content_hash": package, "moved": moved},
        visible(f"moved to {package}" if moved else f"it was on {package} already"),
        as_json=as_json,
    )


@click.command("move")
@AS_JSON
@click.option("--tenant", help="Only processes of this tenant.")
@click.option("--dry-run", is_flag=True, help="Only say which could be moved.")
@click.option("--from", "origin", metavar="HASH", help="Only processes on this package; local for code of no package.")
@click.option("--type", "process_type", required=True, metavar="TYPE", help="Of the processes.")
@OF_STORE
@_by
@click.argument("content_hash", metavar="HASH")
def move_all(
    url: str, content_hash: str, *, process_type: str, origin: str | None, tenant: str | None, dry_run: bool, as_json: bool, **by: Any
) -> None:
    """Let the processes of a type go on on the package of HASH: each whose open turn it can go on with, in a transaction of its own.

    Ends with 1 when one was refused; the others are moved all the same. The package is imported here.
    """
    from perdure import limits  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.deploying.moving import LOCAL  # noqa: PLC0415

    refused: list[TriedMove] = []
    counts = {"moved": 0, "refused": 0}

    async def work(moving: Moving, door: PackageDoor) -> str:
        package = await door.named(content_hash)
        before = origin if origin is None or origin == LOCAL else await door.named(origin)
        async for tried in moving.move_all(package, process_type, origin=before, tenant=tenant, dry_run=dry_run):
            counts["moved" if tried.moved else "refused"] += 1
            if not tried.moved and len(refused) < limits.CHECK_FINDINGS_MAX:
                refused.append(tried)
        return package

    package = _moving(url, work, **by)
    if as_json:
        print_json({"content_hash": package, "dry_run": dry_run, **counts, "processes": refused})
    else:
        _print(package, refused, counts, dry_run=dry_run)
    if counts["refused"]:
        raise click.exceptions.Exit(REFUSED)


def _print(package: str, refused: list[TriedMove], counts: dict[str, int], *, dry_run: bool) -> None:
    rows = [(one.process_id, one.tenant_id, short(one.origin or "local"), one.code, one.reason) for one in refused]
    if rows:
        print_table(("refused", "tenant", "on", "error", "why"), rows, empty="")
        click.echo()
    if counts["refused"] > len(refused):
        click.echo(f"… and {counts['refused'] - len(refused):,} more")
    done = "could be moved" if dry_run else "moved"
    click.echo(f"{counts['moved']:,} {done} to {package}, {counts['refused']:,} refused")
