# SPDX-License-Identifier: Apache-2.0
"""OpenSSL's libcrypto by ctypes: on a machine being deployed it is there with Python's own ssl and hashlib, while the
cryptography package is not.

Loaded as PyDLL, so that calls keep the interpreter lock: each takes 1 to 100 us, and to give the lock away for that
long costs up to a thread switch interval (5 ms) to get it back.
"""

from __future__ import annotations

import ctypes
from functools import cache

_SONAMES = ("libcrypto.so.3", "libcrypto.so.1.1")  # Ed25519 came with 1.1.1

_pointer, _bytes, _size, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "EVP_PKEY_new_raw_public_key": (_pointer, (_int, _pointer, _bytes, _size)),
    "EVP_PKEY_free": (None, (_pointer,)),
    "EVP_MD_CTX_new": (_pointer, ()),
    "EVP_MD_CTX_free": (None, (_pointer,)),
    "EVP_DigestVerifyInit": (_int, (_pointer, _pointer, _pointer, _pointer, _pointer)),
    "EVP_DigestVerify": (_int, (_pointer, _bytes, _size, _bytes, _size)),
    "EVP_aes_128_gcm": (_pointer, ()),
    "EVP_CIPHER_CTX_new": (_pointer, ()),
    "EVP_CIPHER_CTX_free": (None, (_pointer,)),
    "EVP_CIPHER_CTX_ctrl": (_int, (_pointer, _int, _int, _pointer)),
    "EVP_EncryptInit_ex": (_int, (_pointer, _pointer, _pointer, _bytes, _bytes)),
    "EVP_EncryptUpdate": (_int, (_pointer, _pointer, _pointer, _pointer, _int)),
    "EVP_EncryptFinal_ex": (_int, (_pointer, _pointer, _pointer)),
    "EVP_DecryptInit_ex": (_int, (_pointer, _pointer, _pointer, _bytes, _bytes)),
    "EVP_DecryptUpdate": (_int, (_pointer, _pointer, _pointer, _pointer, _int)),
    "EVP_DecryptFinal_ex": (_int, (_pointer, _pointer, _pointer)),
    "ERR_clear_error": (None, ()),
}


@cache
def load() -> ctypes.PyDLL | None:
    """The library with its functions declared, or None where there is none that has them all."""
    for name in _SONAMES:
        try:
            library = ctypes.PyDLL(name)
            for function, (result, arguments) in _SIGNATURES.items():
                bound = getattr(library, function)
                bound.restype, bound.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return library
    return None
