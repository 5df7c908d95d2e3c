# SPDX-License-Identifier: Apache-2.0
"""What a receiver asks of a distribution point over HTTP: the manifest, a place in the session, to be counted as done."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from dpd.errors import DpdError, SessionError
from dpd.target.distribution_point.connection import TIMEOUT_S, Connection, Unreachable, trust

if TYPE_CHECKING:  # for who joins; whoever only speaks HTTP starts sooner without
    from dpd.service.receiving.receiver import Membership

__all__ = ["DistributionPoint", "Unicast", "Unreachable"]

CIPHER = "aes-128-gcm"
KEY_BYTES, SALT_BYTES = 16, 4
PUBLIC_KEY_BYTES = 32
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Unicast:
    """The join answered: no place in the group, take the slabs over HTTP."""

    member: int
    reason: str


class DistributionPoint:
    """A distribution point at `url`, such as http://dp:8080. Raises DpdError for a URL that cannot be one.

    `ca_file`: PEM file of the authority that signed the certificate of an https address, where the system does not know it.
    """

    def __init__(self, url: str, ca_file: str = "") -> None:
        self.host, self.port, is_secure = _split(url)
        self._tls = trust(ca_file) if is_secure else None
        self.is_secure = is_secure
        self._connection = self.open_connection()
        self.url = self._connection.url

    def open_connection(self, timeout_s: float = TIMEOUT_S) -> Connection:
        """Another connection, for another thread."""
        return Connection(self.host, self.port, self._tls, timeout_s=timeout_s)

    def close(self) -> None:
        self._connection.close()

    def fetch_manifest(self, package_id: str, source_version: int | None) -> bytes:
        """The signed manifest of a package's version, or of its newest. Raises ContentNotFound, Unreachable."""
        version = f"/{source_version}" if source_version is not None else ""
        return self._connection.ask("GET", f"/content/{quote(package_id, safe='')}{version}/manifest")

    def join(
        self,
        package_id: str,
        source_version: int,
        *,
        verified: bytes,
        credit: int,
        slots: int,
        member: str = "",
        ciphers: tuple[str, ...] = (),
    ) -> tuple[str, Membership | Unicast]:
        """Ask for a place in the session; `member` is the one of an earlier join, which this replaces. Returns (session id,
        place). Raises SessionError (not now), Unreachable."""
        from dpd.protocol.multicast.message import WIRE_VERSION

        wish = {
            "wire": [WIRE_VERSION],
            "verified": verified.hex(),
            "credit": credit,
            "slots": slots,
            "name": socket.gethostname(),
            "member": member,
            "ciphers": list(ciphers),
        }
        path = f"/mc/sessions/{quote(package_id, safe='')}/join?source_version={source_version}"
        answer = self._ask_json("POST", path, wish)
        try:
            place = self._read_place(answer)
            return str(answer["session_id"]), place
        except (KeyError, TypeError, ValueError) as error:
            raise SessionError(f"{self.url}: its answer to the join cannot be read: {error!r}") from None

    def _read_place(self, answer: Mapping[str, Any]) -> Membership | Unicast:
        """Raises KeyError, TypeError, ValueError for what is missing or cannot be."""
        from dpd.service.receiving.receiver import Membership

        if answer.get("mode") == "unicast":
            return Unicast(int(answer["member"], 16), str(answer.get("reason", "")))
        cipher = answer.get("cipher") or ""
        if cipher not in ("", CIPHER):
            raise ValueError(f"{cipher} is no cipher known here")
        starts_in_s = answer.get("starts_in_s")
        return Membership(
            session=int(answer["session"]),
            epoch=int(answer["epoch"]),
            member=int(answer["member"], 16),
            group=_group(answer["group"]),
            port=_port(answer["port"]),
            feedback=(str(answer["sender"] or self._connection.peer_address()), _port(answer["feedback_port"])),
            speed_class=int(answer.get("class", 0)),
            source=str(ip_address(answer["source"])) if answer.get("source") else "",
            public_key=_octets(answer.get("public_key", ""), PUBLIC_KEY_BYTES),
            friendly=bool(answer.get("friendly", False)),
            floor_kib_s=int(answer.get("floor_kib_s", 0)),
            starts_in_s=None if starts_in_s is None else float(starts_in_s),
            waiting=str(answer.get("waiting") or ""),
            cipher=cipher,
            key=_octets(answer["key"], KEY_BYTES) if cipher else b"",
            salt=_octets(answer["salt"], SALT_BYTES) if cipher else b"",
        )

    def complete(self, session_id: str, member: int, statistics: Mapping[str, float]) -> None:
        """Say that every slab is verified, and what it took."""
        path = f"/mc/sessions/{session_id}/complete"
        self._ask_json("POST", path, {"member": f"{member:016x}", "statistics": dict(statistics)})

    def report_progress(self, session_id: str, member: int, verified: bytes, connection: Connection) -> None:
        """Tell where a receiver is that takes its slabs over HTTP. Raises SessionError where the session knows it no more."""
        body = {"member": f"{member:016x}", "verified": verified.hex()}
        connection.ask("POST", f"/mc/sessions/{session_id}/progress", json.dumps(body).encode())

    def local_address(self) -> str:
        """The address of the interface that reaches the distribution point: where its multicast comes in, too."""
        try:
            family, _, _, _, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(where)
                return str(probe.getsockname()[0])
        except OSError as error:
            raise Unreachable(f"{self.url}: {error.strerror or error}") from None

    def _ask_json(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = json.loads(self._connection.ask(method, path, json.dumps(body).encode()))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SessionError(f"{self.url}{path}: the answer is no JSON object; is this a distribution point?")
        return answer


def content_path(package_id: str, source_version: int) -> str:
    """Where the bytes of an image are."""
    return f"/content/{quote(package_id, safe='')}/{source_version}"


def _split(url: str) -> tuple[str, int, bool]:
    """(host, port, whether over TLS). Raises DpdError."""
    try:
        parts = urlsplit(url)
        usual_port = DEFAULT_PORTS[parts.scheme]
        host, port = parts.hostname or "", usual_port if parts.port is None else parts.port
        if not host.isascii():
            host.encode("idna")
    except (ValueError, KeyError):  # a port that is no number, an open bracket, a host that cannot be a name, ftp
        host, port = "", 0
    if not port or not host.isprintable() or not host or " " in host or parts.path.strip("/"):
        raise DpdError(f"{url}: expected the address of a distribution point such as http://dp:8080")
    return host, port, parts.scheme == "https"


def _group(value: Any) -> str:
    if not ip_address(value).is_multicast:
        raise ValueError(f"{value} is no multicast group")
    return str(value)


def _port(value: Any) -> int:
    if not 0 < int(value) < 65536:
        raise ValueError(f"{value} is no port")
    return int(value)


def _octets(value: Any, size: int) -> bytes:
    octets = bytes.fromhex(value)
    if octets and len(octets) != size:
        raise ValueError(f"{len(octets)} bytes, expected {size}")
    return octets
