"""The command line: looking into a store, and the few things that people do to it.

Tables are for people, `--json` is for programs. Errors go to stderr with their code; the exit status says their kind:
1 refused or not found, 2 wrong usage, 3 the store, 4 `verify` found something.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from perdure.cli import (
    awakeables,
    checking,
    commands,
    deploying,
    messages,
    package,
    processes,
    push,
    remote,
    schedules,
    serving,
    store,
    tokens,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure")
def cli() -> None:
    """Durable, message-driven processes on your own database."""


for _group in (
    store.store,
    processes.processes,
    messages.messages,
    commands.commands,
    awakeables.awakeables,
    schedules.schedules,
    push.push,
    package.package,
    checking.check_upgrade,
    tokens.token,
    serving.serve,
    remote.send,
    remote.call,
    remote.worker,
    *deploying.COMMANDS,
):
    cli.add_command(_group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    from perdure.errors import PerdureError  # noqa: PLC0415  # `--help` needs nothing of the rest

    try:
        status = cli.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except PerdureError as error:
        click.echo(f"error [{error.code}]: {error}", err=True)
        sys.exit(_status(error))
    except BrokenPipeError:  # the reader of a long list has seen enough
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def _status(error: Exception) -> int:
    from perdure.errors import StoreError, UsageError  # noqa: PLC0415  # see `main`

    if isinstance(error, UsageError):
        return 2
    return 3 if isinstance(error, StoreError) else 1
