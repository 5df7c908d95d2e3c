# SPDX-License-Identifier: Apache-2.0
"""AES-128-GCM for each symbol: sealed behind the sender's machine, opened before the receiver's, which see plain ones.

A sealed symbol is its 28-byte header in clear, SYMBOL_BYTES of ciphertext and TAG_BYTES. The header is authenticated with
it (GCM's additional data), so that no field of it can be changed. The nonce is nowhere on the wire:

    salt (4) | class (1) | 0 (3) | tx_seq (4)                                   96 bits, NIST SP 800-38D section 8.2.1

Key and salt are random for each session, and tx_seq never comes twice in a class (the sender ends the session before it
wraps), so no nonce comes twice under a key; `Sealer` refuses one that would.

Done by the cryptography package, else by OpenSSL's libcrypto through ctypes. Measured, for a symbol in a train of 32 with
AES-NI: 1.5 us to seal and 1.5 to open by the first, 5.0 and 4.5 by the second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Protocol

from dpd.content.signatures import libcrypto
from dpd.errors import MisuseError, ServiceError
from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.message import TAG_BYTES, Flag

CIPHER = "aes-128-gcm"  # its name in joins
KEY_BYTES = 16
SALT_BYTES = 4

_SEALED = int(Flag.SEALED)
_GET_TAG, _SET_TAG = 0x10, 0x11  # EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG


class Cipher(Protocol):
    """AES-128-GCM under one key, for one thread at a time."""

    def __init__(self, key: bytes) -> None: ...

    def encrypt(self, nonce: bytes, plain: Buffer, header: bytes) -> bytes:
        """Ciphertext and tag."""

    def decrypt(self, nonce: bytes, sealed: Buffer, header: bytes) -> bytes | None:
        """The plain bytes; None where anything was changed."""


def available() -> bool:
    """Whether this machine can seal and open."""
    return _best_cipher() is not None


class Sealer:
    """Seals the symbols of one session's stream, in the order of their tx_seq. For one thread."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        """Raises ServiceError where nothing here can do it."""
        self._cipher = _make_cipher(key, salt)
        self._prefixes = _nonce_prefixes(salt)
        self._used = [
            b""
        ] * 256  # by class: the latest tx_seq; in network byte order the larger number is the larger bytes

    def seal(self, pieces: Sequence[Buffer]) -> list[Buffer]:
        """header, symbol, header, symbol, … with the symbols sealed; the headers carry Flag.SEALED already.

        What failed to be sent is sent again as it is, and not sealed again: raises MisuseError for a tx_seq that is not
        above the ones before it.
        """
        sealed: list[Buffer] = []
        encrypt, prefixes, used = self._cipher.encrypt, self._prefixes, self._used
        for header, symbol in zip(pieces[::2], pieces[1::2], strict=True):
            fixed = bytes(header)
            speed_class, sequence = fixed[15], fixed[16:20]
            if sequence <= used[speed_class] or not fixed[1] & _SEALED:
                raise MisuseError(_misuse(fixed, used[speed_class]))
            used[speed_class] = sequence
            sealed.append(fixed)
            sealed.append(encrypt(prefixes[speed_class] + sequence, symbol, fixed))
        return sealed


def _misuse(header: bytes, used: bytes) -> str:
    sequence, before = int.from_bytes(header[16:20], "big"), int.from_bytes(used, "big")
    return f"tx_seq {sequence} with flags {header[1]:#x} behind tx_seq {before}: expected SEALED, and no nonce twice"


def _nonce_prefixes(salt: bytes) -> list[bytes]:
    """What stands before the tx_seq, by class."""
    return [salt + bytes([speed_class, 0, 0, 0]) for speed_class in range(256)]


class Opener:
    """Opens the symbols of one session. For one thread."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        """Raises ServiceError where nothing here can do it."""
        self._decrypt = _make_cipher(key, salt).decrypt
        self._prefixes = _nonce_prefixes(salt)

    def open(self, header: Buffer, sealed: Buffer) -> bytes | None:
        """The symbol; None if it was not sealed, or if header, ciphertext or tag are not the sender's."""
        fixed = bytes(header)
        if not fixed[1] & _SEALED or len(sealed) < TAG_BYTES:
            return None
        return self._decrypt(self._prefixes[fixed[15]] + fixed[16:20], sealed, fixed)


def _make_cipher(key: bytes, salt: bytes) -> Cipher:
    if len(key) != KEY_BYTES or len(salt) != SALT_BYTES:
        raise MisuseError(f"a key of {len(key)} and a salt of {len(salt)} bytes, expected {KEY_BYTES} and {SALT_BYTES}")
    cipher = _best_cipher()
    if cipher is None:
        raise ServiceError(
            "AES-GCM cannot be had here: install the cryptography package, or OpenSSL (libcrypto.so.3) for this Python"
        )
    return cipher(key)


class _ByCryptography:
    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(key)
        self._invalid = InvalidTag
        self.encrypt = self._aead.encrypt

    def decrypt(self, nonce: bytes, sealed: Buffer, header: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, sealed, header)
        except self._invalid:
            return None


class _ByLibcrypto:
    """One context with the key scheduled, set to a new nonce for each symbol."""

    def __init__(self, key: bytes) -> None:
        library = libcrypto.load()
        if library is None:
            raise ImportError("libcrypto")
        self._library = library
        self._length = ctypes.c_int()
        self._length_at = ctypes.byref(self._length)
        self._tag = ctypes.create_string_buffer(TAG_BYTES)
        self._out = ctypes.create_string_buffer(4096)
        self._encryption, self._decryption = library.EVP_CIPHER_CTX_new(), library.EVP_CIPHER_CTX_new()
        cipher = library.EVP_aes_128_gcm()
        if (
            not self._encryption
            or not self._decryption
            or library.EVP_EncryptInit_ex(self._encryption, cipher, None, key, None) != 1
            or library.EVP_DecryptInit_ex(self._decryption, cipher, None, key, None) != 1
        ):
            raise ImportError("AES-128-GCM of libcrypto")

    def __del__(self) -> None:
        if hasattr(self, "_decryption"):
            self._library.EVP_CIPHER_CTX_free(self._encryption)
            self._library.EVP_CIPHER_CTX_free(self._decryption)

    def encrypt(self, nonce: bytes, plain: Buffer, header: bytes) -> bytes:
        library, context, length, out = self._library, self._encryption, self._length_at, self._space(len(plain))
        done = (
            library.EVP_EncryptInit_ex(context, None, None, None, nonce)
            and library.EVP_EncryptUpdate(context, None, length, header, len(header))
            and library.EVP_EncryptUpdate(context, out, length, bytes(plain), len(plain))
            and library.EVP_EncryptFinal_ex(context, self._tag, length)
            and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_BYTES, self._tag)
        )
        if done != 1:  # never seen; to send what was not encrypted would be worse than to stop
            raise ServiceError("libcrypto did not encrypt")
        return ctypes.string_at(out, len(plain)) + self._tag.raw

    def decrypt(self, nonce: bytes, sealed: Buffer, header: bytes) -> bytes | None:
        library, context, length = self._library, self._decryption, self._length_at
        size, content = len(sealed) - TAG_BYTES, bytes(sealed)
        out = self._space(size)
        done = (
            library.EVP_DecryptInit_ex(context, None, None, None, nonce)
            and library.EVP_DecryptUpdate(context, None, length, header, len(header))
            and library.EVP_DecryptUpdate(context, out, length, content, size)
            and library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_BYTES, content[size:])
            and library.EVP_DecryptFinal_ex(context, self._tag, length)
        )
        if done != 1:
            library.ERR_clear_error()  # or Python's ssl would find it in its thread's queue
            return None
        return ctypes.string_at(out, size)

    def _space(self, size: int) -> ctypes.Array[ctypes.c_char]:
        if size > len(self._out):
            self._out = ctypes.create_string_buffer(size)
        return self._out


# The Galois/Counter Mode of Operation, McGrew and Viega, test case 4: a library may be there and refuse (FIPS), or be broken.
_KNOWN_KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
_KNOWN_NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
_KNOWN_HEADER = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
_KNOWN_PLAIN = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
_KNOWN_SEALED = bytes.fromhex(
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
    "5bc94fbc3221a5db94fae95ae7121a47"
)


@cache
def _best_cipher() -> type[Cipher] | None:
    return next((cipher for cipher in (_ByCryptography, _ByLibcrypto) if _works(cipher)), None)


def _works(cipher: type[Cipher]) -> bool:
    try:
        made = cipher(_KNOWN_KEY)
    except (ImportError, ValueError):
        return False
    return (
        made.encrypt(_KNOWN_NONCE, _KNOWN_PLAIN, _KNOWN_HEADER) == _KNOWN_SEALED
        and made.decrypt(_KNOWN_NONCE, _KNOWN_SEALED, _KNOWN_HEADER) == _KNOWN_PLAIN
    )
