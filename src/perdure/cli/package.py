"""`perdure package`: packages before they are in a store, and processes that go on on another one."""

from __future__ import annotations

import click

from perdure.cli.building import build, inspect, key, sign
from perdure.cli.checking import check
from perdure.cli.moving import move_all


@click.group()
def package() -> None:
    """Process code as one file."""


package.add_command(build)
package.add_command(inspect)
package.add_command(key)
package.add_command(sign)
package.add_command(check)
package.add_command(move_all)
