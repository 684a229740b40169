"""Signatures: who has signed a package, and whose packages are taken."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import PackageTooLarge, PackageUntrusted, SigningUnavailable, UsageError
from perdure.identity import ContentHash
from perdure.packages.archive import unpack, with_signatures
from perdure.packages.signing import (
    Signature,
    TrustPolicy,
    decode_signatures,
    encode_signatures,
    is_valid,
    merge,
    public_key,
    sign,
)
from tests.packages.samples import IDENTITY, KEY, SEED, SIGNATURE, SIGNED, archive

SHOP = ContentHash(IDENTITY)
OTHER_SEED = bytes(reversed(SEED))
OTHER = sign(SHOP, OTHER_SEED)
STRANGER = public_key(b"s" * 32)
ELSEWHERE = ContentHash("0" * 64)
SEEDS = st.binary(min_size=32, max_size=32)


def wrong(signature: Signature = SIGNATURE) -> Signature:
    """Return a signature by the same key of another package."""
    return msgspec.structs.replace(signature, signature=sign(ELSEWHERE, SEED).signature)


def test_the_vector_has_its_key_and_its_signature() -> None:
    assert public_key(SEED) == KEY
    assert sign(SHOP, SEED) == SIGNATURE == Signature(algorithm="ed25519", key=KEY, signature=SIGNED)
    assert is_valid(SHOP, SIGNATURE)
    assert encode_signatures([SIGNATURE]) == f'[{{"algorithm":"ed25519","key":"{KEY}","signature":"{SIGNED}"}}]'.encode()


@given(SEEDS, st.binary())
def test_a_signature_is_right_for_one_package_and_one_key(seed: bytes, content: bytes) -> None:
    identity = ContentHash(hashlib.sha256(content).hexdigest())
    signature = sign(identity, seed)

    assert is_valid(identity, signature)
    assert not is_valid(ELSEWHERE, signature)
    assert not is_valid(identity, msgspec.structs.replace(signature, key=STRANGER))


@given(st.integers(0, 511), st.sampled_from(["key", "signature"]))
def test_a_flipped_bit_makes_it_wrong(bit: int, part: str) -> None:
    value = bytearray.fromhex(getattr(SIGNATURE, part))
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    changes: dict[str, Any] = {part: value.hex()}

    assert not is_valid(SHOP, msgspec.structs.replace(SIGNATURE, **changes))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_any_bytes_of_a_signature_are_right_or_wrong(key: bytes, signature: bytes) -> None:
    assert not is_valid(SHOP, Signature(algorithm="ed25519", key=key.hex(), signature=signature.hex()))


def test_a_signature_with_a_larger_number_of_the_same_meaning_is_wrong() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    value = bytes.fromhex(SIGNED)
    larger = value[:32] + (int.from_bytes(value[32:], "little") + order).to_bytes(32, "little")

    assert not is_valid(SHOP, msgspec.structs.replace(SIGNATURE, signature=larger.hex()))


@pytest.mark.parametrize(
    ("keys", "signatures", "found"),
    [
        ([KEY], [SIGNATURE], (KEY,)),
        ([KEY, STRANGER], [SIGNATURE], (KEY,)),
        ([STRANGER, KEY, KEY], [SIGNATURE, OTHER], (KEY,)),
        ([OTHER.key, KEY], [SIGNATURE, OTHER], tuple(sorted([KEY, OTHER.key]))),
        ([OTHER.key, KEY], [wrong(), OTHER], (OTHER.key,)),
        ([OTHER.key], [wrong(), OTHER], (OTHER.key,)),
    ],
)
def test_a_package_that_a_trusted_key_has_signed_is_taken(keys: list[str], signatures: list[Signature], found: tuple[str, ...]) -> None:
    assert unpack(archive(*signatures), trust=TrustPolicy(keys)).trusted == found
    assert unpack(archive(*signatures), trust=TrustPolicy(keys, required=False)).trusted == found


@pytest.mark.parametrize(
    ("keys", "signatures"),
    [
        ([KEY], []),
        ([STRANGER], [SIGNATURE]),
        ([KEY], [wrong()]),
        ([KEY], [wrong(), OTHER]),
        ([KEY, OTHER.key], [wrong()]),
        ([STRANGER], [SIGNATURE, OTHER]),
    ],
)
def test_a_package_that_none_has_signed_is_refused(keys: list[str], signatures: list[Signature]) -> None:
    made = archive(*signatures)

    with pytest.raises(PackageUntrusted) as caught:
        unpack(made, trust=TrustPolicy(keys))

    assert caught.value.code == "package-untrusted"
    assert caught.value.trusted == tuple(sorted(keys))
    assert caught.value.signed == tuple(sorted(signature.key for signature in signatures))
    assert all(key in str(caught.value) for key in (*keys, *caught.value.signed))


def test_where_no_signature_is_required_only_one_that_is_wrong_is_refused() -> None:
    policy = TrustPolicy([KEY], required=False)

    assert unpack(archive(), trust=policy).trusted == ()
    assert unpack(archive(OTHER), trust=policy).trusted == ()
    assert unpack(archive(wrong(OTHER)), trust=policy).trusted == (), "nobody trusts that key, and nobody asks whether it has"
    with pytest.raises(PackageUntrusted, match="no signature by a trusted key is one of this package"):
        unpack(archive(wrong()), trust=policy)
    assert unpack(archive(), trust=TrustPolicy([], required=False)).trusted == ()


def test_a_key_that_is_taken_away_strands_what_only_it_has_signed() -> None:
    both, one = archive(SIGNATURE, OTHER), archive(SIGNATURE)
    left = TrustPolicy([OTHER.key])

    assert unpack(both, trust=left).trusted == (OTHER.key,)
    with pytest.raises(PackageUntrusted):
        unpack(one, trust=left)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["0"],
        ["A" * 64],
        ["0" * 65],
        ["0" * 64 + "\n"],
        [b"0" * 32],
        "0" * 64,
        [f"{n:064x}" for n in range(limits.PACKAGE_KEYS_MAX + 1)],
    ],
    ids=lambda keys: repr(keys)[:20],
)
def test_a_policy_that_could_trust_nobody_is_refused(keys: Any) -> None:
    with pytest.raises(UsageError, match="TrustPolicy"):
        TrustPolicy(keys)


def test_a_policy_is_its_keys_in_whatever_order_they_were_given() -> None:
    assert TrustPolicy([OTHER.key, KEY, KEY]) == TrustPolicy({KEY, OTHER.key})
    assert len(TrustPolicy([f"{n:064x}" for n in range(limits.PACKAGE_KEYS_MAX)]).keys) == limits.PACKAGE_KEYS_MAX


def test_merging_keeps_every_key_and_of_two_signatures_the_right_one() -> None:
    assert merge(SHOP, [SIGNATURE], [OTHER]) == merge(SHOP, [OTHER], [SIGNATURE])
    assert {signature.key for signature in merge(SHOP, [SIGNATURE], [OTHER])} == {KEY, OTHER.key}
    assert merge(SHOP, [SIGNATURE], [wrong()]) == merge(SHOP, [wrong()], [SIGNATURE]) == (SIGNATURE,)
    assert merge(SHOP, [SIGNATURE], []) == merge(SHOP, [], [SIGNATURE]) == (SIGNATURE,)
    assert with_signatures(archive(wrong()), [SIGNATURE]) == archive(SIGNATURE)


def test_as_many_keys_sign_as_are_allowed() -> None:
    many = [Signature(algorithm="ed25519", key=f"{n:064x}", signature="0" * 128) for n in range(limits.PACKAGE_SIGNATURES_MAX + 1)]

    assert decode_signatures(encode_signatures(many[:-1])) == tuple(many[:-1])
    assert unpack(archive(*many[:-1])).signatures == tuple(many[:-1])
    with pytest.raises(PackageTooLarge, match="signatures: 33, the limit is 32"):
        merge(SHOP, many[:-1], many[-1:])


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_private_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"expected 32 bytes, found {size}"):
        sign(SHOP, bytes(size))


def test_without_cryptography_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.ed25519", raising=False)
    signed, required = archive(SIGNATURE), TrustPolicy([KEY])

    for needs_it in (lambda: sign(SHOP, SEED), lambda: public_key(SEED), lambda: unpack(signed, trust=required)):
        with pytest.raises(SigningUnavailable, match=r"pip install 'perdure\[signing\]'") as caught:
            needs_it()
        assert caught.value.code == "signing-unavailable"


def test_without_cryptography_packages_are_taken_where_nothing_has_to_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.ed25519", raising=False)

    assert unpack(archive(SIGNATURE)).signatures == (SIGNATURE,)
    assert with_signatures(archive(OTHER), [SIGNATURE]) == archive(SIGNATURE, OTHER)
    with pytest.raises(PackageUntrusted):
        unpack(archive(OTHER), trust=TrustPolicy([KEY]))
