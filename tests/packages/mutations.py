"""Archives that are nearly right: made of right ones by small changes, in the bytes and in what they mean."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any, Final

from perdure.packages.archive import pack
from perdure.packages.manifest import ManifestMessage, ManifestProcess, describe
from perdure.packages.signing import Signature, encode_signatures, sign
from perdure.schemas import schema_of
from tests.packages.samples import FILES, SEED, SIGNATURE, archive, shop
from tests.packages.zips import Raw, listing, members, zipped

WORDS: Final = [0, 1, 2, 8, 20, 22, 45, 0x800, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
MARKS: Final = [b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\0", b"\xff", b"/", b"..", b"perdure.json", b"src/"]
PARTS: Final = [
    "", ".", "..", "a", "A", "b.py", "b", "__init__.py", "__pycache__", "x.so", "x.PYC", "json", "os.py", "perdure", "con", "a.", "a ", "a\\b", "a:b",
    "ü", "u\u0308", "\0", "\n", "\x85", "\ufeff", "\U0001f600", "x" * 100, "x" * 600, "flows.py", "shop", "SHOP", "Ä.py", "ä.py", "@", "-",
]  # fmt: skip
VALUES: Final[list[Any]] = [
    None, True, False, 0, 1, -1, 2, 2**53 - 1, 2**53, -(2**53), 0.5, "", "a", "order", "shop.flows:Order", "shared", "process", ">=3.11", "0" * 32,
    "0" * 64, "\ud800", "\0", [], {}, [[]], ["a"], ["a", "b"], [1], {"a": 1}, {"defs": ["int"], "schema": 1}, {"ü": 1}, "x" * 1_100,
]  # fmt: skip


def typed() -> bytes:
    reference, schemas = schema_of(dict[str, list[int] | None])
    message = ManifestMessage(kind="a", schema=reference.hash, result=reference.hash)
    processes = [ManifestProcess(type="typed", object="shop.flows:Typed", fields=reference.hash, messages=(message,))]
    return pack(
        describe(FILES, name="typed", python=">=3.11,<4", processes=processes, schemas=schemas, requires=["a[b]>=1; os_name == 'nt'"]),
        FILES,
    )


def foreign() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = b"made elsewhere"
        for entry in members():
            file.writestr(entry.name.decode(), entry.data * 3)
    return made.getvalue()


OTHER: Final = sign(shop().identity, bytes(reversed(SEED)))
GOOD: Final = [archive(), archive(SIGNATURE), archive(SIGNATURE, OTHER), typed(), pack(describe({}, name="a", python=""), {}), foreign()]


def mutated(seed: int) -> bytes:
    """Return the archive of this number, always the same."""
    rng = random.Random(seed)
    return rng.choice([_bytes, _entries, _manifest, _paths, _signatures])(rng)


# --- bytes --------------------------------------------------------------------------------------------------------


def _bytes(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(GOOD))
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        rng.choice(CHANGES)(rng, data)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    begin = rng.randrange(len(data) + 1)
    del data[begin : begin + rng.choice([1, 4, 22, 46, 10_000])]


def _put(rng: random.Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice([rng.choice(MARKS), rng.randbytes(rng.randrange(1, 30)), _piece(rng, rng.choice(GOOD))])


def _over(rng: random.Random, data: bytearray) -> None:
    piece = rng.choice([rng.choice(MARKS), _piece(rng, rng.choice(GOOD)), _piece(rng, bytes(data))])
    place = rng.randrange(len(data) + 1)
    data[place : place + len(piece)] = piece


def _word(rng: random.Random, data: bytearray) -> None:
    """Write a number behind one of the marks, where it is a size, a count, an offset or a flag."""
    mark = rng.choice(MARKS[:3])
    places = [place for place in range(len(data) - 3) if data[place : place + 4] == mark]
    if places:
        place = rng.choice(places) + 4 + rng.randrange(42)
        form = rng.choice(["<H", "<I"])
        number = rng.choice([*WORDS, len(data), rng.getrandbits(32)])
        data[place : place + struct.calcsize(form)] = struct.pack(form, number % 256 ** struct.calcsize(form))


def _piece(rng: random.Random, data: bytes) -> bytes:
    begin = rng.randrange(len(data) + 1)
    return data[begin : begin + rng.choice([1, 2, 4, 22, 46, 300, 10_000])]


CHANGES: Final[list[Callable[[random.Random, bytearray], None]]] = [_flip, _cut, _put, _over, _word, _word]


# --- what they mean -------------------------------------------------------------------------------------------------


def _entries(rng: random.Random) -> bytes:
    entries = members()
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.randrange(len(entries))
        match rng.randrange(4):
            case 0:
                entries.insert(rng.randrange(len(entries) + 1), entries[place])
            case 1:
                entries[place] = entries[rng.randrange(len(entries))]
            case 2 if len(entries) > 1:
                del entries[place]
            case _:
                entries[place] = _other(rng, entries[place])
    if rng.random() < 0.5:
        entries.sort(key=lambda entry: (entry.name != b"perdure.json", entry.name))
    around: list[dict[str, Any]] = [
        {},
        {},
        {"before": b"x"},
        {"between": b"PK\5\6"},
        {"comment": b"c"},
        {"count": rng.choice(WORDS) & 0xFFFF},
    ]
    return zipped(entries, **rng.choice(around))


def _other(rng: random.Random, entry: Raw) -> Raw:
    fields = {name: getattr(entry, name) for name in Raw.__struct_fields__}
    short, long = rng.choice(WORDS) & 0xFFFF, rng.choice(WORDS) & 0xFFFFFFFF
    changes: dict[str, Any] = {
        **dict.fromkeys(["version", "maker", "flags", "method", "time", "date", "disk", "internal"], short),
        **dict.fromkeys(["crc", "packed", "size", "mode", "offset"], long),
        **dict.fromkeys(
            ["extra", "comment", "data", "name"], rng.choice([*MARKS, b"", b"src/" + rng.choice(MARKS), rng.choice(MARKS) * 20])
        ),
    }
    changed = rng.choice(sorted(changes))
    if rng.random() < 0.3 and changed not in {"data", "record"}:
        return Raw(**{**fields, "record": {changed: changes[changed]}})
    return Raw(**{**fields, changed: changes[changed]})


def _manifest(rng: random.Random) -> bytes:
    entries = members()
    tree = json.loads(rng.choice([listing(), members_of(GOOD[3])]))
    for _ in range(rng.choice([1, 1, 2, 3])):
        tree = _changed(rng, tree)
    spaces = rng.choice([(",", ":")] * 9 + [(", ", ": ")])
    data = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=spaces).encode("utf-8", "surrogatepass")
    return zipped([Raw(name=b"perdure.json", data=data), *entries[1:]])


def members_of(archive: bytes) -> bytes:
    """Return the manifest of an archive that is right."""
    return zipfile.ZipFile(io.BytesIO(archive)).read("perdure.json")


def _changed(rng: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict | list) and tree and rng.random() < 0.85:
        keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = rng.choice(keys)
        match rng.randrange(8):
            case 0:
                del tree[key]
            case 1 if isinstance(tree, dict):
                tree[rng.choice(["", "x", "ü", *keys])] = tree[key]
            case 1 if isinstance(tree, list):
                tree.insert(key, tree[rng.choice(keys)])
            case _:
                tree[key] = _changed(rng, tree[key])
        return tree
    return copy.deepcopy(rng.choice(VALUES))


def _paths(rng: random.Random) -> bytes:
    files = dict(FILES)
    for _ in range(rng.choice([1, 1, 2, 4])):
        path = "/".join(rng.choice(PARTS) for _ in range(rng.choice([1, 2, 2, 2, 3, 40])))
        files[path] = b""
        if rng.random() < 0.2:
            files[rng.choice([path.swapcase(), f"{path.removesuffix('.py')}/__init__.py", f"{path}/a", f"{path}.py"])] = b""
    told = dict(files)
    if rng.random() < 0.2:
        told.pop(rng.choice(sorted(told)))
    return zipped([Raw(name=b"perdure.json", data=listing(told)), *members(files)[1:]])


def _signatures(rng: random.Random) -> bytes:
    odd = Signature(algorithm="ed25519", key=rng.choice([SIGNATURE.key, rng.randbytes(32).hex()]), signature=rng.randbytes(64).hex())
    data = bytearray(encode_signatures([rng.choice([SIGNATURE, OTHER, odd]) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]))
    if rng.random() < 0.3:
        rng.choice(CHANGES)(rng, data)
    return zipped([members()[0], Raw(name=b"perdure.sig.json", data=bytes(data)), *members()[1:]])
