# SPDX-License-Identifier: Apache-2.0
"""Every way of checking a signature says the same, about good ones and bad ones, and openssl agrees."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.content.signatures.test_ed25519 import VECTORS

import dpd
from dpd.content.library import Library
from dpd.content.own_key import SigningKey
from dpd.content.signatures import ed25519, libcrypto, signature
from dpd.content.signatures.signature import CONTROL_CONTEXT, verify, verify_control

SOURCES = Path(dpd.__path__[0]).parent


def ways() -> dict[str, signature.Verify]:
    by_cryptography, by_libcrypto = signature._by_cryptography(), signature._by_libcrypto()
    assert by_cryptography is not None
    found = {"cryptography": by_cryptography, "pure": ed25519.verify}
    return found | ({"libcrypto": by_libcrypto} if by_libcrypto else {})


WAYS = ways()
each_way = pytest.mark.parametrize("way", WAYS)


@each_way
@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_rfc_8032_verify(way: str, name: str) -> None:
    key, message, signed = VECTORS[name]
    assert WAYS[way](bytes.fromhex(key), message, bytes.fromhex(signed))
    assert not WAYS[way](bytes.fromhex(key), message + b"x", bytes.fromhex(signed))


@each_way
@pytest.mark.parametrize(
    ("key", "signed"),
    [(b"", bytes(64)), (bytes(31), bytes(64)), (bytes(33), bytes(64)), (b"\xff" * 32, bytes(64)), (bytes(32), b""), (bytes(32), bytes(65))],
)  # fmt: skip
def test_what_is_no_key_or_no_signature_is_refused(way: str, key: bytes, signed: bytes) -> None:
    assert not WAYS[way](key, b"message", signed)


@settings(max_examples=40, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), body=st.binary(max_size=200), at=st.integers(0, 511))
@example(seed=bytes(32), body=b"", at=511)
def test_all_agree_on_good_and_on_damaged_signatures(seed: bytes, body: bytes, at: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, good = private.public_key().public_bytes_raw(), private.sign(body)
    damaged = (int.from_bytes(good, "little") ^ 1 << at).to_bytes(64, "little")
    assert {way: check(public, body, good) for way, check in WAYS.items()} == dict.fromkeys(WAYS, True)
    assert {way: check(public, body, damaged) for way, check in WAYS.items()} == dict.fromkeys(WAYS, False)


def test_a_refusal_by_libcrypto_leaves_no_error_behind_for_ssl() -> None:
    by_libcrypto, library = signature._by_libcrypto(), libcrypto.load()
    if by_libcrypto is None or library is None:
        pytest.skip("no libcrypto.so.3 here")
    assert not by_libcrypto(bytes(31), b"", bytes(64))
    assert library.ERR_peek_error() == 0


def test_a_signature_of_a_datagram_counts_for_nothing_else(library: Library) -> None:
    body = b"\x13 a BEAT"
    signed = library.sign_control(body)
    public = library.public_key()
    assert len(signed) == 64
    assert verify_control(public, body, signed)
    assert verify(public, CONTROL_CONTEXT + body, signed)
    assert not verify(public, body, signed)
    assert not verify_control(public, body + b"\0", signed)


def test_a_signature_of_a_manifest_does_not_count_for_a_datagram() -> None:
    private = Ed25519PrivateKey.generate()
    assert not verify_control(private.public_key().public_bytes_raw(), b"{}", private.sign(b"{}"))


def test_many_threads_sign_and_verify_at_once(library: Library) -> None:
    public = library.public_key()
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda n: library.sign_control(b"%d" % n), range(200)))
        for name, check in WAYS.items():
            if name != "pure":
                bodies = [CONTROL_CONTEXT + b"%d" % n for n in range(200)]
                assert all(pool.map(check, [public] * 200, bodies, signed))


@pytest.mark.parametrize(
    ("blocked", "expected"), [([], "_by_libcrypto"), (["libcrypto.so.3", "libcrypto.so.1.1"], "ed25519")]
)
def test_without_packages_a_signature_is_still_checked(blocked: list[str], expected: str) -> None:
    """As on a machine being deployed: no site-packages; then without OpenSSL, too."""
    if expected == "_by_libcrypto" and libcrypto.load() is None:
        pytest.skip("no libcrypto.so.3 here")
    key = SigningKey(Ed25519PrivateKey.generate())
    signed = key.sign_control(b"body")
    program = f"""
import sys
sys.path.insert(0, {str(SOURCES)!r})
from dpd.content.signatures import libcrypto
from dpd.content.signatures import signature
libcrypto._SONAMES = tuple(name for name in libcrypto._SONAMES if name not in {blocked!r})
assert signature.verify_control({key.public!r}, b"body", {signed!r})
assert not signature.verify_control({key.public!r}, b"Body", {signed!r})
best = signature._best_verify()
print(best.__module__, best.__qualname__)
"""
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert expected in ran.stdout


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_signs_for_us_and_checks_ours(library: Library, root: Path, tmp_path: Path) -> None:
    key, body = root / "keys" / "manifest.ed25519", tmp_path / "body"
    body.write_bytes(CONTROL_CONTEXT + b"datagram")
    signed = tmp_path / "signature"
    files = ["-inkey", str(key), "-rawin", "-in", str(body)]
    subprocess.run(["openssl", "pkeyutl", "-sign", *files, "-out", signed], check=True, capture_output=True)
    for check in WAYS.values():
        assert check(library.public_key(), body.read_bytes(), signed.read_bytes())
    signed.write_bytes(library.sign_control(b"datagram"))
    ran = subprocess.run(
        ["openssl", "pkeyutl", "-verify", *files, "-sigfile", signed], check=True, capture_output=True, text=True
    )
    assert "Verified Successfully" in ran.stdout
