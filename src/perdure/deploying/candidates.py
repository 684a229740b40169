"""Code that may come to run the processes of a store: an app, or a package that is loaded for as long as it is looked at.

A package that shares the interpreter is loaded into this one, beside everything else, under names of its own; one that does not gets
its own here, too. A check is a program of its own that ends with its answer: who checks packages inside of a service starts the
command line for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from perdure.engine.apart.trials import code_apart
from perdure.engine.app import App, ProcessType
from perdure.engine.packaged import TypeSchemas, code_of, schemas_of, types_of
from perdure.engine.trying import Code, CodeFailed, LocalCode
from perdure.engine.upcasting import Leads
from perdure.errors import DefinitionError, PackageImportFailed
from perdure.identity import ContentHash
from perdure.packages.archive import Package, unpack
from perdure.packages.loading import load, unload
from perdure.packages.signing import TrustPolicy
from perdure.store import Store


class Candidate(NamedTuple):
    """Code that is looked at before it runs.

    Attributes:
        name: of the app or of the package.
        package: its hash; None for an app.
        kinds: of message that each of its process types has a handler for.
        schemas: of each type; one that has no schema is not in it, and only values are tried on it.
        upcasters: of the app of each type.
        code: what is tried on it.
    """

    name: str
    package: ContentHash | None
    kinds: Mapping[str, Collection[str]]
    schemas: Mapping[str, TypeSchemas]
    upcasters: Mapping[str, Leads]
    code: Code


def candidate_of_app(app: App) -> Candidate:
    """Return an app as a candidate."""
    schemas = {name: found for name, made in app.types.items() if (found := _schemas(made)) is not None}
    leads = app.upcasting.known().leads
    return Candidate(
        name=app.name,
        package=None,
        kinds={name: made.handlers.keys() for name, made in app.types.items()},
        schemas=schemas,
        upcasters=dict.fromkeys(app.types, leads),
        code=LocalCode(app.types),
    )


@asynccontextmanager
async def candidate_of_archive(
    archive: bytes, store: Store, *, trust: TrustPolicy | None = None, environments: Path | None = None
) -> AsyncIterator[Candidate]:
    """Load a package, which runs its modules, and use it as a candidate until the block is left.

    Args:
        archive: its bytes.
        store: whose clock and randomness an interpreter of its own goes by.
        trust: who has to have signed it; None for anybody or nobody.
        environments: where those of packages with interpreters of their own are kept; the user's folder of caches when not given.

    Raises:
        PackageRefused: the archive is none that is taken here; PackageUntrusted, for want of a signature; PackageIsolationUnavailable, for it
            cannot have an interpreter of its own here. None of its code ran.
        PackageRequirementUnmet, PackageEnvironmentFailed: its environment has not what it needs, or cannot be built; likewise.
        PackageImportFailed, PackageEntryMissing, PackageSchemaDrift, DefinitionError: it cannot be loaded here.
    """
    package = await asyncio.to_thread(unpack, archive, trust=trust)
    manifest = package.manifest
    documents = dict(manifest.schemas)
    opened = _code_here(package) if manifest.isolation == "shared" else code_apart(package, store, folder=environments)
    async with opened as code:
        try:
            leads = await code.leads()
        except CodeFailed as error:
            raise PackageImportFailed(code_of(package).label, module=manifest.name, error=str(error)) from error
        yield Candidate(
            name=manifest.name,
            package=package.identity,
            kinds={process.type: {message.kind for message in process.messages} for process in manifest.processes},
            schemas={process.type: TypeSchemas(process.fields, process.messages, documents) for process in manifest.processes},
            upcasters=leads,
            code=code,
        )


@asynccontextmanager
async def _code_here(package: Package) -> AsyncIterator[LocalCode]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="perdure-candidate") as thread:
        loaded = await loop.run_in_executor(thread, load, code_of(package))
        try:
            yield LocalCode(await loop.run_in_executor(thread, types_of, loaded, package.manifest))
        finally:
            unload(loaded)


def _schemas(made: ProcessType) -> TypeSchemas | None:
    try:
        return schemas_of(made)
    except DefinitionError:
        return None  # a local type may have messages without a schema; values are tried on it all the same
