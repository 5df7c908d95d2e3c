# SPDX-License-Identifier: Apache-2.0
"""NATS credentials files."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.bus.site_side import until
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.connection import BusConnection
from dpd.bus.credentials import read_credentials
from dpd.bus_settings import BusSettings
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


PREFIXES = {"operator": 14 << 3, "account": 0, "user": 20 << 3}


class Identity:
    """A key of nkeys, and the tokens that it signs, as nsc makes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.key = Ed25519PrivateKey.generate()

    @property
    def raw(self) -> bytes:
        return self.key.private_bytes_raw()

    @property
    def public(self) -> str:
        body = bytes([PREFIXES[self.kind]]) + self.key.public_key().public_bytes_raw()
        return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")

    def sign(self, subject: Identity, nats: dict[str, object]) -> str:
        claims: dict[str, object] = {
            "jti": "X",
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": subject.kind,
            "sub": subject.public,
        }
        claims["nats"] = {"type": subject.kind, "version": 2, **nats}
        parts = [_url64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)]
        return ".".join([*parts, _url64(self.key.sign(".".join(parts).encode()))])


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class TestAgainstAServer:
    pytestmark = needs_nats

    @pytest.mark.parametrize("is_known", [True, False])
    async def test_a_server_with_operator_and_accounts_takes_who_is_known(self, tmp_path: Path, is_known: bool) -> None:
        operator, account, user, stranger = map(Identity, ("operator", "account", "user", "user"))
        unlimited: dict[str, object] = {"limits": {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True}}  # fmt: skip
        extra = "\n".join(
            [
                f"operator: {operator.sign(operator, {})}",
                "resolver: MEMORY",
                f"resolver_preload {{ {account.public}: {operator.sign(account, unlimited)} }}",
            ]
        )
        jwt = account.sign(user, {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}})
        path = tmp_path / "point.creds"
        seed = seed_of((user if is_known else stranger).raw)
        path.write_text(FILE.format(seed=seed).replace("eyJ0eXAiOiJKV1QifQ.e30.c2ln", jwt))
        with NatsServer(tmp_path / "nats", extra=extra, jetstream=False) as server:
            connection = BusConnection(BusSettings(url=server.url, credentials_file=str(path)), name="test")
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(connection.run([]))
                if is_known:
                    await until(lambda: connection.link, "the connection")
                else:
                    await until(lambda: "refuses dpd's credentials" in connection.trouble, "the refusal")
                running.cancel()
