"""`perdure token`: who may do what over HTTP."""

from __future__ import annotations

import click

from perdure.cli.shared import AS_JSON, OF_STORE, PAGE, plain, print_answer, print_json, print_more, print_pairs, print_table, run, when
from perdure.cli.store import age


@click.group()
def token() -> None:
    """Tokens: who may do what over HTTP."""


@token.command()
@OF_STORE
@AS_JSON
@click.argument("name")
@click.option("--tenant", required=True, help="Whose things it reaches: one tenant, or '*' for all.")
@click.option(
    "--allow",
    "grants",
    multiple=True,
    required=True,
    metavar="CAPABILITY",
    help="deliver, read, admin, deploy, command:send, command:work=DEPLOYMENT/TARGET, or command:work=DEPLOYMENT for commands without a target; several times for several.",
)
@click.option("--expires-in", "lasting", type=age, metavar="AGE", help="90s, 15m, 12h or 30d; never when not given.")
def create(url: str, name: str, tenant: str, grants: tuple[str, ...], *, as_json: bool, lasting: object) -> None:
    """Make a token for NAME and show it, this once.

    A token that replaces another has the same NAME: make it, hand it over, then revoke the old one.
    """
    from perdure.engine.process import micros  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.tokens.contract import Grant  # noqa: PLC0415

    given = [Grant.parse(text) for text in grants]
    made = run(
        url,
        lambda opened: opened.tokens.create(name, given, tenant=tenant, lasting=None if lasting is None else micros(lasting)),  # type: ignore[arg-type]  # `age` makes timedeltas
    )
    if as_json:
        print_json({"token": made.text, "id": made.info.token_id})
        return
    print_pairs([("token", made.text), ("id", made.info.token_id), ("expires", when(made.info.expires_at) or "never")])
    click.echo("Keep it: only its hash is stored, and it is not shown again.", err=True)


@token.command("list")
@OF_STORE
@AS_JSON
@click.option("--limit", default=PAGE, show_default=True, help="Rows of a page.")
@click.option("--after", help="Id of the last row of the page before.")
def list_tokens(url: str, *, as_json: bool, limit: int, after: str | None) -> None:
    """List tokens in the order of their making, without their secrets."""
    found = run(url, lambda opened: opened.tokens.list_tokens(after=after, limit=limit))
    if as_json:
        print_json([{**plain(one), "grants": [str(grant) for grant in one.grants]} for one in found])
        return
    rows = [
        (
            one.token_id,
            one.name,
            one.tenant,
            ", ".join(map(str, one.grants)),
            when(one.created_at),
            when(one.expires_at),
            when(one.revoked_at),
        )
        for one in found
    ]
    print_table(("id", "name", "tenant", "allows", "created", "expires", "revoked"), rows, empty="no tokens")
    if len(found) == limit:
        print_more(found[-1].token_id)


@token.command()
@OF_STORE
@AS_JSON
@click.argument("token_id")
def revoke(url: str, token_id: str, *, as_json: bool) -> None:
    """Let the token of this id be valid no longer, at once."""
    first = run(url, lambda opened: opened.tokens.revoke(token_id))
    print_answer({"revoked": first}, "revoked" if first else "it was revoked before", as_json=as_json)
