"""A small package, and the vector of the design: the same bytes wherever they are made."""

from __future__ import annotations

from typing import Final

from perdure.packages.archive import pack
from perdure.packages.manifest import Manifest, ManifestProcess, describe
from perdure.packages.signing import Signature

FILES: Final = {
    "shop/__init__.py": b"",
    "shop/flows.py": b"x = 1\n",
    "shop/data/Grüße.txt": "hällo".encode(),
}
ORDER: Final = ManifestProcess(type="order", object="shop.flows:Order", fields=None, messages=())

MANIFEST: Final = (
    '{"files":[["shop/__init__.py",0,"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],'
    '["shop/data/Grüße.txt",6,"0fbc7403536f425ad5498d9cd846497f5371ba8374b1aa583c79d2f0c87501ff"],'
    '["shop/flows.py",6,"9e26bf369911c45c243c684147b23fc9e1dcfcf257d299a1c632016a6fcd33f4"]],'
    '"format":1,"isolation":"shared","name":"shop",'
    '"processes":[{"fields":null,"messages":[],"object":"shop.flows:Order","type":"order"}],'
    '"python":">=3.11","requires":["perdure>=1,<2"],"schemas":{}}'
).encode()
IDENTITY: Final = "fd8e1c54ab0910f363ac7cc1ddd2e039c99ff9915fa2514834270d3cbd1450a2"
ARCHIVE_SIZE: Final = 962
ARCHIVE_SHA256: Final = "c0a6e55d7f3bc5384e6b0a6bf014260a8e3a5d2c7ec174e1bfd978c023190e51"
SEED: Final = bytes(range(32))
KEY: Final = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
SIGNED: Final = (
    "329f0ea9e84cd7544974db5cb0b57d3be3d21d23993ad2d8272cfaaa12fc1fddc77fb07383b1dfa68f475f304be6a245849a3270b462b1d71e6e84824c023004"
)
SIGNATURE: Final = Signature(algorithm="ed25519", key=KEY, signature=SIGNED)


def shop(files: dict[str, bytes] | None = None) -> Manifest:
    return describe(FILES if files is None else files, name="shop", python=">=3.11", processes=[ORDER], requires=["perdure>=1,<2"])


def archive(*signatures: Signature) -> bytes:
    return pack(shop(), FILES, signatures)
