"""Signatures of packages, which stand beside their identity, and the keys that a process trusts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from types import ModuleType
from typing import Annotated, Any, Final, Literal

import msgspec

from perdure import limits
from perdure.errors import PackageArchiveMalformed, PackageTooLarge, PackageUntrusted, SigningUnavailable, UsageError
from perdure.identity import ContentHash
from perdure.packages.canonical import decode, encode, said_by

FILE_NAME: Final = "perdure.sig.json"

_PREFIX: Final = b"perdure-package-signature-v1\n"
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_SEED_SIZE: Final = 32
_SIZE_MAX: Final = 1_024 * limits.PACKAGE_SIGNATURES_MAX  # bytes; one is some 250


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key's signature of a package's identity.

    Args:
        algorithm: `ed25519`.
        key: the public key, 64 lower-case hex digits.
        signature: 128 lower-case hex digits.

    Source: packages-detail.md, B.4.
    """

    algorithm: Literal["ed25519"]
    key: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    signature: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]


class TrustPolicy(msgspec.Struct, frozen=True):
    """Whose packages are taken. It belongs to the process that is configured with it, never to the store.

    Args:
        keys: public Ed25519 keys, 64 lower-case hex digits each.
        required: whether a package that none of them has signed is refused. If not, only one that says that
            they have and is not the one that they signed is.

    Raises:
        UsageError: a key is not of its form, or one is required and there is none.

    Source: packages.md, "Signing".
    """

    keys: Collection[str]
    required: bool = True

    def __post_init__(self) -> None:
        """Check the keys, and put them in order."""
        if isinstance(self.keys, str) or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in self.keys):
            raise UsageError("TrustPolicy: expected a list of public Ed25519 keys, 64 lower-case hex digits each")
        if len(self.keys) > limits.PACKAGE_KEYS_MAX:
            raise UsageError(
                f"TrustPolicy: {len(self.keys):,} keys, the limit is {limits.PACKAGE_KEYS_MAX}; leave out those that nobody uses"
            )
        if self.required and not self.keys:
            raise UsageError("TrustPolicy: a signature is required and no key is trusted, so that nothing could be loaded; name a key")
        msgspec.structs.force_setattr(self, "keys", tuple(sorted(set(self.keys))))

    def check(self, identity: ContentHash, signatures: Sequence[Signature]) -> tuple[str, ...]:
        """Return the trusted keys that have signed this package, in order; empty only when none is required.

        A wrong signature beside a right one does not count: else anybody could add one, and the package would be refused.

        Raises:
            PackageUntrusted: no trusted key has signed it, or none of those that are said to have.
            SigningUnavailable: there is something to verify, and nothing to do it with.
        """
        claimed = [signature for signature in signatures if signature.key in self.keys]
        found = tuple(signature.key for signature in claimed if is_valid(identity, signature))
        if not found and (self.required or claimed):
            reason = "no signature by a trusted key is one of this package" if claimed else "no trusted key has signed it"
            raise PackageUntrusted(identity, reason, trusted=tuple(self.keys), signed=[signature.key for signature in signatures])
        return found


def sign(identity: ContentHash, seed: bytes) -> Signature:
    """Return the signature of a package.

    Args:
        identity: of the package.
        seed: the private key, 32 bytes.

    Raises:
        UsageError: the seed has another size.
        SigningUnavailable: `cryptography` is not installed.

    Source: packages-detail.md, B.4; RFC 8032.
    """
    private = _private_key(seed)
    return Signature(algorithm="ed25519", key=_public(private), signature=private.sign(_signed(identity)).hex())


def public_key(seed: bytes) -> str:
    """Return the public key of a private one, 64 hex digits: what a policy names. Raises as `sign` does."""
    return _public(_private_key(seed))


def is_valid(identity: ContentHash, signature: Signature) -> bool:
    """Tell whether the key has signed this very package. Raises SigningUnavailable."""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # as in `_ed25519`

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.signature), _signed(identity))
    except (InvalidSignature, ValueError):  # the second is for a key that is no point of the curve
        return False
    return True


def merge(identity: ContentHash, first: Iterable[Signature], more: Iterable[Signature]) -> tuple[Signature, ...]:
    """Return the signatures of both, one for each key, in order of the keys.

    Where both have one of the same key, the one that is right is kept: neither a wrong one that came first nor one that comes
    later takes the place of a right one.

    Raises:
        PackageTooLarge: more than `limits.PACKAGE_SIGNATURES_MAX` keys.
        SigningUnavailable: two differ, and there is nothing to verify them with.
    """
    found = {signature.key: signature for signature in first}
    for signature in more:
        known = found.setdefault(signature.key, signature)
        if known != signature and not is_valid(identity, known):
            found[signature.key] = signature
    if len(found) > limits.PACKAGE_SIGNATURES_MAX:
        raise PackageTooLarge(f"{FILE_NAME}: signatures", found=len(found), limit=limits.PACKAGE_SIGNATURES_MAX)
    return tuple(found[key] for key in sorted(found))


# --- as a file ------------------------------------------------------------------------------------------------


def encode_signatures(signatures: Sequence[Signature]) -> bytes:
    """Return the bytes of `perdure.sig.json`; the signatures are one or more, one for each key, in order of the keys."""
    return encode([msgspec.to_builtins(signature) for signature in signatures])


def decode_signatures(data: bytes | memoryview) -> tuple[Signature, ...]:
    """Return the signatures that these bytes are, right or wrong. Raises PackageArchiveMalformed."""
    if len(data) > _SIZE_MAX:
        raise PackageArchiveMalformed(f"{FILE_NAME}: {len(data):,} bytes, the limit is {_SIZE_MAX:,}")
    try:
        found = msgspec.convert(decode(bytes(data)), tuple[Signature, ...])
    except (ValueError, msgspec.ValidationError) as error:
        raise PackageArchiveMalformed(f"{FILE_NAME}: {said_by(error)}") from error
    keys = [signature.key for signature in found]
    if not 1 <= len(keys) <= limits.PACKAGE_SIGNATURES_MAX or keys != sorted(set(keys)):
        expected = f"1 to {limits.PACKAGE_SIGNATURES_MAX} signatures, one for each key, in order of the keys"
        raise PackageArchiveMalformed(f"{FILE_NAME}: expected {expected}, found {len(keys):,}")
    return found


# --- Ed25519 ----------------------------------------------------------------------------------------------------


def _signed(identity: ContentHash) -> bytes:
    return _PREFIX + bytes.fromhex(identity)


def _private_key(seed: bytes) -> Any:
    if len(seed) != _SEED_SIZE:
        raise UsageError(f"private key: expected {_SEED_SIZE} bytes, found {len(seed):,}")
    return _ed25519().Ed25519PrivateKey.from_private_bytes(seed)


def _public(private: Any) -> str:
    key: bytes = private.public_key().public_bytes_raw()
    return key.hex()


def _ed25519() -> ModuleType:
    """Return the module that knows the curve. It is an extra, and takes as long to import as all of a package takes to check."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  # as above
    except ImportError as error:
        raise SigningUnavailable(f"signatures of packages need `cryptography` ({error}); pip install 'perdure[signing]'") from error
    return ed25519
