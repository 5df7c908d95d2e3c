# SPDX-License-Identifier: Apache-2.0
"""One HTTP or HTTPS connection to a distribution point, kept open from request to request.

A TCP connection that begins with a lost SYN costs a second, since the kernel waits that long before it sends the next;
so another attempt is begun meanwhile and the first that stands is taken. Manifest, join and slabs go over the same one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.protocol.http.answer import Answer

if TYPE_CHECKING:
    import io
    import ssl

TIMEOUT_S = 10.0
FIRST_ATTEMPT_S = 0.25  # then twice as long each time; a LAN answers in 0.001
MAX_ATTEMPTS = 6
MAX_ANSWER_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
STREAM_BYTES = 1 << 16
PARTIAL_CONTENT, NOT_FOUND, CONFLICT = 206, 404, 409
WRONG_CLOCK, NO_NAME, NO_ADDRESS = 9, 62, 64  # X509_V_ERR_CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")  # OpenSSL's reasons, by its version


class Unreachable(DpdError):
    """The distribution point does not answer now; it may later."""


class Refused(DpdError):
    """The distribution point does not do it: `code` is its word for why, "" where it has none."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Connection:
    """Requests to `host` and `port`, one after the other, over TLS where `tls` is given. For one thread at a time."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
        self._authority = f"[{name.partition('%')[0]}]:{port}" if ":" in name else f"{name}:{port}"
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self._host, self._port, self._tls = name, port, tls
        self._timeout_s = timeout_s
        self._peer = ""
        self._sock: socket.socket | None = None
        self._stream: io.BufferedReader

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a good answer. Raises ContentNotFound, SessionError (not now), Unreachable, Refused, DpdError."""
        told = {"Content-Type": "application/json", "Content-Length": str(len(body))} if body is not None else {}
        answer = self._request(method, path, told | dict(headers or {}), body or b"")
        content = self._read(answer)
        if answer.status < 300:
            return content
        raise self._refused(answer.status, path, content)

    def fetch_extent(self, path: str, offset: int, into: memoryview) -> int:
        """Read `into` full from `offset` of a file on. Returns the bytes that came before the connection broke: fewer than
        asked are no error. Raises as `ask`."""
        extent = f"{offset}-{offset + len(into) - 1}"
        answer = self._request("GET", path, {"Range": f"bytes={extent}"}, b"")
        if answer.status != PARTIAL_CONTENT:
            content = self._read(answer) if answer.status >= 300 else b""
            self.close()  # of a whole file nobody wants to read the rest
            raise self._refused(answer.status, path, content)
        told = answer.headers.get("content-range", "")
        if not told.startswith(f"bytes {extent}/"):
            self.close()
            raise DpdError(f"{self.url}{path}: asked for bytes={extent}, got {told}")
        return self._read_into(answer, into)

    def _read_into(self, answer: Answer, into: memoryview) -> int:
        done = 0
        try:
            while done < len(into) and (count := answer.readinto(into[done : done + PIECE_BYTES])):
                done += count
        except OSError:
            self.close()
            return done
        if done < len(into) or answer.is_last:
            self.close()
        return done

    def peer_address(self) -> str:
        """The address that answered last."""
        with contextlib.suppress(OSError):
            if self._sock is not None:
                self._peer = str(self._sock.getpeername()[0])
        return self._peer

    def interrupt(self) -> None:
        """From another thread: let a request under way fail now."""
        with contextlib.suppress(OSError, AttributeError):  # it may be closed at this very moment
            self._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def close(self) -> None:
        if self._sock is not None:
            self.peer_address()  # is asked for after the answer
            self._stream.close()
            self._sock.close()
            self._sock = None

    def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send it and read the answer's head; once more where the other side had closed what was kept open."""
        was_open = self._sock is not None
        try:
            return self._exchange(method, path, headers, body)
        except ConnectionError as error:
            if not was_open:
                raise self._unreachable(error) from None
        except OSError as error:
            raise self._unreachable(error) from None
        try:
            return self._exchange(method, path, headers, body)
        except OSError as error:
            raise self._unreachable(error) from None

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        fields = {"Host": self._authority, "Accept-Encoding": "identity", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            if self._sock is None:
                self._sock = self._open()
                self._stream = cast("io.BufferedReader", self._sock.makefile("rb", STREAM_BYTES))
            self._sock.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
            return Answer(self._stream)
        except BaseException:
            self.close()
            raise

    def _open(self) -> socket.socket:
        sock = connect(self._host, self._port, TIMEOUT_S)
        sock.settimeout(self._timeout_s)
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            sock.close()
            raise self._distrusted(error) from None

    def _read(self, answer: Answer) -> bytes:
        try:
            content = answer.read(MAX_ANSWER_BYTES)
        except OSError as error:
            self.close()
            raise self._unreachable(error) from None
        if answer.is_last:
            self.close()
        return content

    def _unreachable(self, error: Exception) -> Unreachable:
        told = getattr(error, "strerror", "") or error or type(error).__name__
        return Unreachable(f"{self.url}: {told}; is dpd running there, and is the port open?")

    def _distrusted(self, error: OSError) -> Exception:
        """What a failed handshake means, in words; whatever is not TLS's own stays what it was."""
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            advice = _certificate_advice(error.verify_code, self._host)
            return DpdError(f"{self.url}: its certificate is not trusted: {error.verify_message}; {advice}")
        if isinstance(error, ssl.SSLError) and error.reason in NO_TLS:
            return DpdError(f"{self.url}: no TLS is spoken there; is it http://, or another port?")
        return error

    def _refused(self, status: int, path: str, answer: bytes) -> DpdError:
        code, message = _told(answer)
        message = message or f"HTTP {status} for {path}"
        if status == NOT_FOUND:
            return ContentNotFound(f"{self.url}: {message}")
        if status >= 500:
            return Unreachable(f"{self.url}: {message}")
        if status == CONFLICT:
            return SessionError(f"{self.url}: {message}")
        return Refused(f"{self.url}: {message}", status, code)


def _told(answer: bytes) -> tuple[str, str]:
    """(code, message) of a refusal; empty where it has none."""
    try:
        told = json.loads(answer)
        error = told["error"] if isinstance(told["error"], dict) else {"code": told["error"], **told}
        return str(error.get("code", "")), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _certificate_advice(code: int, host: str) -> str:
    if code in (NO_NAME, NO_ADDRESS):
        return f"call it by a name that stands in the certificate instead of {host}"
    if code == EXPIRED:
        return "the distribution point needs a new one, or the clock here is wrong (`date` shows it)"
    if code == WRONG_CLOCK:
        return "is the clock here right? `date` shows it"
    return "name the PEM file of the authority that signed it with --ca-file"


def trust(ca_file: str) -> Any:
    """The SSLContext that trusts the authorities in a PEM file, or the system's where it is empty. Raises DpdError."""
    try:
        import ssl
    except ImportError:
        raise DpdError("https: this Python has no TLS (module ssl); use http://, or another Python") from None
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError:
        raise DpdError(f"--ca-file {ca_file}: no PEM certificate in it") from None
    except OSError as error:
        raise DpdError(f"--ca-file {ca_file}: cannot be read: {error.strerror}") from None


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connected socket with that timeout: the first of several attempts, over all addresses of the name, that stands.
    Raises OSError."""
    # bytes, or the codec idna is loaded for whatever name
    addresses = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    with contextlib.ExitStack() as attempts:
        winner = _race(addresses, time.monotonic() + timeout_s, attempts)
        winner.settimeout(timeout_s)
        winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return winner


def _race(addresses: list[Any], deadline: float, attempts: contextlib.ExitStack) -> socket.socket:
    """Begin attempt after attempt; all but the winner are closed by `attempts`."""
    poll = select.poll()
    running: dict[int, socket.socket] = {}
    failure = errno.ETIMEDOUT
    begun, failed = 0, 0
    next_at, wait_s = time.monotonic(), FIRST_ATTEMPT_S
    while (now := time.monotonic()) < deadline and failed < max(begun, len(addresses)):
        if begun < MAX_ATTEMPTS and (now >= next_at or not running):
            sock, code = _begin(addresses[begun % len(addresses)], attempts)
            begun, next_at, wait_s = begun + 1, now + wait_s, wait_s * 2
            if code:
                failure, failed = code, failed + 1
                continue
            poll.register(sock, select.POLLOUT)
            running[sock.fileno()] = sock
        until = min(next_at, deadline) if begun < MAX_ATTEMPTS else deadline
        for descriptor, _ in poll.poll(max(0.0, until - now) * 1000 + 1):
            sock = running.pop(descriptor)
            poll.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:  # its descriptor goes on in a socket of its own, since `attempts` closes all of them
                return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
            failure, failed = code, failed + 1
    raise TimeoutError("timed out") if failure == errno.ETIMEDOUT else OSError(failure, os.strerror(failure))


def _begin(address: Any, attempts: contextlib.ExitStack) -> tuple[socket.socket, int]:
    """A socket that is about to be connected, and why it will not be where the kernel knows at once."""
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    attempts.callback(sock.close)
    sock.setblocking(False)
    code = sock.connect_ex(where)
    return sock, 0 if code == errno.EINPROGRESS else code
