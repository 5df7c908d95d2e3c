# SPDX-License-Identifier: Apache-2.0
"""The command line's side of the control API: plain HTTP over the daemon's Unix socket, standard library alone, so
that a command starts in the time that a shell user does not notice."""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from dpd.errors import DpdError

CHUNK_BYTES = 1 << 20
SITE_SOCKET = "/run/dpd-site/control.sock"
TIMEOUT_S = 30.0
PROBE_S = 10.0  # a site server that waits for a point is asked meanwhile whether it is there
STREAM_TIMEOUT_S = 45.0  # between two lines of a stream, which has a heartbeat each 15 s
LONG_TIMEOUT_S = 600.0  # between two lines of a long job; a slow disk may take its time with one slab

Sent = Callable[[int], None]
Write = Callable[[bytes], object]


class Readable(Protocol):
    """A file, or several read as one."""

    def read(self, count: int, /) -> bytes: ...


class DaemonUnreachable(DpdError):
    """Nobody answers at the socket."""


class RefusedByDaemon(DpdError):
    """The daemon said no; `code` is from the API's closed list."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Aim:
    """Whom the commands of this run ask in place of the daemon at their own socket: the site server, or a point through it."""

    site_socket: str
    point: str = ""


AIM: ContextVar[Aim | None] = ContextVar("AIM", default=None)


class Client:
    """Asks one daemon, or whom the run's `--dp` or `--site` names. Each question has its own connection."""

    def __init__(self, path: str) -> None:
        aim = AIM.get()
        self._path = path if aim is None else aim.site_socket
        self._of_site = aim is not None
        self._prefix = ("points", aim.point) if aim is not None and aim.point else ()

    def get(self, *parts: str, **query: object) -> Any:
        """One JSON object. Raises DaemonUnreachable, RefusedByDaemon."""
        return self._ask("GET", self._target(parts, query))

    def delete(self, *parts: str, **query: object) -> Any:
        return self._ask("DELETE", self._target(parts, query))

    def post(self, *parts: str, body: Mapping[str, object] | None = None) -> Any:
        return self._ask("POST", self._target(parts, {}), None if body is None else json.dumps(body).encode())

    def patch(self, *parts: str, body: Mapping[str, object], **query: object) -> Any:
        return self._ask("PATCH", self._target(parts, query), json.dumps(body).encode())

    def post_text(self, *parts: str, text: bytes, content_type: str, **query: object) -> Any:
        """A file of many things, which may take its time."""
        return self._ask("POST", self._target(parts, query), text, content_type, LONG_TIMEOUT_S)

    def follow(
        self, *parts: str, body: Mapping[str, object] | None = None, **query: object
    ) -> Iterator[dict[str, Any]]:
        """The lines of a long job, up to the one that has its content. Raises RefusedByDaemon for its error line."""
        encoded = None if body is None else json.dumps(body).encode()
        connection = self._connection(LONG_TIMEOUT_S)
        try:
            connection.request("POST", self._target(parts, query), encoded, {"Content-Type": "application/json"})
            yield from _lines(self._response(connection))
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from None
        finally:
            connection.close()

    def stream(self, *parts: str, **query: object) -> Iterator[str]:
        """The lines of an answer that has no end, until it ends after all. Raises RefusedByDaemon; DaemonUnreachable where it
        breaks off or falls silent."""
        connection = self._connection(STREAM_TIMEOUT_S)
        try:
            connection.request("GET", self._target(parts, query))
            response = self._response(connection)
            if response.status != 200:
                _checked(response.status, response.read())
            for line in response:
                yield line.decode().rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from None
        finally:
            connection.close()

    def upload(
        self, file: Readable, *parts: str, size_bytes: int | None, sent: Sent, **query: object
    ) -> Iterator[dict[str, Any]]:
        """Send a file, of a length that may be unknown, calling `sent` with the bytes so far; then the lines as `follow` gives
        them."""
        connection = self._connection(LONG_TIMEOUT_S)
        try:
            connection.putrequest("POST", self._target(parts, query))
            connection.putheader("Content-Type", "application/octet-stream")
            if size_bytes is None:
                connection.putheader("Transfer-Encoding", "chunked")
            else:
                connection.putheader("Content-Length", str(size_bytes))
            connection.endheaders()
            _send_body(connection, file, sent, in_chunks=size_bytes is None)
            yield from _lines(self._response(connection))
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from None
        finally:
            connection.close()

    def download(self, *parts: str, body: bytes, write: Write, **query: object) -> Iterator[tuple[int, int]]:
        """Ask for a file with a POST and pass it on piece by piece; each time how many of how many bytes came. Raises
        RefusedByDaemon, also where it ends early."""
        connection = self._connection(LONG_TIMEOUT_S)
        try:
            connection.request("POST", self._target(parts, query), body, {"Content-Type": "application/json"})
            response = self._response(connection)
            if response.status != 200:
                _checked(response.status, response.read())
            total, done = int(response.headers["Content-Length"]), 0
            while piece := _next_piece(response):
                write(piece)
                done += len(piece)
                yield done, total
            if done != total:
                raise RefusedByDaemon(
                    "broken_off", f"ended after {done} of {total} bytes; `journalctl -u dpd` tells why"
                )
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from None
        finally:
            connection.close()

    def _ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        connection = self._connection(timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": content_type} if body else {})
            response = self._response(connection)
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from None
        finally:
            connection.close()
        return _checked(response.status, content)

    def _response(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """A site server waits for a point as long as its settings say (bus.ask_timeout_s), and on as long as the point says that it
        is at it; then so does the command, while the site server itself is there."""
        while self._of_site and not select.select([connection.sock], [], [], PROBE_S)[0]:
            probe = self._connection(TIMEOUT_S)
            try:
                probe.request("GET", "/v1/status")
                probe.getresponse().read()
            finally:
                probe.close()
        return connection.getresponse()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, timeout_s)

    def _target(self, parts: tuple[str, ...], query: Mapping[str, object]) -> str:
        return _target((*self._prefix, *parts), query)

    def _explain(self, error: Exception) -> DaemonUnreachable:
        who, unit = ("the site server", "dpd-site") if self._of_site else ("dpd", "dpd")
        options = "--site-socket or DPD_SITE_SOCKET" if self._of_site else "--socket or DPD_SOCKET"
        start = f"`systemctl start {unit}` starts it, {options} names another socket"
        if isinstance(error, FileNotFoundError):
            return DaemonUnreachable(f"{who} does not run: no socket {self._path}; {start}")
        if isinstance(error, ConnectionRefusedError):
            return DaemonUnreachable(f"{who} does not run: nobody listens at {self._path}; {start}")
        if isinstance(error, PermissionError):
            return DaemonUnreachable(
                f"{self._path}: not permitted; become root, or a member of the group that owns the socket (control.socket_group)"
            )
        if isinstance(error, TimeoutError):
            return DaemonUnreachable(f"{self._path}: no answer in time; `journalctl -u {unit}` may tell why")
        return DaemonUnreachable(
            f"{self._path}: the connection broke off: {error}; `journalctl -u {unit}` may tell why"
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def _target(parts: tuple[str, ...], query: Mapping[str, object]) -> str:
    path = "/v1/" + "/".join(quote(part, safe=":") for part in parts)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _next_piece(response: http.client.HTTPResponse) -> bytes:
    """None where the daemon broke it off."""
    try:
        return response.read1(CHUNK_BYTES)
    except (ConnectionResetError, http.client.IncompleteRead):
        return b""


def _send_body(connection: http.client.HTTPConnection, file: Readable, sent: Sent, *, in_chunks: bool = False) -> None:
    """Stop as soon as the daemon answers before the end: it has refused, and nobody would read the rest."""
    total = 0
    try:
        while chunk := file.read(CHUNK_BYTES):
            if select.select([connection.sock], [], [], 0)[0]:
                return
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if in_chunks else chunk)
            total += len(chunk)
            sent(total)
        if in_chunks:
            connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the refusal is waiting to be read


def _lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    if response.status != 200:
        _checked(response.status, response.read())
    line: dict[str, Any] = {}
    for text in response:
        line = json.loads(text)
        if "error" in line:
            raise RefusedByDaemon(**line["error"])
        yield line
    if "content" not in line:
        raise RefusedByDaemon("broken_off", "the daemon ended before the job did; ask again when it is back")


def _checked(status: int, content: bytes) -> Any:
    try:
        reply = json.loads(content)
    except ValueError:
        raise RefusedByDaemon("no_json", f"status {status} and no JSON: is this socket dpd's?") from None
    if status != 200:
        raise RefusedByDaemon(**reply["error"])
    return reply


def plain_name(path: Path) -> str:
    """The file's name as the daemon takes it."""
    return path.name.lstrip(".") or "image"
