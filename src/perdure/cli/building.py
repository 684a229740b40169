"""`perdure package build`, `inspect`, `sign` and `key`: archives as files."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.shared import AS_JSON, print_json, print_pairs, print_table, short, visible

if TYPE_CHECKING:
    from perdure.packages.archive import Package
    from perdure.packages.manifest import ManifestProcess

_ARCHIVE = click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--out", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Folder that the archive goes into.")
@click.option("--python", default=sys.executable, help="Interpreter that imports it; the one of this command when not given.")
@AS_JSON
def build(folder: Path, out: Path, python: str, *, as_json: bool) -> None:
    """Make a package of the folder FOLDER, whose pyproject.toml has a section [tool.perdure.package].

    Its code is imported twice, by interpreters of their own. Warnings go to stderr.
    """
    from perdure.deploying.building import STEPS  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.deploying.building import build as made_of  # noqa: PLC0415
    from perdure.deploying.files import write_package  # noqa: PLC0415

    with _progress(STEPS) as say:
        built = asyncio.run(made_of(folder, python=python, on_step=say))
    path = write_package(built, out)
    for one in built.warnings:
        click.echo(visible(f"warning [{one.code}]: {one.text}"), err=True)
    types = [process.type for process in built.manifest.processes]
    if as_json:
        told = {"path": str(path), "identity": built.identity, "name": built.manifest.name, "types": types, "bytes": len(built.archive)}
        print_json({**told, "built_with": built.built_with, "warnings": built.warnings})
        return
    print_pairs([("archive", path), ("identity", built.identity), ("types", ", ".join(types)), ("bytes", f"{len(built.archive):,}")])


@click.command()
@_ARCHIVE
@AS_JSON
def inspect(archive: Path, *, as_json: bool) -> None:
    """Show what the package ARCHIVE is. Nothing of it is run, and whether its signatures are to be trusted is not looked at."""
    from perdure.deploying.files import read_built_with, read_package  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.packages.archive import unpack  # noqa: PLC0415

    data = read_package(archive)
    package = unpack(data)
    signatures, built_with = _signatures(package), read_built_with(archive)
    if as_json:
        signed = [{"key": key, "verifies": verifies} for key, verifies in signatures]
        print_json({"identity": package.identity, "bytes": len(data), **_told(package), "signatures": signed, "built_with": built_with})
        return
    manifest = package.manifest
    pairs = [
        ("name", manifest.name),
        ("identity", package.identity),
        ("bytes", f"{len(data):,}"),
        ("python", manifest.python or "any"),
        ("isolation", manifest.isolation),
        ("schemas", len(manifest.schemas)),
        ("built by", (built_with or {}).get("builder")),
        ("of commit", (built_with or {}).get("commit")),
    ]
    print_pairs([(name, value) for name, value in pairs if value is not None])
    kinds = [row for process in manifest.processes for row in _kinds(process)]
    _print_part(("type", "object", "fields", "message", "schema", "result"), kinds, empty="no process types")
    _print_part(("requires",), [(text,) for text in manifest.requires], empty="requires no distributions")
    files = [(file.path, f"{file.size:,}", short(file.sha256)) for file in manifest.files]
    _print_part(("file", "bytes", "sha256"), files, empty="no files")
    words = {True: "yes", False: "no: it is not one of this package", None: "unknown: cryptography is not installed"}
    _print_part(("signed by", "verifies"), [(key, words[verifies]) for key, verifies in signatures], empty="not signed")


@click.command()
@_ARCHIVE
@click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File with the private key; see `perdure package key`.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the signed archive goes; into ARCHIVE itself when not given."
)
@AS_JSON
def sign(archive: Path, key_file: Path, out: Path | None, *, as_json: bool) -> None:
    """Put a signature into the package ARCHIVE, beside those that it has. Its identity stays."""
    from perdure.deploying.files import read_package, read_seed, replace_file  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.errors import UsageError  # noqa: PLC0415
    from perdure.packages import signing  # noqa: PLC0415
    from perdure.packages.archive import unpack, with_signatures  # noqa: PLC0415

    data, seed = read_package(archive), read_seed(key_file)
    identity = unpack(data).identity
    signature = signing.sign(identity, seed)
    path = out or archive
    try:
        replace_file(path, with_signatures(data, [signature]))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name another file") from error
    if as_json:
        print_json({"path": str(path), "identity": identity, "key": signature.key})
        return
    print_pairs([("archive", path), ("identity", identity), ("signed by", signature.key)])


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@AS_JSON
def key(file: Path, *, as_json: bool) -> None:
    """Make a private key, write it to the new file FILE, and show the public one, which a node is told to trust."""
    from perdure.deploying.files import write_seed  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.identity import SYSTEM_RANDOMNESS  # noqa: PLC0415
    from perdure.packages.signing import public_key  # noqa: PLC0415

    seed = SYSTEM_RANDOMNESS(32)
    public = public_key(seed)
    write_seed(file, seed)
    if as_json:
        print_json({"path": str(file), "key": public})
        return
    print_pairs([("private key", file), ("public key", public)])


@contextlib.contextmanager
def _progress(steps: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """Show on a terminal which step is under way."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  # see `cli/__init__.py`
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=len(steps))
        yield lambda step: shown.update(task, description=step, completed=steps.index(step))


def _signatures(package: Package) -> list[tuple[str, bool | None]]:
    """Return each key that is said to have signed, and whether it has; None when there is nothing to find that out with."""
    from perdure.errors import SigningUnavailable  # noqa: PLC0415  # see `cli/__init__.py`
    from perdure.packages.signing import is_valid  # noqa: PLC0415

    try:
        return [(one.key, is_valid(package.identity, one)) for one in package.signatures]
    except SigningUnavailable:
        return [(one.key, None) for one in package.signatures]


def _told(package: Package) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415  # see `cli/__init__.py`

    manifest = package.manifest
    told: dict[str, Any] = msgspec.json.decode(manifest.encode())
    return {**told, "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in manifest.files]}


def _kinds(process: ManifestProcess) -> list[tuple[object, ...]]:
    own = (process.type, process.object, short(process.fields))
    return [(*own, one.kind, short(one.schema), short(one.result)) for one in process.messages] or [(*own, None, None, None)]


def _print_part(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    click.echo()
    print_table(columns, rows, empty=empty)
