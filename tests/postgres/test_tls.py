"""Encrypted connections: used when the URL asks for them, and refused when the server is not the one that it should be."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from perdure.errors import StoreUnavailable
from perdure.store import open_store
from tests.postgres.adding import Add
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    """Speak as the server of a host."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(found)
    return found


@pytest.fixture
async def encrypting(postgres_server: Server, authority: trustme.CA) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_server.port, context(authority, HOST)) as proxy:
        yield proxy


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    """A file with the authority that the server's certificate is from, quoted for a URL."""
    path = tmp_path / "root.crt"
    authority.cert_pem.write_to_path(path)
    return quote(str(path), safe="")


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_every_connection_is_encrypted(url: str, encrypting: Proxy, trusted: str, mode: str) -> None:
    root = f"&sslrootcert={trusted}" if mode.startswith("verify") else ""
    async with open_store(f"{encrypting.url(url)}?sslmode={mode}{root}") as store:
        await store.commit(Add())
        await store.streams.read_value("v")

        assert len(encrypting.links) == 2
        assert all(link.encrypted for link in encrypting.links)


async def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(url: str, encrypting: Proxy, tmp_path: Path) -> None:
    path = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(path)

    with pytest.raises(StoreUnavailable, match=r"no encrypted connection: .*CERTIFICATE_VERIFY_FAILED.*; check sslmode, sslrootcert"):
        await open_store(f"{encrypting.url(url)}?sslmode=verify-full&sslrootcert={quote(str(path), safe='')}")


async def test_a_certificate_of_another_host_is_refused_if_the_name_is_to_be_verified(
    url: str, postgres_server: Server, authority: trustme.CA, trusted: str
) -> None:
    async with Proxy(postgres_server.port, context(authority, "elsewhere.example")) as proxy:
        with pytest.raises(StoreUnavailable, match=r"no encrypted connection: .*IP address mismatch"):
            await open_store(f"{proxy.url(url)}?sslmode=verify-full&sslrootcert={trusted}")
        async with open_store(f"{proxy.url(url)}?sslmode=verify-ca&sslrootcert={trusted}") as store:
            await store.commit(Add())


async def test_a_server_that_speaks_only_plainly_is_refused_if_encryption_is_required(url: str, proxy: Proxy) -> None:
    with pytest.raises(StoreUnavailable, match="rejected SSL upgrade"):
        await open_store(f"{proxy.url(url)}?sslmode=require")


async def test_a_root_certificate_that_is_not_there_is_told(url: str, encrypting: Proxy) -> None:
    with pytest.raises(StoreUnavailable, match=r"no such file: .*a certificate, that the URL names \(sslrootcert, sslcert, sslkey\)"):
        await open_store(f"{encrypting.url(url)}?sslmode=verify-full&sslrootcert=%2Fnothing.crt")
