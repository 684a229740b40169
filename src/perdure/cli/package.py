"""`perdure package`: packages before they are in a store."""

from __future__ import annotations

import click

from perdure.cli.building import build, inspect, key, sign
from perdure.cli.checking import check


@click.group()
def package() -> None:
    """Process code as one file."""


package.add_command(build)
package.add_command(inspect)
package.add_command(key)
package.add_command(sign)
package.add_command(check)
