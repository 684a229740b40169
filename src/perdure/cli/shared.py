"""What the commands share."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from perdure.packages.signing import TrustPolicy
    from perdure.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
PAGE: Final = 100
FOUND_SOMETHING: Final = 4
WHOLE: Final = 120  # characters, the longest id that stays on one line in a table
FOLDED: Final = 30  # characters, what a column of sentences is given at least
_DIGITS: Final = 12  # of a hash in a table: more than the fewest that name a package, so that they can be copied from it


AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
OF_STORE: Final = click.option(
    "--store", "url", default="sqlite:///perdure.db", envvar="PERDURE_STORE", show_default=True, show_envvar=True, help="URL of the store."
)
TRUSTED: Final = click.option(
    "--trusted-key",
    "trusted_keys",
    multiple=True,
    metavar="KEY",
    help="Refuse the package unless this key has signed it, or another one that is given.",
)


def with_options(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return what gives a command these options, in this order."""

    def given(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return given


on_store: Final = with_options(
    OF_STORE, click.option("--tenant", default="default", show_default=True, help="Which tenant to look into."), AS_JSON
)
"""Gives a command the options of every look into a store."""


def run(url: str, work: Callable[[Store], Awaitable[T]], *, create: bool = False) -> T:
    """Open a store, or make it if `create`; do the work, close it; return what it returned."""
    from perdure.store import open_store  # noqa: PLC0415  # see `cli/__init__.py`

    async def opened() -> T:
        async with open_store(url, create=create) as store:
            return await work(store)

    return asyncio.run(opened())


def named(name: str, kind: type[T], *, what: str, default: str = "", wrong: Callable[[str], Exception] | None = None) -> T:
    """Return what MODULE:NAME names, importing the module from the present folder.

    Args:
        name: as it was given.
        kind: what it has to be.
        what: what errors call it.
        default: the NAME of a module that stands alone; without it, that is an error.
        wrong: makes the error, instead of UsageError.
    """
    from perdure.errors import UsageError  # noqa: PLC0415  # see `cli/__init__.py`

    wrong = wrong or UsageError
    module, _, attribute = name.partition(":")
    attribute = attribute or default
    if not (module and attribute):
        raise wrong(f"{what} {name!r}: expected MODULE:NAME, such as shop.main:{kind.__name__.lower()}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise wrong(f"{what} {name!r}: {error}; run this where `import {module}` works") from error
    except SystemExit as error:  # its status would be taken for the answer of the command
        raise wrong(f"{what} {name!r}: importing it ends the program; keep what it runs behind `if __name__ == '__main__':`") from error
    if not isinstance(found, kind):
        raise wrong(f"{what} {name!r}: expected a perdure.{kind.__name__}, found {found!r}")
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON data."""
    import msgspec  # noqa: PLC0415  # see `cli/__init__.py`

    return msgspec.to_builtins(value, enc_hook=str)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_answer(value: Any, text: str, *, as_json: bool) -> None:
    """Print what a command has done: one JSON document for programs, one line for people."""
    if as_json:
        print_json(value)
    else:
        click.echo(text)


def print_more(after: object) -> None:
    """Say on stderr how to get the next page."""
    click.echo(f"more: --after {after}", err=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table for people, `empty` when it has no rows. A terminal is not shown columns in which nothing stands."""
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console  # noqa: PLC0415  # see `cli/__init__.py`
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    filled: list[tuple[str, list[str]]] = [
        (column, ["" if row[number] is None else visible(str(row[number])) for row in rows]) for number, column in enumerate(columns)
    ]
    if sys.stdout.isatty():
        filled = [(column, cells) for column, cells in filled if any(cells)]
    table, needed = Table(box=None, pad_edge=False, header_style="bold"), 0
    for column, cells in filled:
        longest = max(len(text) for text in (column, *cells))
        # An id or a time that is folded can be neither read nor copied: rather let the terminal break the line.
        whole = longest <= (FOLDED if any(" " in cell for cell in cells) else WHOLE)
        table.add_column(column, overflow="fold", no_wrap=whole)
        needed += (longest if whole else FOLDED) + len("  ")
    for row in zip(*(cells for _, cells in filled), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    # Piped output is for other programs: it is not cut to the width of some terminal.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    # With a height, the width counts on a dumb terminal, too.
    Console(width=max(width, needed), height=25).print(table)


def short(content_hash: str | None) -> str | None:
    """Return what of a hash stands in a table."""
    return None if content_hash is None else content_hash[:_DIGITS]


def trust_in(keys: Sequence[str]) -> TrustPolicy | None:
    """Return the policy that takes what one of these keys has signed; None, which takes everything, without any. Raises UsageError."""
    from perdure.packages.signing import TrustPolicy  # noqa: PLC0415  # see `cli/__init__.py`

    return TrustPolicy(keys) if keys else None


def visible(text: str) -> str:
    """Return text that a terminal only shows."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {visible('' if value is None else str(value))}")


def when(micros: int | None) -> str:
    """Return a time as text; nothing for none."""
    from perdure.clock import text_of  # noqa: PLC0415  # see `cli/__init__.py`

    return "" if micros is None else text_of(micros)
