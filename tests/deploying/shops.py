"""Packages of a shop to deploy: their archives, what is seen of them in a store, and keys that sign them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec

from perdure import limits
from perdure.deploying.trial import try_load
from perdure.operations.tables import SCHEMA
from perdure.packages.archive import pack, unpack, with_signatures
from perdure.packages.manifest import ManifestProcess, describe
from perdure.packages.signing import Signature, public_key, sign
from perdure.packages.tables import PACKAGE
from perdure.schemas import schema_of
from perdure.store import Store
from tests.deploying.samples import FLOWS, archived


class Fields(msgspec.Struct):
    """What the processes of a shop keep."""

    total: int


@functools.cache
def shop(number: int = 1, *types: str) -> bytes:
    """Return version `number` of a package that is never imported, of these types (`Order`, `Refund`), with a schema."""
    ref, schemas = schema_of(Fields)
    files = {"shop/__init__.py": b"", "shop/flows.py": f"VERSION = {number}\n".encode()}
    rows = [ManifestProcess(type=each, object="shop.flows:Made", fields=ref.hash, messages=()) for each in types or ("Order", "Refund")]
    return pack(describe(files, name="shop", python=">=3.11", processes=rows, schemas=schemas), files)


def without_types() -> bytes:
    files = {"shop/__init__.py": b""}
    return pack(describe(files, name="shop", python=">=3.11"), files)


async def importable(flows: str = FLOWS) -> bytes:
    """Return a package that can be imported, of the types `Order` and `hello`."""
    found = await try_load(archived(flows), modules=("shop.flows",))
    return archived(flows, processes=found.processes, schemas=found.schemas)


def identity(archive: bytes) -> str:
    return unpack(archive).identity


# --- signatures -----------------------------------------------------------------------------------------------------------


def key(number: int) -> str:
    return public_key(_seed(number))


def signed(archive: bytes, *numbers: int) -> bytes:
    """Return the archive, signed with the keys of these numbers."""
    name = unpack(archive).identity
    return with_signatures(archive, [sign(name, _seed(number)) for number in numbers])


def forged(archive: bytes, number: int) -> bytes:
    """Return the archive with a signature that this key has not made."""
    return with_signatures(archive, [Signature(algorithm="ed25519", key=key(number), signature="00" * 64)])


def _seed(number: int) -> bytes:
    return bytes([number]) * 32


async def signers(store: Store, archive: bytes) -> set[str]:
    """Return the keys that have signed what is stored."""
    stored = (await store.packages.get_package(identity(archive))).archive
    return {signature.key for signature in unpack(stored).signatures}


# --- what is there ----------------------------------------------------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True):
    """What a deploy leaves in a store."""

    archives: int
    schemas: int
    routes: dict[str, str]
    logged: int


NOTHING = Seen(archives=0, schemas=0, routes={}, logged=0)


async def seen(store: Store, *, types: Sequence[str] = ("Order", "Refund")) -> Seen:
    reader = store.access.reader
    routes = {route.workflow_type: route.content_hash for route in await store.packages.list_package_routes()}
    logged = [len(await store.packages.deployments(each, limit=limits.PAGE_MAX)) for each in types]
    return Seen(archives=await reader.count(PACKAGE), schemas=await reader.count(SCHEMA), routes=routes, logged=sum(logged))
