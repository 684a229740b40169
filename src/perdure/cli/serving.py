"""`perdure serve`: an app over HTTP."""

from __future__ import annotations

import asyncio
import os

import click

from perdure.cli.shared import named


@click.command()
@click.option("--store", help="URL of the store; it is made if there is none.")
@click.option("--app", metavar="MODULE:NAME", help="The app, as it is imported from here; without one, only packages run.")
@click.option("--host", help="Name or address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 takes a free one.  [default: 8080]")
@click.option("--dev", is_flag=True, default=None, help="Ask for no tokens; on loopback only.")
@click.option("--config", "file", type=click.Path(dir_okay=False), help="A TOML file with these options as keys.")
@click.option("--tls-cert", metavar="FILE", help="The certificate and its chain, PEM.")
@click.option("--tls-key", metavar="FILE", help="Its key, PEM.")
@click.option(
    "--push-allowed",
    multiple=True,
    metavar="NETWORK|HOST",
    help="Where commands may be sent beyond the public internet, such as 10.0.0.0/8 or hooks.internal; several times for several.",
)
@click.option(
    "--trusted-keys",
    multiple=True,
    metavar="KEY",
    help="Public keys whose packages are taken, 64 hex digits each; several times for several.",
)
@click.option(
    "--require-signature/--no-require-signature",
    default=None,
    help="Whether a package that none of them has signed is refused.  [default: it is]",
)
@click.option(
    "--strict/--no-strict",
    default=None,
    help="Whether the server is not ready while open processes are on packages that it cannot load.  [default: it is not]",
)
def serve(*, file: str | None, push_allowed: tuple[str, ...], trusted_keys: tuple[str, ...], **given: object) -> None:
    """Run an app, and what is deployed, and serve it over HTTP, until SIGTERM or SIGINT.

    Each option can also be a variable of the environment, PERDURE_STORE and so on, or a key of the file that --config names.
    The command line stands before the environment, and that before the file.
    """
    from perdure.engine.app import App  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.errors import ConfigInvalid  # noqa: PLC0415
    from perdure.server.config import load_config  # noqa: PLC0415
    from perdure.server.program import serve as run  # noqa: PLC0415

    several = {"push_allowed": push_allowed or None, "trusted_keys": trusted_keys or None}
    config = load_config({**given, **several}, environment=os.environ, file=file)
    app = App("packages") if config.app is None else named(config.app, App, what="app:", wrong=ConfigInvalid)
    asyncio.run(run(config, app, say=click.echo))
