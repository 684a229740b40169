"""Process types out of packages: what is said of them when one is built, and what they are when it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from perdure.engine.packaged import apps_in, code_of, defined_by, types_of
from perdure.errors import DefinitionError, PackageEntryMissing, PackageSchemaDrift
from perdure.packages.archive import Package, pack, unpack
from perdure.packages.loading import Loaded, PackageCode, load, unload
from perdure.packages.manifest import describe
from perdure.packages.paths import top_level_names

FLOWS = """\
import msgspec
import perdure

app = perdure.App("shop")


class Placed(msgspec.Struct):
    id: str


@app.process
class Order(perdure.Process):
    count: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.id)
    async def placed(self, placed: Placed) -> int:
        self.count += 1
        return self.count


@app.process(on_error="park")
async def hello(p: perdure.Process, name: str) -> None:
    pass
"""


@contextmanager
def loaded(code: PackageCode) -> Iterator[Loaded]:
    version = load(code)
    try:
        yield version
    finally:
        unload(version)


@contextmanager
def draft(flows: str) -> Iterator[tuple[Loaded, dict[str, bytes]]]:
    files = {"shop/__init__.py": b"", "shop/flows.py": flows.encode()}
    name = hashlib.sha256(flows.encode()).hexdigest()
    with loaded(PackageCode(name="shop", content_hash=name, files=files, top_levels=top_level_names(files))) as version:
        version.module("shop.flows")
        yield version, files


def built(flows: str, **changed: str) -> Package:
    """Return the package of this code; `changed` are other values of fields of its first process."""
    with draft(flows) as (version, files):
        defined = defined_by(apps_in(version.modules()))
    first, *others = defined.processes
    first = msgspec.structs.replace(first, **changed)
    manifest = describe(files, name="shop", python=">=3.11", processes=[first, *others], schemas=defined.schemas)
    return unpack(pack(manifest, files))


def test_a_version_has_the_types_that_its_manifest_names() -> None:
    package = built(FLOWS)
    assert [(process.type, process.object) for process in package.manifest.processes] == [
        ("Order", "shop.flows:Order"),
        ("hello", "shop.flows:hello"),
    ]
    assert [[message.kind for message in process.messages] for process in package.manifest.processes] == [["Placed"], ["hello()"]]
    assert package.manifest.processes[0].fields
    assert package.manifest.processes[1].fields is None
    assert package.manifest.processes[1].messages[0].result is None
    with loaded(code_of(package)) as version:
        types = types_of(version, package.manifest)
        assert types["Order"].target is version.object("shop.flows:Order")
        assert types["hello"].handlers["hello()"].on_error == "park"  # as the app says it, which no class does
        assert types_of(version, package.manifest) is types


def test_a_type_that_no_app_has_is_missing() -> None:
    package = built(FLOWS, object="shop.flows:Placed")
    with loaded(code_of(package)) as version, pytest.raises(PackageEntryMissing, match=r"shop\.flows:Placed"):
        types_of(version, package.manifest)


def test_a_type_that_comes_out_otherwise_has_drifted() -> None:
    package = built(FLOWS)
    other = package.manifest.processes[1].messages[0].schema
    drifted = built(FLOWS, fields=other)
    with loaded(code_of(drifted)) as version, pytest.raises(PackageSchemaDrift, match=r"Order\.fields") as caught:
        types_of(version, drifted.manifest)
    assert caught.value.where == "Order.fields"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('other = perdure.App("other")\nother.process(hello)\n', "two apps"),
        (
            "def make():\n    @app.process\n    async def inner(p: perdure.Process) -> None:\n        pass\n\n\nmake()\n",
            "inside a function",
        ),
        (
            "class Odd:\n    pass\n\n\n@app.process\nasync def odd(p: perdure.Process, given: Odd) -> None:\n    pass\n",
            "has no schema",
        ),
    ],
)
def test_what_cannot_be_named_or_described_is_refused(more: str, says: str) -> None:
    with draft(FLOWS + more) as (version, _), pytest.raises(DefinitionError, match=says):
        defined_by(apps_in(version.modules()))
