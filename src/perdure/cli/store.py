"""`perdure store`: a store as a whole."""

from __future__ import annotations

import click

from perdure.cli.shared import FOUND_SOMETHING, print_json, print_pairs, print_table, run


@click.group()
def store() -> None:
    """A store as a whole."""


@store.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def info(url: str, *, as_json: bool) -> None:
    """Show what a store holds, and how large it is."""
    found = run(url, lambda opened: opened.info())
    if as_json:
        print_json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("place", found.place),
        ("engine", found.engine),
        ("format", found.format),
        ("migrations", ", ".join(found.migrations)),
        ("shards", found.shards),
        ("open writers", found.writers),
        ("size", f"{found.data_bytes:,} bytes, and {found.log_bytes:,} in the log"),
    ]
    print_pairs(pairs)
    click.echo()
    print_table(("table", "rows"), [(table, f"{count:,}") for table, count in found.rows.items()], empty="no tables")


@store.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def verify(url: str, *, as_json: bool) -> None:
    """Check a store against itself; exit status 4 if something does not fit."""
    from perdure.engine import verification  # noqa: PLC0415  # see `cli/__init__.py`

    found = run(url, verification.verify)
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        print_table(("tenant", "what", "detail"), found, empty="ok: everything fits")
    if found:
        raise click.exceptions.Exit(FOUND_SOMETHING)


@store.command()
@click.argument("url")
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def backup(url: str, target: str, *, as_json: bool) -> None:
    """Copy a store into the new file TARGET, while it is in use."""
    run(url, lambda opened: opened.backup(target))
    if as_json:
        print_json({"target": target})
    else:
        click.echo(f"copied to {target}")
