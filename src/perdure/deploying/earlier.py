"""The schemas of earlier versions beside those of a candidate: what is incompatible is found before any process shows it.

Source: packages.md, "Check before routing"; schemas.md, "Plan".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from perdure import limits
from perdure.deploying.candidates import Candidate
from perdure.deploying.findings import Finding
from perdure.engine.trying import Verdict
from perdure.errors import NotFoundError, PackageRefused, SchemaIncompatible, StoreCorrupt
from perdure.packages.archive import unpack
from perdure.packages.manifest import Manifest, ManifestMessage, ManifestProcess
from perdure.schemas import SchemaRegistry, TypeRef, plan
from perdure.store import Store


class Earlier:
    """Versions that processes are on, or that starts are routed to.

    Attributes:
        manifests: of those that were read, by hash.
        missing: those that are not stored, cannot be read, or were too many.
    """

    def __init__(self, store: Store, candidate: Candidate) -> None:
        self._store = store
        self._candidate = candidate
        self.manifests: dict[str, Manifest] = {}
        self.missing: list[str] = []

    async def read(self, content_hash: str) -> Manifest | None:
        """Return the manifest of a version; None when it is not to be had."""
        if content_hash in self.manifests or content_hash in self.missing:
            return self.manifests.get(content_hash)
        manifest = await self._manifest(content_hash) if len(self.manifests) < limits.CHECK_VERSIONS_MAX else None
        if manifest is None:
            self.missing.append(content_hash)
        else:
            self.manifests[content_hash] = manifest
        return manifest

    async def _manifest(self, content_hash: str) -> Manifest | None:
        try:
            stored = await self._store.packages.get_package(content_hash)
            return (await asyncio.to_thread(unpack, stored.archive)).manifest
        except (NotFoundError, PackageRefused, StoreCorrupt):
            return None  # what is stored as an archive may be anything

    async def routed(self) -> None:
        """Read the versions that the routes of the candidate's types lead to."""
        for name in self._candidate.kinds:
            for rule in await self._store.packages.route_of(name):
                await self.read(rule.content_hash)

    async def is_of_candidate(self, process_type: str, version: str | None) -> bool:
        """Return whether processes of a type on a version are the candidate's to run, also if it has no such type any more.

        Those of local code are an app's. Those of a package are the next version's of that package.
        """
        if process_type in self._candidate.kinds:
            return True
        if version is None or self._candidate.package is None:
            return version is None and self._candidate.package is None
        manifest = await self.read(version)
        return manifest is not None and manifest.name == self._candidate.name

    def handles(self, process_type: str, kind: str) -> bool:
        """Return whether an earlier version starts a turn of this type for this kind of message."""
        return any(
            process.type == process_type and any(message.kind == kind for message in process.messages)
            for manifest in self.manifests.values()
            for process in manifest.processes
        )

    def findings(self) -> Iterator[Finding]:
        """Yield what the candidate cannot read of what these versions may have written, or does not handle any more."""
        for version, manifest in self.manifests.items():
            if version == self._candidate.package:
                continue
            for process in manifest.processes:
                if process.type in self._candidate.kinds:
                    yield from self._of_type(version, manifest, process)
                elif manifest.name == self._candidate.name:
                    text = f"{self._candidate.name} has no process type {process.type!r} any more"
                    yield _finding(version, process.type, "no-handler", text=text)

    def _of_type(self, version: str, manifest: Manifest, old: ManifestProcess) -> Iterator[Finding]:
        new = self._candidate.schemas.get(old.type)
        kinds = self._candidate.kinds[old.type]
        here = {} if new is None else {message.kind: message for message in new.messages}
        for message in old.messages:
            if message.kind not in kinds:
                yield _finding(
                    version, old.type, "no-handler", kind=message.kind, text=f"{old.type} has no handler for {message.kind!r} any more"
                )
            elif message.kind in here:
                for what, writer, reader in _pairs(message, here[message.kind]):
                    yield from self._read_as(version, manifest, old.type, (f"{what} {message.kind!r}", message.kind, writer, reader))
        if new is not None and old.fields is not None and new.fields is not None:
            yield from self._read_as(version, manifest, old.type, ("the durable fields", "", old.fields, new.fields))

    def _read_as(self, version: str, manifest: Manifest, process_type: str, pair: tuple[str, str, str, str]) -> Iterator[Finding]:
        what, kind, writer, reader = pair
        leads = self._candidate.upcasters[process_type]
        registry = SchemaRegistry({**manifest.schemas, **self._candidate.schemas[process_type].documents, **leads.documents})
        error = _incompatible(writer, reader, registry)
        seen = {writer}
        while error is not None and writer in leads.to:
            writer = leads.to[writer]
            if writer in seen:
                break
            seen.add(writer)
            if _incompatible(writer, reader, registry) is None:
                return
        for issue in () if error is None else error.issues:
            yield _finding(version, process_type, "undecodable", kind=kind, path=issue.path, text=f"{what}: {issue.code}, {issue.detail}")


def _pairs(old: ManifestMessage, new: ManifestMessage) -> Iterable[tuple[str, str, str]]:
    yield "message", old.schema, new.schema
    if old.result is not None and new.result is not None:
        yield "the reply to", old.result, new.result


def _incompatible(writer: str, reader: str, registry: SchemaRegistry) -> SchemaIncompatible | None:
    try:
        plan(TypeRef(writer), TypeRef(reader), registry)
    except SchemaIncompatible as error:
        return error
    return None


def _finding(version: str, process_type: str, verdict: Verdict, *, text: str, kind: str = "", path: str = "") -> Finding:
    return Finding(what="schema", verdict=verdict, breaks=True, process_type=process_type, version=version, kind=kind, path=path, text=text)
