# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection for the big reads of a pull: straight from the socket into a buffer that is used again, with the
bytes held against the ceiling of all pulls, and a source that stalls told from a slow one.

Stalled is who, in `stall_s` seconds of our waiting, brings less than a KiB a second: also a source that sends one byte now
and then. Time in which we do not read, since the ceiling holds us, is not its fault.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from dpd.distribution.pulling.source import Check, Outcome, SourceFailure, Terms
from dpd.protocol.http.answer import Answer
from dpd.urls import shown as shown

CONNECT_S = 10.0
SLICE_S = 0.5  # how long a read waits before it asks whether the pull is still wanted
LEAST_BYTES_S = 1024
HEAD_BYTES = 64 << 10
_NO_CLAMP_BYTES = 1 << 30
_TCP_WINDOW_CLAMP = getattr(socket, "TCP_WINDOW_CLAMP", 10)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to connect to, and how it is called in a request."""

    is_tls: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Of an http or https URL. Raises ValueError in words."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'{shown(url)}: expected a URL such as "http://dp1.example:8080"')
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"{parts.scheme}://…@{parts.hostname}: names and passwords in a URL are not supported")
        is_tls, host = parts.scheme == "https", parts.hostname
        try:
            host = host if ":" in host else host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{shown(url)[:200]}: {host[:80]!r} is no name of a host") from None
        try:
            return cls(is_tls, host, parts.port or (443 if is_tls else 80))
        except ValueError:  # its words have what stands where the port should, which may be of a password
            raise ValueError(f"{shown(url)[:200]}: expected a port from 1 to 65535 behind the colon") from None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


class Stalled(OSError):
    """Nothing, or next to nothing, came for too long."""


class PatientSocket:
    """What an Answer reads: lines out of a small buffer, the body past it. Calls `check` before each read, twice a second where it waits."""

    def __init__(self, sock: socket.socket, check: Check, stall_s: float) -> None:
        sock.settimeout(SLICE_S)
        self._sock = sock
        self._check = check
        self._stall_s = stall_s
        self._buffer = memoryview(bytearray(HEAD_BYTES))
        self._begin = self._end = 0
        self._waited_s, self._came = 0.0, 0

    def readline(self, size: int = -1, /) -> bytes:
        """Up to and with the line's end, or `size` bytes, or what came before the connection ended."""
        line = bytearray()
        while size < 0 or len(line) < size:
            if self._begin == self._end:
                self._begin, self._end = 0, self._receive(self._buffer)
                if not self._end:
                    break
            held = bytes(self._buffer[self._begin : self._end])
            place = held.find(b"\n") + 1 or len(held)
            piece = held[: place if size < 0 else min(place, size - len(line))]
            self._begin += len(piece)
            line += piece
            if line.endswith(b"\n"):
                break
        return bytes(line)

    def readinto1(self, buffer: memoryview, /) -> int:
        """What is there, at least one byte; 0 where the connection has ended."""
        held = min(self._end - self._begin, len(buffer))
        if held:
            buffer[:held] = self._buffer[self._begin : self._begin + held]
            self._begin += held
            return held
        return self._receive(buffer)

    def begin_wait(self) -> None:
        """A new request: what came before says nothing of it."""
        self._waited_s, self._came = 0.0, 0

    def _receive(self, buffer: memoryview) -> int:
        while True:
            self._check()
            begun = time.monotonic()
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                count = -1
            self._judge_pace(time.monotonic() - begun, max(count, 0))
            if count >= 0:
                return count

    def _judge_pace(self, waited_s: float, count: int) -> None:
        self._waited_s += waited_s
        self._came += count
        if self._waited_s < self._stall_s:
            return
        if self._came < LEAST_BYTES_S * self._stall_s:
            raise Stalled(f"brought {self._came} bytes in {self._waited_s:.0f} s")
        self.begin_wait()


class HttpConnection:
    """Requests to one origin, one after the other. `name` is whom failures name. For one thread."""

    def __init__(self, name: str, origin: Origin, tls: ssl.SSLContext | None, terms: Terms) -> None:
        self._name = name
        self._origin = origin
        self._tls = tls
        self._terms = terms
        self._sock: socket.socket | None = None
        self._stream: PatientSocket
        self._window: int | None = None

    def get(self, target: str, headers: dict[str, str]) -> Answer:
        """The answer's head is read, its body is to be. Raises SourceFailure."""
        was_open = self._sock is not None
        try:
            return self._exchange(target, headers)
        except ConnectionError as error:
            if not was_open:
                raise self.failure(error) from None
        except OSError as error:
            raise self.failure(error) from None
        try:  # the other side had closed what was kept open
            return self._exchange(target, headers)
        except OSError as error:
            raise self.failure(error) from None

    def readinto(self, answer: Answer, buffer: memoryview) -> int:
        """What is there of the body, within the ceiling of all pulls; 0 at its end. Raises SourceFailure."""
        limit = self._terms.limit
        self._set_window()
        try:
            count = answer.readinto(buffer[: limit.piece_bytes(len(buffer))])
        except OSError as error:
            raise self.failure(error) from None
        limit.take(count, self._terms.check)
        return count

    def failure(self, error: OSError) -> SourceFailure:
        """What went wrong, in words; the connection is closed."""
        was_open = self._sock is not None
        self.close()
        if isinstance(error, Stalled):
            return SourceFailure(self._name, Outcome.STALLED, f"{error}; is the network slow, or the source hung?")
        if isinstance(error, ssl.SSLCertVerificationError):
            why = (
                f"its certificate is not trusted: {error.verify_message}; name its authority as ca_file of this source"
            )
            return SourceFailure(self._name, Outcome.REFUSED, why)
        if isinstance(error, ssl.SSLError):
            return SourceFailure(self._name, Outcome.UNREACHABLE, f"TLS: {error.reason or error}; is it http://?")
        why = f"{error.strerror or error or type(error).__name__}"
        return SourceFailure(self._name, Outcome.TRUNCATED if was_open else Outcome.UNREACHABLE, why)

    def close(self) -> None:
        """Idempotent."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _exchange(self, target: str, headers: dict[str, str]) -> Answer:
        fields = {"Host": self._origin.authority, "User-Agent": "dpd", "Accept-Encoding": "identity", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            if self._sock is None:
                self._sock = self._connect()
                self._stream = PatientSocket(self._sock, self._terms.check, self._terms.stall_s)
            self._stream.begin_wait()
            self._set_window()  # before the answer: on a fast line megabytes came until the first read (4.5 MB at 8 Mbit/s)
            self._sock.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode("ascii"))
            return Answer(self._stream)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> socket.socket:
        self._terms.check()
        sock = socket.create_connection(
            (self._origin.host, self._origin.port), timeout=min(CONNECT_S, self._terms.stall_s)
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._window = None
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_hostname=self._origin.host)
        except BaseException:
            sock.close()
            raise

    def _set_window(self) -> None:
        """Under a ceiling the kernel must not take megabytes that we then read slowly: the line has carried them already.

        Said before each read, since Linux takes the clamp away when it gives the receive buffer more room by itself.
        """
        window = self._terms.limit.window_bytes()
        if (window is not None or window != self._window) and self._sock is not None:
            self._window = window
            with contextlib.suppress(OSError):  # a kernel without it still keeps the ceiling over longer times
                self._sock.setsockopt(socket.IPPROTO_TCP, _TCP_WINDOW_CLAMP, window or _NO_CLAMP_BYTES)
