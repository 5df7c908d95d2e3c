# SPDX-License-Identifier: Apache-2.0
"""A NATS credentials file (.creds, as nsc writes it): the user's JWT, and the seed of the key that signs the server's nonce.

nats-py leaves that to a package of its own over libsodium; `cryptography` is here anyway.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpd.errors import SettingsError

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+")
_USER_SEED_PREFIX = 18 << 3, 20 << 3  # "S" and "U" in nkeys' base32: a seed, of a user
_SEED_BYTES = 32


class Credentials:
    """What nats-py asks for, by callbacks. Nothing of it shows in its repr."""

    def __init__(self, jwt: str, key: Ed25519PrivateKey) -> None:
        self._jwt = jwt
        self._key = key

    def jwt(self) -> bytes:
        return self._jwt.encode()

    def sign(self, nonce: str) -> bytes:
        """In base64, as the CONNECT line has it."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def read_credentials(path: Path) -> Credentials:
    """Raises SettingsError, which shows nothing of what is in the file."""
    wrong = f'bus.credentials_file = "{path}"'
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise SettingsError(f"{wrong}: {error.strerror}; `nsc generate creds` writes one") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{wrong}: expected ASCII text as `nsc generate creds` writes it") from None
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise SettingsError(
            f"{wrong}: expected a user's JWT and its NKEY SEED between their BEGIN and END lines, as `nsc generate creds` writes them"
        )
    return Credentials(jwt[1], _read_seed(seed[1], wrong))


def _read_seed(text: str, wrong: str) -> Ed25519PrivateKey:
    """Two bytes of prefix, the seed, and a checksum, in base32 without padding."""
    broken = SettingsError(f"{wrong}: the seed is no user's, or damaged; copy the file once more")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise broken from None
    if len(raw) != 2 + _SEED_BYTES + 2 or _checksum(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
        raise broken
    if (raw[0] & 0xF8, (raw[0] & 0x07) << 5 | raw[1] >> 3) != _USER_SEED_PREFIX:
        raise broken
    return Ed25519PrivateKey.from_private_bytes(raw[2:-2])


def _checksum(data: bytes) -> int:
    """CRC-16/XMODEM, as nkeys has it."""
    return binascii.crc_hqx(data, 0)
