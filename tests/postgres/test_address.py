"""The URL of a store on PostgreSQL: what it may say, and what is said of one that cannot be."""

from __future__ import annotations

import re
import traceback

import pytest

from perdure.backends.postgres.address import parse
from perdure.errors import StoreUnavailable, UnknownScheme, UsageError
from perdure.store import open_store
from tests.postgres.server import Server, database_of

SECRET = "sesame"


def servers(url: str) -> list[str]:
    """Return the URLs of the driver's."""
    return list(parse(url).servers)


def test_what_is_not_said_has_a_default() -> None:
    address = parse("postgresql:///shop")

    assert address.servers == ("postgresql://localhost:5432/shop",)
    assert (address.schema, address.pooler, address.place) == ("perdure", False, "postgresql:///shop?schema=perdure")


def test_the_place_that_people_are_shown_has_no_password() -> None:
    address = parse(f"postgresql://me:{SECRET}@db:6000/shop?schema=a&password={SECRET}&sslpassword={SECRET}")

    assert address.place == "postgresql://db:6000/shop?schema=a"
    assert address.servers == (f"postgresql://me:{SECRET}@db:6000/shop?password={SECRET}&sslpassword={SECRET}",)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://a/s", ["postgresql://a:5432/s"]),
        ("postgres://a:1/s", ["postgresql://a:1/s"]),
        ("postgresql://me@a,b:2,c/s", ["postgresql://me@a:5432/s", "postgresql://me@b:2/s", "postgresql://me@c:5432/s"]),
        ("postgresql:///s?host=a,b&port=1,2", ["postgresql://a:1/s", "postgresql://b:2/s"]),
        ("postgresql:///s?host=a,b&port=7", ["postgresql://a:7/s", "postgresql://b:7/s"]),
        ("postgresql://a/s?port=7", ["postgresql://a:7/s"]),
        ("postgresql://[::1]/s", ["postgresql://[::1]:5432/s"]),
        ("postgresql://[2001:db8::1]:6/s", ["postgresql://[2001:db8::1]:6/s"]),
        ("postgresql:///s?host=/var/run/pg", ["postgresql:///s?host=%2Fvar%2Frun%2Fpg&port=5432"]),
        ("postgresql://me@/s?host=/var/run/pg&port=6", ["postgresql://me@/s?host=%2Fvar%2Frun%2Fpg&port=6"]),
        ("postgresql:///s?host=/one,/two", ["postgresql:///s?host=%2Fone&port=5432", "postgresql:///s?host=%2Ftwo&port=5432"]),
        ("postgresql://me:a%40b%2Fc%23d@a/s", ["postgresql://me:a%40b%2Fc%23d@a:5432/s"]),
        ("postgresql://a/odd%20name", ["postgresql://a:5432/odd%20name"]),
    ],
)
def test_each_server_of_a_url_is_a_url_of_its_own(url: str, expected: list[str]) -> None:
    assert servers(url) == expected


def test_what_the_driver_knows_is_passed_on_and_what_is_ours_is_not() -> None:
    address = parse("postgresql://a/s?sslmode=verify-full&sslrootcert=/ca.pem&schema=mine&pooler=transaction&application_name=b%20c")

    assert address.servers == ("postgresql://a:5432/s?sslmode=verify-full&sslrootcert=%2Fca.pem",)
    assert address.name == "b c"
    assert (address.schema, address.pooler) == ("mine", True)
    assert not parse("postgresql://a/s?pooler=none").pooler


BAD = {
    "postgresql://u:sesame@a/s#x": "fragment",
    "postgresql://u:ses#ame@a/s": "write %23",
    "postgresql://u:ses/ame@a/s": "write %23",
    "postgresql://u:ses?ame@a/s": "write %23",
    "postgresql://u:sesame@home@a/s": "write %40",
    "postgresql://u:sesame@[::1/s": "cannot be read",
    "postgresql://u:sesame\u2100@a/s": "cannot be read",
    "postgresql://u:sesame@a/s?password": "cannot be read",
    "postgresql://u:sesame@a/s?schemas=b": "expected parameters among .*; found schemas",
    "postgresql://u:sesame@a/s?target_session_attrs=any": "found target_session_attrs",
    "postgresql://u:sesame@a/s?schema=": "schema ''",
    "postgresql://u:sesame@a/s?schema=Shop": "schema 'Shop'",
    "postgresql://u:sesame@a/s?schema=1a": "schema '1a'",
    "postgresql://u:sesame@a/s?schema=pg_shop": "schema 'pg_shop'",
    "postgresql://u:sesame@a/s?schema=a;drop": "schema 'a;drop'",
    f"postgresql://u:sesame@a/s?schema={'a' * 64}": "1 to 63",
    "postgresql://u:sesame@a/s?pooler=session": "pooler 'session'",
    "postgresql://u:sesame@a:port/s": "expected host:port.*found 'a:port'",
    "postgresql://u:sesame@a:0/s": "found 'a:0'",
    "postgresql://u:sesame@a:65536/s": "found 'a:65536'",
    "postgresql://u:sesame@a,b:x/s": "found 'b:x'",
    "postgresql://u:sesame@::1/s": "found '::1'",
    "postgresql:///s?host=a&port=1,2": "expected one port, or one for each of 1 hosts; found 2",
    "postgresql://u:sesame@a,b,c/s?port=1,2": "found 2",
}


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_gets_a_clear_error_that_does_not_show_the_password(url: str) -> None:
    with pytest.raises(UsageError, match=BAD[url]) as caught:
        open_store(url)

    told = "".join(traceback.format_exception_only(caught.value))
    assert SECRET not in told
    assert not re.search(r"\b(ses|ame)\b", told), "nor a part of it"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_scheme_that_nobody_knows_is_told_without_the_rest() -> None:
    with pytest.raises(UnknownScheme, match="found scheme 'postgressql'") as caught:
        open_store(f"postgressql://me:{SECRET}@a/s")

    assert SECRET not in str(caught.value)


async def test_what_only_the_driver_can_judge_is_told_without_the_password_too(postgres_url: str) -> None:
    url = postgres_url.replace("postgres@", f"postgres:{SECRET}@")

    for bad, text in {f"{url}?sslmode=often": "sslmode", f"{url}?sslmode=require": "postgresql://127.0.0.1"}.items():
        with pytest.raises((UsageError, StoreUnavailable), match=text) as caught:
            await open_store(bad)

        assert SECRET not in str(caught.value)


async def test_a_server_is_reached_by_its_socket_behind_one_that_is_not_there_and_in_a_schema_of_choice(
    postgres_server: Server, postgres_url: str
) -> None:
    name, port = database_of(postgres_url), postgres_server.port
    ways = [
        postgres_server.socket_url(name),
        f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/{name}",
        f"postgresql:///{name}?user=postgres&host=127.0.0.1&port={port}&sslmode=disable&schema=elsewhere",
    ]

    for url in ways:
        async with open_store(url) as store:
            await store.streams.cas(url, None, 1)

    for url, appended in zip(ways, (2, 2, 1), strict=True):
        async with open_store(url, create=False) as store:
            assert (await store.info()).rows["value"] == appended
