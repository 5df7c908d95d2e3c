# SPDX-License-Identifier: Apache-2.0
"""What a receiver asks of a distribution point over HTTP: the manifest, a place in the session, to be counted as done."""

from __future__ import annotations

import http.client
import json
import socket
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import quote, urlsplit

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.protocol.multicast.message import WIRE_VERSION
from dpd.service.receiver import Membership

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 << 20


class Unreachable(DpdError):
    """The distribution point does not answer now; it may later."""


class DistributionPoint:
    """A distribution point at `url`, such as http://dp:8080. Raises DpdError for a URL that cannot be one."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
            host.encode("idna")
        except ValueError:  # a port that is no number, an open bracket, a host that cannot be a name
            host, port = "", 0
        if not host or not host.isprintable() or " " in host or parts.scheme != "http" or parts.path.strip("/"):
            raise DpdError(f"{url}: expected the address of a distribution point such as http://dp:8080")
        self.host, self.port = host, port
        self.url = f"http://{parts.netloc}"

    def fetch_manifest(self, package_id: str, source_version: int | None) -> bytes:
        """The signed manifest of a package's version, or of its newest. Raises ContentNotFound, Unreachable."""
        version = f"/{source_version}" if source_version is not None else ""
        return self._ask("GET", f"/content/{quote(package_id, safe='')}{version}/manifest")

    def join(
        self, package_id: str, source_version: int, *, verified: bytes, credit: int, slots: int
    ) -> tuple[str, Membership]:
        """Ask for a place in the session. Returns (session id, membership). Raises SessionError (not now), Unreachable."""
        wish = {
            "wire": [WIRE_VERSION],
            "verified": verified.hex(),
            "credit": credit,
            "slots": slots,
            "name": socket.gethostname(),
        }
        path = f"/mc/sessions/{quote(package_id, safe='')}/join?source_version={source_version}"
        answer = self._ask_json("POST", path, wish)
        try:
            sender = answer["sender"] or socket.gethostbyname(self.host)
            membership = Membership(
                session=int(answer["session"]),
                epoch=int(answer["epoch"]),
                member=int(answer["member"], 16),
                group=_group(answer["group"]),
                port=_port(answer["port"]),
                feedback=(str(sender), _port(answer["feedback_port"])),
            )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise SessionError(f"{self.url}: its answer to the join cannot be read: {error!r}") from None
        return str(answer["session_id"]), membership

    def complete(self, session_id: str, member: int, counted: dict[str, int]) -> None:
        """Say that every slab is verified."""
        self._ask_json("POST", f"/mc/sessions/{session_id}/complete", {"member": f"{member:016x}", **counted})

    def local_address(self) -> str:
        """The address of the interface that reaches the distribution point: where its multicast comes in, too."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((self.host, self.port))
            except OSError as error:
                raise Unreachable(f"{self.url}: {error.strerror or error}") from None
            return str(probe.getsockname()[0])

    def _ask_json(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = json.loads(self._ask(method, path, json.dumps(body).encode()))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SessionError(f"{self.url}{path}: the answer is no JSON object; is this a distribution point?")
        return answer

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"{self.url}: {error or type(error).__name__}; is dpd running there, and is the port open?"
            ) from None
        finally:
            connection.close()
        if response.status < 300:
            return answer
        raise self._refused(response.status, path, answer)

    def _refused(self, status: int, path: str, answer: bytes) -> DpdError:
        try:
            message = str(json.loads(answer)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {status} for {path}"
        if status == 404:
            return ContentNotFound(f"{self.url}: {message}")
        if status >= 500:
            return Unreachable(f"{self.url}: {message}")
        if status == HTTPStatus.CONFLICT:
            return SessionError(f"{self.url}: {message}")
        return DpdError(f"{self.url}: {message}")


def _group(value: Any) -> str:
    if not IPv4Address(value).is_multicast:
        raise ValueError(f"{value} is no multicast group")
    return str(value)


def _port(value: Any) -> int:
    if not 0 < int(value) < 65536:
        raise ValueError(f"{value} is no port")
    return int(value)
