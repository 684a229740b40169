"""Packages made of texts, as `perdure package build` makes them of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from perdure import Store
from perdure.engine.packaged import apps_in, code_of, defined_by
from perdure.packages.archive import Package, pack, unpack
from perdure.packages.contract import Deployed, Needs, PackageRecord
from perdure.packages.loading import PackageCode, load, unload
from perdure.packages.manifest import describe
from perdure.packages.paths import top_level_names

__all__ = ["archive_of", "built", "code_of", "deploy", "siblings"]


def built(texts: Mapping[str, str], *, entry: str = "shop.flows", name: str = "shop", **given: Any) -> Package:
    """Return the package of these sources by path; `given` is for its manifest."""
    files = {path: text.encode() for path, text in texts.items()}
    draft = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    version = load(PackageCode(name=name, content_hash=draft, files=files, top_levels=top_level_names(files)))
    try:
        version.module(entry)
        defined = defined_by(apps_in(version.modules()))
    finally:
        unload(version)
    given = {"python": ">=3.11", **given}
    return unpack(pack(describe(files, name=name, processes=defined.processes, schemas=defined.schemas, **given), files))


def archive_of(package: Package) -> bytes:
    """Return the bytes of a package."""
    return pack(package.manifest, package.files, package.signatures)


async def deploy(store: Store, package: Package, *, route: bool = True, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Deployed:
    """Store a package, and let the routes of its types lead to it."""
    types = [process.type for process in package.manifest.processes]
    return await store.packages.deploy(
        PackageRecord(workflow_type=types[0], content_hash=package.identity, archive=archive_of(package), deployed_at=at),
        types,
        routes=None if route else (),
        needs=Needs(python=package.manifest.python, requires=package.manifest.requires),
        kinds={process.type: [message.kind for message in process.messages] for process in package.manifest.processes},
    )


def siblings(package: Package, path: str, texts: Iterable[str]) -> Iterator[Package]:
    """Yield packages that are this one but for the text of one file, which changes nothing of the types: none of them is imported."""
    manifest = package.manifest
    for text in texts:
        files = {**package.files, path: text.encode()}
        described = describe(files, name=manifest.name, python=manifest.python, processes=manifest.processes, schemas=manifest.schemas)
        yield unpack(pack(described, files))
