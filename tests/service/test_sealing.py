# SPDX-License-Identifier: Apache-2.0
"""Sealed symbols: vectors of AES-GCM, both ways of doing it byte for byte, every bit authenticated, no nonce twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dpd
from dpd.content.signatures import libcrypto
from dpd.errors import MisuseError, ServiceError
from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.protocol.multicast.message import HEADER_BYTES, TAG_BYTES, Flag, Header, MessageType
from dpd.service import sealing
from dpd.service.sealing import Cipher, Opener, Sealer

KEY, SALT = bytes(range(16)), b"salt"
CIPHERS: dict[str, type[Cipher]] = {"cryptography": sealing._ByCryptography, "libcrypto": sealing._ByLibcrypto}

# McGrew and Viega, The Galois/Counter Mode of Operation, appendix B, AES-128 with nonces of 96 bits: key, nonce, plain,
# additional data, ciphertext and tag. NIST's validation suite contains them.
_PLAIN = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_CIPHERED = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
)
_KEY_3, _NONCE_3 = "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888"
VECTORS = {
    "case 1": ("0" * 32, "0" * 24, "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
    "case 2": ("0" * 32, "0" * 24, "0" * 32, "", "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
    "case 3": (_KEY_3, _NONCE_3, _PLAIN, "", _CIPHERED + "4d5c2af327cd64a62cf35abd2ba6fab4"),
    "case 4": (_KEY_3, _NONCE_3, _PLAIN[:-8], "feedfacedeadbeeffeedfacedeadbeefabaddad2", _CIPHERED[:-8] + "5bc94fbc3221a5db94fae95ae7121a47"),
}  # fmt: skip


@pytest.fixture(params=CIPHERS)
def cipher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Cipher]:
    """Each of the two in turn, as the one that Sealer and Opener use."""
    found = CIPHERS[request.param]
    if found is sealing._ByLibcrypto and libcrypto.load() is None:
        pytest.skip("no libcrypto.so.3 here")
    monkeypatch.setattr(sealing, "_best_cipher", lambda: found)
    return found


def header(tx_seq: int = 0, *, speed_class: int = 0, flags: int = Flag.SEALED) -> bytes:
    return Header(
        MessageType.DATA, 0xA1B2C3D4, 7, flags, slab=3, row=2, column=1, speed_class=speed_class, tx_seq=tx_seq
    ).encode()


def train(first: int = 0, count: int = 32, *, speed_class: int = 0) -> list[bytes | memoryview]:
    """As SlabSource gives it: views, of a mapping that may not be written to."""
    pieces: list[bytes | memoryview] = []
    for i in range(count):
        pieces += [memoryview(header(first + i, speed_class=speed_class)), memoryview(bytes([i]) * SYMBOL_BYTES)]
    return pieces


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_gcm(cipher: type[Cipher], name: str) -> None:
    key, nonce, plain, extra, sealed = map(bytes.fromhex, VECTORS[name])
    assert cipher(key).encrypt(nonce, plain, extra) == sealed
    assert cipher(key).decrypt(nonce, sealed, extra) == plain


def test_a_train_comes_back_as_it_was(cipher: type[Cipher]) -> None:
    sealer, opener = Sealer(KEY, SALT), Opener(KEY, SALT)
    for first in (0, 32, 1000, (1 << 32) - 32):
        plain = train(first)
        sealed = sealer.seal(plain)
        assert [len(piece) for piece in sealed] == [HEADER_BYTES, SYMBOL_BYTES + TAG_BYTES] * 32
        assert sealed[::2] == plain[::2], "headers stay in clear"
        opened = [opener.open(memoryview(bytearray(h)), memoryview(bytearray(s))) for h, s in zip(sealed[::2], sealed[1::2], strict=True)]  # fmt: skip
        assert opened == plain[1::2]


@settings(deadline=None, max_examples=60)
@given(
    key=st.binary(min_size=16, max_size=16),
    salt=st.binary(min_size=4, max_size=4),
    symbol=st.binary(max_size=5000),
    tx_seq=st.integers(0, (1 << 32) - 1),
    speed_class=st.integers(0, 255),
)
def test_both_ways_give_the_same_bytes(key: bytes, salt: bytes, symbol: bytes, tx_seq: int, speed_class: int) -> None:
    if libcrypto.load() is None:
        pytest.skip("no libcrypto.so.3 here")
    fixed = header(tx_seq, speed_class=speed_class)
    nonce = salt + bytes([speed_class, 0, 0, 0]) + tx_seq.to_bytes(4, "big")
    made = [each(key) for each in CIPHERS.values()]
    sealed = [each.encrypt(nonce, memoryview(symbol), fixed) for each in made]
    assert sealed[0] == sealed[1]
    assert [each.decrypt(nonce, memoryview(sealed[0]), fixed) for each in made] == [symbol, symbol]
    assert Sealer(key, salt).seal([fixed, symbol])[1] == sealed[0], "the nonce is salt, class, zeros, tx_seq"


def test_a_changed_bit_anywhere_is_found(cipher: type[Cipher]) -> None:
    fixed, sealed = Sealer(KEY, SALT).seal([header(9), b"symbol" * 10])
    opener = Opener(KEY, SALT)
    whole = bytes(fixed) + bytes(sealed)
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        assert opener.open(changed[:HEADER_BYTES], changed[HEADER_BYTES:]) is None, bit
    assert opener.open(fixed, sealed) == b"symbol" * 10, "and what came before does no harm"


@pytest.mark.parametrize("size", [0, 1, TAG_BYTES - 1, TAG_BYTES, 75])
def test_cut_short_or_lengthened_is_found(cipher: type[Cipher], size: int) -> None:
    fixed, sealed = Sealer(KEY, SALT).seal([header(), b"symbol" * 10])
    opener = Opener(KEY, SALT)
    assert opener.open(fixed, bytes(sealed)[:size]) is None
    assert opener.open(fixed, bytes(sealed) + bytes(size + 1)) is None


def test_another_key_or_salt_opens_nothing(cipher: type[Cipher]) -> None:
    fixed, sealed = Sealer(KEY, SALT).seal([header(), bytes(SYMBOL_BYTES)])
    assert Opener(KEY[::-1], SALT).open(fixed, sealed) is None
    assert Opener(KEY, b"SALT").open(fixed, sealed) is None


def test_a_plain_symbol_is_refused_in_a_sealed_session(cipher: type[Cipher]) -> None:
    assert Opener(KEY, SALT).open(header(flags=0), bytes(SYMBOL_BYTES + TAG_BYTES)) is None


@pytest.mark.parametrize("again", [5, 4, 0])
def test_no_nonce_comes_twice(cipher: type[Cipher], again: int) -> None:
    sealer = Sealer(KEY, SALT)
    sealer.seal(train(0, 6))
    with pytest.raises(MisuseError, match=rf"tx_seq {again} .* behind tx_seq 5: .* no nonce twice"):
        sealer.seal(train(again, 1))
    sealer.seal(train(6, 1))
    sealer.seal(train(again, 1, speed_class=1))  # another class is another nonce
    sealer.seal(train((1 << 32) - 1, 1))
    with pytest.raises(MisuseError):
        sealer.seal(train(0, 1))  # wrapped


def test_the_same_symbol_never_looks_the_same(cipher: type[Cipher]) -> None:
    sealer = Sealer(KEY, SALT)
    pieces: list[bytes] = []
    for speed_class in range(3):
        for tx_seq in (0, 1, 2, 256, 65536):
            pieces += [header(tx_seq, speed_class=speed_class), bytes(SYMBOL_BYTES)]
    assert len({bytes(piece) for piece in sealer.seal(pieces)[1::2]}) == 15


def test_a_symbol_that_is_not_marked_is_not_sealed(cipher: type[Cipher]) -> None:
    with pytest.raises(MisuseError, match="expected SEALED"):
        Sealer(KEY, SALT).seal([header(flags=0), bytes(SYMBOL_BYTES)])


@pytest.mark.parametrize(("key", "salt"), [(b"short", SALT), (bytes(32), SALT), (KEY, b""), (KEY, bytes(12))])
def test_a_key_or_salt_of_another_length_is_refused(key: bytes, salt: bytes) -> None:
    with pytest.raises(MisuseError, match="expected 16 and 4"):
        Opener(key, salt)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sealing._best_cipher.cache_clear()
    libcrypto.load.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    monkeypatch.setattr(libcrypto, "_SONAMES", ())
    yield
    sealing._best_cipher.cache_clear()
    libcrypto.load.cache_clear()


@pytest.mark.usefixtures("nothing_installed")
def test_without_any_library_it_says_so() -> None:
    assert not sealing.available()
    with pytest.raises(ServiceError, match="install the cryptography package, or OpenSSL"):
        Sealer(KEY, SALT)


def test_without_packages_libcrypto_opens_what_cryptography_sealed() -> None:
    """As on a machine being deployed: no site-packages."""
    if libcrypto.load() is None:
        pytest.skip("no libcrypto.so.3 here")
    fixed, sealed = Sealer(KEY, SALT).seal([header(77), b"symbol" * 100])
    program = f"""
import sys
sys.path.insert(0, {str(Path(dpd.__path__[0]).parent)!r})
from dpd.service import sealing
assert sealing.available()
assert sealing._best_cipher() is sealing._ByLibcrypto
opener = sealing.Opener({KEY!r}, {SALT!r})
assert opener.open({bytes(fixed)!r}, {bytes(sealed)!r}) == b"symbol" * 100
assert opener.open({bytes(fixed)!r}, {bytes(sealed)[::-1]!r}) is None
"""
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
