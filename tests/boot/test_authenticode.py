# SPDX-License-Identifier: Apache-2.0
"""Signatures: who made them, and whether firmware could take them at all."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.boot.signing import Signer, authenticode, authority, make_pe, sign

from dpd.boot.authenticode import Signature, SignatureFault, read_signature
from dpd.errors import MalformedImage

IMAGE = make_pe()


@pytest.fixture(scope="module")
def root() -> Signer:
    return authority("Test Root")


@pytest.fixture(scope="module")
def signer(root: Signer) -> Signer:
    return root.issue("Test CA 2023").issue("Test Signer")


def digest_of_image(algorithm: str) -> bytes:
    return authenticode(IMAGE, algorithm)


def block(signed: bytes) -> bytes:
    """The CMS of the first WIN_CERTIFICATE."""
    at = len(IMAGE)
    return signed[at + 8 : at + int.from_bytes(signed[at : at + 4], "little")]


def test_the_signer_and_who_vouches_for_it(signer: Signer) -> None:
    found = read_signature(block(sign(IMAGE, signer)), digest_of_image)
    fingerprints = tuple(certificate.fingerprint(hashes.SHA256()).hex() for certificate in signer.chain)
    assert found == Signature(
        "Test Signer", "Test CA 2023", ("Test CA 2023", "Test Root"), "sha256", None, fingerprints
    )


def test_padding_behind_the_signature_is_allowed(signer: Signer) -> None:
    assert read_signature(block(sign(IMAGE, signer)) + bytes(7), digest_of_image).fault is None


def test_a_file_changed_after_signing(signer: Signer) -> None:
    found = read_signature(block(sign(IMAGE, signer)), lambda name: hashlib.new(name, b"other").digest())
    assert (found.signer, found.fault) == ("Test Signer", SignatureFault.CHANGED)


def test_a_signature_that_the_certificate_did_not_make(signer: Signer, root: Signer) -> None:
    stranger = authority("Somebody else")
    thief = Signer(stranger.key, signer.chain)  # the name of one, the key of another
    assert read_signature(block(sign(IMAGE, thief)), digest_of_image).fault is SignatureFault.FORGED


def test_signed_attributes_that_were_exchanged(signer: Signer) -> None:
    """The hash of the content is one of the signed attributes; another image's content must not stand below it."""
    other = authenticode(make_pe(filler=b"\x90"))
    cms = block(sign(IMAGE, signer, digest=other)).replace(other, authenticode(IMAGE))
    assert read_signature(cms, digest_of_image).fault is SignatureFault.FORGED


def test_no_certificate_of_the_signer(signer: Signer) -> None:
    found = read_signature(block(sign(IMAGE, signer, certificates=False)), digest_of_image)
    assert (found.signer, found.fault) == ("", SignatureFault.NO_CERTIFICATE)


def test_an_issuer_that_did_not_sign_is_no_authority(signer: Signer) -> None:
    """Certificates of any name can be put into the block; the chain counts only as far as the keys agree."""
    impostor = authority("Test CA 2023")
    found = read_signature(block(sign(IMAGE, Signer(signer.key, (signer.chain[0], *impostor.chain)))), digest_of_image)
    assert (found.issuer, found.authorities, found.fault) == ("Test CA 2023", (), None)


@pytest.mark.parametrize("cms", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x01", bytes(40), b"\x30\x02\x05\x00"])
def test_what_is_no_signature_is_refused(cms: bytes) -> None:
    with pytest.raises(MalformedImage):
        read_signature(cms, digest_of_image)


def test_a_certificate_of_an_unknown_version_is_refused(signer: Signer) -> None:
    own = signer.chain[0].public_bytes(Encoding.DER)
    at = own.index(b"\xa0\x03\x02\x01\x02")  # version 3
    cms = block(sign(IMAGE, signer)).replace(own, own[: at + 4] + b"\x7f" + own[at + 5 :])
    with pytest.raises(MalformedImage) as caught:
        read_signature(cms, digest_of_image)
    assert caught.value.reason == "bad_signature_block"


def test_every_cut_and_every_changed_byte_is_refused_or_read(signer: Signer) -> None:
    whole, reasons = block(sign(IMAGE, signer)), set()
    for at in range(0, len(whole), 7):
        with pytest.raises(MalformedImage):
            read_signature(whole[:at], digest_of_image)
        changed = whole[:at] + bytes((whole[at] ^ 0x15,)) + whole[at + 1 :]
        try:
            read_signature(changed, digest_of_image)
        except MalformedImage as error:
            reasons.add(error.reason)
    assert reasons == {"bad_der", "bad_signature_block"}
