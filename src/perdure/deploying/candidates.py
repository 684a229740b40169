"""Code that may come to run the processes of a store: an app, or a package that is loaded for as long as it is looked at.

A package is loaded into this interpreter, beside everything else, under names of its own. A check is a program of its own that
ends with its answer, and turns are replayed with live objects: a second interpreter would have to be handed the whole record. Who checks
packages inside of a service starts the command line for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

from perdure.engine.app import App, ProcessType
from perdure.engine.packaged import TypeSchemas, check_shared, code_of, schemas_of, types_of
from perdure.engine.upcasting import Known
from perdure.errors import DefinitionError
from perdure.identity import ContentHash
from perdure.packages.archive import Package, unpack
from perdure.packages.loading import Loaded, load, unload
from perdure.packages.signing import TrustPolicy


class Candidate(NamedTuple):
    """Code that is looked at before it runs.

    Attributes:
        name: of the app or of the package.
        package: its hash; None for an app.
        types: its process types, by name.
        schemas: of each of them; a type that has no schema is not in it, and only values are tried on it.
        upcasters: likewise, of the app of each type.
    """

    name: str
    package: ContentHash | None
    types: Mapping[str, ProcessType]
    schemas: Mapping[str, TypeSchemas]
    upcasters: Mapping[str, Known]


def candidate_of_app(app: App) -> Candidate:
    """Return an app as a candidate."""
    return _candidate(app.name, None, app.types)


@asynccontextmanager
async def candidate_of_archive(archive: bytes, *, trust: TrustPolicy | None = None) -> AsyncIterator[Candidate]:
    """Load a package, which runs its modules in this process, and use it as a candidate until the block is left.

    Args:
        archive: its bytes.
        trust: who has to have signed it; None for anybody or nobody.

    Raises:
        PackageRefused: the archive is none that is taken here; PackageUntrusted, for want of a signature; PackageIsolationUnavailable, for it
            asks for an interpreter of its own. None of its code ran.
        PackageRequirementUnmet: this environment has not what it needs; likewise.
        PackageImportFailed, PackageEntryMissing, PackageSchemaDrift: it cannot be loaded here.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="perdure-candidate") as thread:
        package, loaded = await loop.run_in_executor(thread, _loaded, archive, trust)
        try:
            types = await loop.run_in_executor(thread, types_of, loaded, package.manifest)
            yield _candidate(package.manifest.name, package.identity, types)
        finally:
            unload(loaded)


def _loaded(archive: bytes, trust: TrustPolicy | None) -> tuple[Package, Loaded]:
    package = unpack(archive, trust=trust)
    check_shared(package, "a check")
    return package, load(code_of(package))


def _candidate(name: str, package: ContentHash | None, types: Mapping[str, ProcessType]) -> Candidate:
    schemas = {one: found for one, made in types.items() if (found := _schemas(made)) is not None}
    return Candidate(name, package, types, schemas, {one: made.app.upcasting.known() for one, made in types.items()})


def _schemas(made: ProcessType) -> TypeSchemas | None:
    try:
        return schemas_of(made)
    except DefinitionError:
        return None  # a local type may have messages without a schema; values are tried on it all the same
