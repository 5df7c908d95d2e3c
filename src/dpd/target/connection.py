# SPDX-License-Identifier: Apache-2.0
"""One HTTP or HTTPS connection to a distribution point, kept open from request to request.

A TCP connection that begins with a lost SYN costs a second, since the kernel waits that long before it sends the next;
so another attempt is begun meanwhile and the first that stands is taken. Manifest, join and slabs go over the same one.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from dpd.errors import ContentNotFound, DpdError, SessionError

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 10.0
FIRST_ATTEMPT_S = 0.25  # then twice as long each time; a LAN answers in 0.001
MAX_ATTEMPTS = 6
MAX_ANSWER_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
WRONG_CLOCK, NO_NAME, NO_ADDRESS = 9, 62, 64  # X509_V_ERR_CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")  # OpenSSL's reasons, by its version


class Unreachable(DpdError):
    """The distribution point does not answer now; it may later."""


class Connection:
    """Requests to `host` and `port`, one after the other, over TLS where `tls` is given. For one thread at a time."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self._host, self._port, self._tls = host, port, tls
        self._http: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of a good answer. Raises ContentNotFound, SessionError (not now), Unreachable, DpdError."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        response = self._request(method, path, body, headers)
        answer = self._read(response)
        if response.status < 300:
            return answer
        raise self._refused(response.status, path, answer)

    def fetch_extent(self, path: str, offset: int, into: memoryview) -> int:
        """Read `into` full from `offset` of a file on. Returns the bytes that came before the connection broke: fewer than
        asked are no error. Raises as `ask`."""
        asked = {"Range": f"bytes={offset}-{offset + len(into) - 1}"}
        response = self._request("GET", path, None, asked)
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            answer = self._read(response) if response.status >= 300 else b""
            self.close()  # of a whole file nobody wants to read the rest
            raise self._refused(response.status, path, answer)
        if not (response.headers["Content-Range"] or "").startswith(f"bytes {offset}-{offset + len(into) - 1}/"):
            self.close()
            raise DpdError(f"{self.url}{path}: asked for {asked['Range']}, got {response.headers['Content-Range']}")
        return self._read_into(response, into)

    def _read_into(self, response: http.client.HTTPResponse, into: memoryview) -> int:
        done = 0
        try:
            while done < len(into) and (count := response.readinto(into[done : done + PIECE_BYTES])):
                done += count
            if done == len(into):
                response.read()  # nothing: but then the connection counts as free
                return done
        except (OSError, http.client.HTTPException):
            pass
        self.close()
        return done

    def peer_address(self) -> str:
        """The address that answered last."""
        with contextlib.suppress(OSError):
            if self._http is not None and self._http.sock is not None:
                return str(self._http.sock.getpeername()[0])
        return ""

    def interrupt(self) -> None:
        """From another thread: let a request under way fail now."""
        with contextlib.suppress(OSError, AttributeError):  # it may be closed at this very moment
            self._http.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send it and read the answer's head; once more where the other side had closed what was kept open."""
        was_open = self._http is not None and self._http.sock is not None
        try:
            return self._exchange(method, path, body, headers)
        except (ConnectionError, http.client.BadStatusLine) as error:
            if not was_open:
                raise self._unreachable(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        try:
            return self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            if self._http is None:
                self._http = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
            if self._http.sock is None:
                self._http.sock = self._open()
            self._http.request(method, path, body, headers)
            return self._http.getresponse()
        except BaseException:
            self.close()
            raise

    def _open(self) -> socket.socket:
        sock = connect(self._host, self._port, TIMEOUT_S)
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            sock.close()
            raise self._distrusted(error) from None

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self.url}: {error or type(error).__name__}; is dpd running there, and is the port open?")

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
        try:
            message = str(json.loads(answer)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {status} for {path}"
        if status == http.HTTPStatus.NOT_FOUND:
            return ContentNotFound(f"{self.url}: {message}")
        if status >= 500:
            return Unreachable(f"{self.url}: {message}")
        if status == http.HTTPStatus.CONFLICT:
            return SessionError(f"{self.url}: {message}")
        return DpdError(f"{self.url}: {message}")


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
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
