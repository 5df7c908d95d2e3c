# SPDX-License-Identifier: Apache-2.0
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpd.content.signatures import ed25519

# RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc)
VECTORS = {
    "empty": (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "one byte": (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "two bytes": (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "sha abc": (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
seeds = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_rfc_8032_verify(name: str) -> None:
    key, message, signature = VECTORS[name]
    assert ed25519.verify(bytes.fromhex(key), message, bytes.fromhex(signature))


@pytest.mark.parametrize("bit", [0, 100, 255, 256, 400, 511])
def test_a_flipped_bit_in_the_signature_fails(bit: int) -> None:
    key, message, signature = (bytes.fromhex(VECTORS["two bytes"][0]), b"\xaf\x82", VECTORS["two bytes"][2])
    flipped = int.from_bytes(bytes.fromhex(signature), "little") ^ 1 << bit
    assert not ed25519.verify(key, message, flipped.to_bytes(64, "little"))


def test_a_signature_with_the_group_order_added_is_refused() -> None:
    key, message, signature = VECTORS["one byte"]
    r, s = bytes.fromhex(signature)[:32], int.from_bytes(bytes.fromhex(signature)[32:], "little")
    assert not ed25519.verify(bytes.fromhex(key), message, r + (s + ORDER).to_bytes(32, "little"))


@pytest.mark.parametrize(
    "key",
    [
        (PRIME + 1).to_bytes(32, "little"),  # y not reduced
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
        (2).to_bytes(32, "little"),  # y of no point
        bytes(31),
    ],
    ids=["unreduced", "negative zero", "off the curve", "short"],
)
def test_a_key_that_is_no_point_is_refused(key: bytes) -> None:
    assert not ed25519.verify(key, b"", bytes.fromhex(VECTORS["empty"][2]))


def test_a_short_signature_is_refused() -> None:
    assert not ed25519.verify(bytes.fromhex(VECTORS["empty"][0]), b"", bytes(63))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, message=st.binary(max_size=300))
def test_what_cryptography_signs_verifies_and_for_no_other_message(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519.verify(public, message, signature)
    assert not ed25519.verify(public, message + b"\0", signature)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, at=st.integers(0, 511))
@example(seed=bytes(32), at=511)
def test_it_agrees_with_cryptography_on_damaged_signatures(seed: bytes, at: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    damaged = (int.from_bytes(private.sign(b"message"), "little") ^ 1 << at).to_bytes(64, "little")
    assert ed25519.verify(public, b"message", damaged) == _verified_by_cryptography(public, b"message", damaged)


def _verified_by_cryptography(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True
