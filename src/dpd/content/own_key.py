# SPDX-License-Identifier: Apache-2.0
"""The key that signs manifests and control datagrams: made once, kept in the library, readable by its owner alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from dpd.content.manifest import decode_signed, encode
from dpd.content.signatures.document import join_signature
from dpd.content.signatures.signature import CONTROL_CONTEXT
from dpd.content.storage.disk import write_whole
from dpd.content.storage.store import Store
from dpd.errors import ContentCorrupt, ContentError


class SigningKey:
    """An Ed25519 key pair, stored as PEM (PKCS #8) so that openssl reads it too."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def sign(self, body: bytes, what: str = "manifest") -> bytes:
        """The signed document of a canonical body; `what` it is called in there."""
        return join_signature(what, body, self.public, self._private.sign(body))

    def sign_bytes(self, body: bytes) -> bytes:
        """The 64 bytes alone. The body must say what it is, so that they never count for a document of another kind."""
        return self._private.sign(body)

    def sign_control(self, body: bytes) -> bytes:
        """The 64 bytes behind the body of a BEAT or CONTROL. 30 us, from any thread: a signature shares no state."""
        return self._private.sign(CONTROL_CONTEXT + body)

    def pem(self) -> bytes:
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def own_key(store: Store, manifests: Iterable[str]) -> SigningKey:
    """The key of this library, made if there is none. A new key signs every manifest before it is kept: a crash in
    between makes another. Raises ContentError if the key is damaged or others may read it."""
    key = _load(store.key)
    if key is None:
        key = SigningKey(Ed25519PrivateKey.generate())
        for name in manifests:
            _sign_again(store, name, key)
        write_whole(store.key, key.pem(), mode=0o600)
    return key


def _load(path: Path) -> SigningKey | None:
    try:
        with open(path, "rb") as file:
            mode, pem = os.fstat(file.fileno()).st_mode, file.read(4096)
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise ContentError(f"{path}: readable by others (mode {mode & 0o777:04o}), expected 0600; run chmod 600 on it")
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ContentError(
            f"{path}: no Ed25519 private key in PEM; restore it from a backup, or remove it to have a new one made"
        )
    return SigningKey(private)


def _sign_again(store: Store, name: str, key: SigningKey) -> None:
    try:
        manifest = decode_signed(store.manifest(name).read_bytes(), None)
    except (OSError, ContentCorrupt):
        return  # stays as it is, for verify to tell
    store.write_manifest(name, key.sign(encode(manifest)))
