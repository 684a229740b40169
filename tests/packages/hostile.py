"""One hostile archive of each kind, and the code that every door refuses it with. What it has for code ends the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure import limits
from perdure.packages.archive import pack, unpack, with_signatures
from perdure.packages.manifest import describe
from perdure.packages.signing import Signature, public_key
from tests.packages.samples import FILES, ORDER
from tests.packages.test_hostile import EVIL, ROWS
from tests.packages.zips import Raw, zipped

SEED: Final = bytes(range(32))
EVIL_FILES: Final = {**FILES, "shop/__init__.py": EVIL, "shop/flows.py": EVIL}


def evil() -> bytes:
    """Return a package that nothing is wrong with but its code."""
    return pack(describe(EVIL_FILES, name="shop", python="", processes=[ORDER]), EVIL_FILES)


def forged() -> bytes:
    """Return it with a signature that the key of `SEED` has not made."""
    return with_signatures(evil(), [Signature(algorithm="ed25519", key=public_key(SEED), signature="00" * 64)])


def _unpacked() -> bytes:
    """Return an archive that says to hold a byte more than may be unpacked."""
    half = limits.PACKAGE_UNPACKED_MAX // 2
    return zipped([Raw(name=b"a", record={"size": half}), Raw(name=b"b", record={"size": half + 1})])


KINDS: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    "a byte too large": (lambda: bytes(limits.PACKAGE_ARCHIVE_MAX + 1), "package-too-large"),
    "a byte too large when unpacked": (_unpacked, "package-too-large"),
    "a file more than may be": (lambda: zipped([], count=limits.PACKAGE_FILES_MAX + 3), "package-too-large"),
    "a manifest a byte too large": (
        lambda: zipped([Raw(name=b"perdure.json", data=b" " * (limits.PACKAGE_MANIFEST_MAX + 1))]),
        "package-too-large",
    ),
    **{
        name: ROWS[name]
        for name in (
            "a directory of 64 MiB",
            "a directory of 5,000 records of one entry",
            "bzip2",
            "a link",
            "another archive in front",
            "a name up the tree, below src",
            "an absolute name",
            "the same file twice, with other bytes",
            "a file of another case",
            "a module that is a package",
            "compiled code",
            "Perdure itself",
            "no manifest",
            "a manifest with white space",
            "another format",
            "a file too many",
            "a file too few",
            "another file",
        )
    },
}
"""By what is wrong with it. Wrong hashes and signatures depend on what is asked for: `evil`, `forged`."""

IDENTITY: Final = unpack(evil()).identity
