# SPDX-License-Identifier: Apache-2.0
"""Ed25519 signatures checked by the fastest means that is installed: cryptography, OpenSSL's libcrypto, or pure Python.

The first two take 0.1 ms, the last one 2.5 ms. A receiver checks one manifest and ten BEATs a second, so that any will do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from dpd.content.signatures import ed25519, libcrypto

CONTROL_CONTEXT = (
    b"dpd-mc/1 control\0"  # before what is signed, so that no signature of a manifest counts for a datagram
)

Verify = Callable[[bytes, bytes, bytes], bool]

_EVP_PKEY_ED25519 = 1087  # NID_ED25519
# RFC 8032, section 7.1, test 1: a library that is installed may be built or configured (FIPS) without Ed25519.
_KNOWN_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
_KNOWN_SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)


def verify(public_key: bytes, body: bytes, signature: bytes) -> bool:
    """Whether the signature of the body was made with this key's secret. Bytes that are no key or no signature: False."""
    return _best_verify()(public_key, body, signature)


def verify_control(public_key: bytes, body: bytes, signature: bytes) -> bool:
    """The same for a BEAT or CONTROL; `body` is the datagram up to its signature."""
    return verify(public_key, CONTROL_CONTEXT + body, signature)


@cache
def _best_verify() -> Verify:
    for make in (_by_cryptography, _by_libcrypto):
        found = make()
        if found is not None and found(_KNOWN_KEY, b"", _KNOWN_SIGNATURE):
            return found
    return ed25519.verify


def _by_cryptography() -> Verify | None:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None

    def check(public_key: bytes, body: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, body)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True

    return check


def _by_libcrypto() -> Verify | None:
    library = libcrypto.load()
    if library is None:
        return None

    def check(public_key: bytes, body: bytes, signature: bytes) -> bool:
        key = library.EVP_PKEY_new_raw_public_key(_EVP_PKEY_ED25519, None, public_key, len(public_key))
        context = library.EVP_MD_CTX_new()
        try:
            if not key or not context or library.EVP_DigestVerifyInit(context, None, None, None, key) != 1:
                return False
            return bool(library.EVP_DigestVerify(context, signature, len(signature), body, len(body)) == 1)
        finally:
            library.EVP_MD_CTX_free(context)
            library.EVP_PKEY_free(key)
            library.ERR_clear_error()  # or Python's ssl would find our refusal in its thread's queue

    return check
