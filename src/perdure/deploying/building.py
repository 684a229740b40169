"""Making a package of a folder: its files, what a fresh interpreter finds in them, and their archive.

Source: packages.md, "Archive" and "Safety"; packages-detail.md, A8 and B.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.deploying.choosing import read_files, source_of
from perdure.deploying.project import FILE_NAME, SECTION, Project, read_project
from perdure.deploying.report import Tried, Warned
from perdure.deploying.trial import try_load
from perdure.errors import (
    PackageBuildRefused,
    PackageEntryMissing,
    PackageImportFailed,
    PackageManifestMalformed,
    PackageSchemaDrift,
    PackageUnstable,
)
from perdure.identity import ContentHash
from perdure.names import TAG_DIGITS
from perdure.packages.archive import pack
from perdure.packages.manifest import Manifest, describe
from perdure.packages.paths import module_of

STEPS: Final = ("reading its files", "importing it", "importing it again", "asking git")
_SHORT: Final = 12  # digits of the identity in a file's name
_SEEDS: Final = (1, 2)  # by which the two interpreters hash texts: sets of them have other orders

Files = Mapping[str, bytes]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A package that was built.

    Attributes:
        archive: its bytes: a pure function of the files and of what `pyproject.toml` says.
        identity: SHA-256 of its manifest.
        manifest: what it is.
        warnings: what it had better not do; see docs/packages.md.
        built_with: what the deployment log keeps of the build: `python`, `distributions` by name, `builder`, and of a working
            copy of git `commit`, and `clean` when nothing of the folder is other than in it.
    """

    archive: bytes
    identity: ContentHash
    manifest: Manifest
    warnings: tuple[Warned, ...]
    built_with: Mapping[str, Any]

    @property
    def file_name(self) -> str:
        """What its archive is called: `shop-fd8e1c54ab09.zip`."""
        return f"{self.manifest.name}-{self.identity[:_SHORT]}.zip"


async def build(
    folder: Path, *, python: str = sys.executable, environments: Path | None = None, on_step: Callable[[str], None] | None = None
) -> Built:
    """Make a package of a folder, and try it as an engine would use it.

    Two fresh interpreters, which hash texts differently, import it; nothing of it runs in this one. Nothing is written.

    Args:
        folder: with a `pyproject.toml` that has a section `[tool.perdure.package]`.
        python: the interpreter that imports it: with Perdure, and with the distributions that it requires.
        environments: see `try_load`.
        on_step: called with each of `STEPS` when it begins.

    Raises:
        PackageBuildRefused: something of the folder or of `pyproject.toml` is wrong, or it defines no process type.
        PackageRefused: no archive can be made of it; or PackageImportsByText: its code has its own name as text.
        PackageUnstable: a type has another schema in the second interpreter.
        PackageIsolationUnavailable, PackageEnvironmentFailed, PackageRequirementUnmet, PackageImportFailed, DefinitionError: see `try_load`.

    Source: packages-detail.md, A8 and B.1.
    """
    say = on_step or (lambda _: None)
    say(STEPS[0])
    project, source, files = await asyncio.to_thread(_read, folder)
    draft = await asyncio.to_thread(_archive, project, files)
    say(STEPS[1])
    with _in_words_of(source):
        first = await try_load(draft[1], python=python, modules=project.entries, hash_seed=_SEEDS[0], environments=environments)
    if not first.processes:
        raise PackageBuildRefused(
            f"{', '.join(project.entries)}: no process type is defined there; an app has to stand at the top of a module"
        )
    manifest, archive = await asyncio.to_thread(_archive, project, files, first)
    say(STEPS[2])
    with _in_words_of(source):
        second = await _again(project, archive, python, environments)
    if second.processes != first.processes:
        both = [", ".join(process.type for process in one.processes) for one in (first, second)]
        raise PackageUnstable(project.name, "its process types", *both)
    say(STEPS[3])
    return Built(
        archive=archive,
        identity=manifest.identity,
        manifest=manifest,
        warnings=tuple(dict.fromkeys([*first.warnings, *second.warnings])),
        built_with={**_found(first), **await _commit(folder)},
    )


def _read(folder: Path) -> tuple[Project, str, Files]:
    """Return what is built, what stands before its paths in the folder, and its files."""
    project = read_project(folder)
    files = read_files(folder, project)
    prefix = "" if source_of(folder) == folder else f"{source_of(folder).name}/"
    modules = {module_of(path) for path in files}
    for entry in project.entries:
        if entry not in modules:
            place = f"{prefix}{entry.replace('.', '/')}.py"
            raise PackageBuildRefused(f"{FILE_NAME}: [{SECTION}]: entries: {entry!r} is no module of the package; expected {place}")
    return project, prefix, files


def _archive(project: Project, files: Files, tried: Tried | None = None) -> tuple[Manifest, bytes]:
    try:
        manifest = describe(
            files,
            name=project.name,
            python=project.python,
            requires=project.requires,
            isolation=project.isolation,
            processes=() if tried is None else tried.processes,
            schemas={} if tried is None else tried.schemas,
        )
    except PackageManifestMalformed as error:
        raise PackageBuildRefused(f"{FILE_NAME}: {str(error).partition(': ')[2]}") from error
    return manifest, pack(manifest, files)


async def _again(project: Project, archive: bytes, python: str, environments: Path | None) -> Tried:
    """Try the archive as a node does: it imports what the manifest names, and nothing besides."""
    try:
        return await try_load(archive, python=python, hash_seed=_SEEDS[1], environments=environments)
    except PackageSchemaDrift as error:
        raise PackageUnstable(project.name, error.where, error.expected, error.found) from error
    except PackageEntryMissing as error:
        text = (
            "an engine imports the modules of process types only; let this one import the app that has it, under the name that it has there"
        )
        raise PackageBuildRefused(f"{error.entry}: {text}") from error


@contextlib.contextmanager
def _in_words_of(source: str) -> Iterator[None]:
    """Tell of files as they are called in the folder, not in a package that nobody has seen yet."""
    try:
        yield
    except PackageImportFailed as error:
        name, tag = error.package.rpartition(" ")[::2]
        told = error.traceback.replace(f"<package {tag[:TAG_DIGITS]}>/", source)
        raise PackageImportFailed(name, module=error.module, error=error.error, traceback=told) from None


# --- what it was built with ----------------------------------------------------------------------------------------


def _found(tried: Tried) -> dict[str, Any]:
    distributions = {name: version for name, version in sorted(tried.found.items()) if name != "Python"}
    return {"python": tried.found["Python"], "distributions": distributions, "builder": f"perdure {importlib.metadata.version('perdure')}"}


async def _commit(folder: Path) -> dict[str, Any]:
    """Return the commit that a folder is a working copy of; nothing without git."""
    commit = await _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return {}
    changed = await _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", ".")
    return {"commit": commit.strip(), "clean": changed == ""}


async def _git(folder: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # it only looks
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        git = await asyncio.create_subprocess_exec(
            "git", "-C", str(folder), *arguments, env=environment, stdin=nothing, stdout=pipe, stderr=nothing
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(limits.PACKAGE_GIT_SECONDS):
            found, _ = await git.communicate()
    except TimeoutError:
        return None
    finally:
        if git.returncode is None:
            git.kill()
            await git.wait()
    return found.decode(errors="replace") if git.returncode == 0 else None
