"""`perdure package`: packages before they are in a store."""

from __future__ import annotations

import click

from perdure.cli.checking import check


@click.group()
def package() -> None:
    """Process code as one file."""


package.add_command(check)
