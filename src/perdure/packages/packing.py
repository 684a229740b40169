"""How an archive is packed for the store: compressed when that makes it smaller, piece by piece, so that others have the event loop in between."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from perdure import limits

PLAIN: Final = "none"
ZLIB: Final = "zlib"
_LEVEL: Final = 6  # of 9: at 9 source code gets 1% smaller, and takes more than twice as long


class Packed(NamedTuple):
    """An archive as it is stored."""

    codec: str
    data: bytes

    def parts(self) -> list[memoryview]:
        """Return the bytes of its rows, in order."""
        whole = memoryview(self.data)
        return [whole[offset : offset + limits.PACKAGE_PART] for offset in range(0, len(whole), limits.PACKAGE_PART)]


async def digest_of(archive: bytes) -> str:
    """Return the SHA-256 of an archive, as hex digits."""
    hashed = hashlib.sha256()
    for part in _cut(archive, limits.PACKAGE_PART):
        hashed.update(part)
        await asyncio.sleep(0)
    return hashed.hexdigest()


async def pack(archive: bytes) -> Packed:
    """Return an archive as it is stored."""
    packer = zlib.compressobj(_LEVEL)
    packed = bytearray()
    for piece in _cut(archive, limits.PACKAGE_PIECE):
        packed += packer.compress(piece)
        await asyncio.sleep(0)
    packed += packer.flush()
    return Packed(ZLIB, bytes(packed)) if len(packed) < len(archive) else Packed(PLAIN, archive)


async def unpack(codec: str, parts: Iterable[bytes], size: int) -> bytes | None:
    """Return an archive of `size` bytes; None when these parts are not one."""
    if codec == PLAIN:
        archive = b"".join(parts)
        return archive if len(archive) == size else None
    unpacker, found = zlib.decompressobj(), bytearray()
    try:
        for part in parts:
            rest = part
            while rest and len(found) <= size:
                found += unpacker.decompress(rest, limits.PACKAGE_PIECE)
                rest = unpacker.unconsumed_tail
                await asyncio.sleep(0)
        # What is left inside is bounded as well: bytes that are damaged could become any number of them.
        while not unpacker.eof and len(found) <= size and (more := unpacker.decompress(b"", limits.PACKAGE_PIECE)):
            found += more
    except zlib.error:
        return None
    return bytes(found) if len(found) == size and unpacker.eof and not unpacker.unused_data else None


def _cut(archive: bytes, size: int) -> Iterable[memoryview]:
    whole = memoryview(archive)
    return (whole[offset : offset + size] for offset in range(0, len(whole), size))
