# SPDX-License-Identifier: Apache-2.0
"""NATS credentials files."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpd.bus.credentials import read_credentials
from dpd.errors import SettingsError

FILE = """-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def seed_of(raw: bytes, prefix: tuple[int, int] = (18 << 3, 20 << 3)) -> str:
    """As nkeys writes one."""
    head = bytes([prefix[0] | prefix[1] >> 5, (prefix[1] & 31) << 3])
    body = head + raw
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def write(folder: Path, seed: str) -> Path:
    path = folder / "point.creds"
    path.write_text(FILE.format(seed=seed))
    return path


def test_the_key_signs_the_nonce_and_the_jwt_is_told(tmp_path: Path) -> None:
    raw = bytes(range(32))
    credentials = read_credentials(write(tmp_path, seed_of(raw)))
    assert credentials.jwt() == b"eyJ0eXAiOiJKV1QifQ.e30.c2ln"
    key = Ed25519PrivateKey.from_private_bytes(raw).public_key()
    key.verify(base64.b64decode(credentials.sign("nonce-of-the-server")), b"nonce-of-the-server")
    assert "eyJ0" not in repr(credentials)


@pytest.mark.parametrize(
    ("seed", "why"),
    [
        (seed_of(bytes(32))[:-4] + "AAAA", "damaged"),
        (seed_of(bytes(32), prefix=(18 << 3, 0)), "no user's"),
        ("not base32!", "between their BEGIN and END lines"),
        ("AAAA", "damaged"),
    ],
)
def test_a_seed_that_cannot_be_is_refused_and_not_shown(tmp_path: Path, seed: str, why: str) -> None:
    path = write(tmp_path, seed)
    with pytest.raises(SettingsError, match=why) as raised:
        read_credentials(path)
    assert seed not in str(raised.value)
    assert f'bus.credentials_file = "{path}"' in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file or directory; `nsc generate creds` writes one"):
        read_credentials(tmp_path / "none.creds")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.creds"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="expected ASCII text"):
        read_credentials(path)
