# SPDX-License-Identifier: Apache-2.0
"""The door for targets of a distribution point: who this machine is, what it may take, what became of it.

Everything below /target is asked here. Over https the point's certificate is judged first; secrets come over nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from dpd.errors import DpdError, MalformedMessage
from dpd.sequence.exchange import (
    MAX_LOG_BYTES,
    Captured,
    CaptureEnd,
    CapturePlace,
    CaptureWish,
    Hello,
    Receipt,
    Report,
    Reports,
    Resume,
    Take,
    Taken,
    Welcome,
    decode,
    encode,
)
from dpd.target.distribution_point.connection import Connection, Refused
from dpd.target.distribution_point.distribution_point import DistributionPoint

UNAUTHORISED = 401
SLOW_ANSWER_S = 600.0  # publishing a capture of many gigabytes
PIECE_BYTES = 4 << 20

A = TypeVar("A")


class Desk:
    """Raises, from each verb: Unreachable (ask again later), Refused (asking again does not help), DpdError. One thread at a time."""

    def __init__(self, url: str, ca_file: str = "") -> None:
        self.point = DistributionPoint(url, ca_file)
        self._connection = self.point.open_connection()
        self._lock = threading.Lock()
        self._session = ""
        self._resume: Resume | None = None

    @property
    def local_address(self) -> str:
        return self.point.local_address()

    def close(self) -> None:
        self._connection.close()
        self.point.close()

    def hello(self, hello: Hello) -> Welcome:
        """Who booted. The session that this opens is kept here."""
        welcome = self._ask(Welcome, "/target/hello", hello)
        self._session = welcome.session
        return welcome

    def take(self, deployment: int) -> Taken:
        """Take an offer; from here on a session that was lost is opened again."""
        taken = self._ask(Taken, "/target/take", Take(deployment))
        self._resume = Resume(taken.execution, taken.resume)
        return taken

    def continue_with(self, resume: Resume) -> None:
        """Go on with a run of before: a session is opened when something is asked."""
        self._resume = resume

    def report(self, execution: str, reports: tuple[Report, ...]) -> Receipt:
        return self._ask(Receipt, "/target/report", Reports(execution, reports))

    def put_log(self, execution: str, text: bytes) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        self._send("PUT", f"/target/log?execution={execution}", text[-MAX_LOG_BYTES:], headers)

    def begin_capture(self, wish: CaptureWish) -> CapturePlace:
        return self._ask(CapturePlace, "/target/captures", wish)

    def put_capture(self, capture: str, content: bytes, offset: int, size_bytes: int) -> int:
        """Put a piece where it belongs. Returns how much of the whole is there."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {offset}-{offset + len(content) - 1}/{size_bytes}",
        }
        return _read(CapturePlace, self._send("PUT", f"/target/captures/{capture}", content, headers)).offset

    def finish_capture(self, capture: str, sha256: str) -> Captured:
        """All of it is there: becomes a version, which may take its time."""
        path = f"/target/captures/{capture}/finish"
        with closing(self.point.open_connection(SLOW_ANSWER_S)) as connection:
            return _read(Captured, self._ask_again(connection, "POST", path, encode(CaptureEnd(sha256)), {}))

    def _ask(self, kind: type[A], path: str, message: object) -> A:
        return _read(kind, self._send("POST", path, encode(message), {}))

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        with self._lock:
            return self._ask_again(self._connection, method, path, body, headers)

    def _ask_again(
        self, connection: Connection, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> bytes:
        """Once more with a new session where the point knows the old one no more: it was restarted, or has waited too long."""
        session = self._session
        try:
            return connection.ask(method, path, body, self._authority(headers))
        except Refused as error:
            if error.status != UNAUTHORISED or self._resume is None:
                raise
        if session == self._session:
            self._session = _read(Welcome, connection.ask("POST", "/target/resume", encode(self._resume))).session
        return connection.ask(method, path, body, self._authority(headers))

    def _authority(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._session}", **headers} if self._session else dict(headers)


def _read(kind: type[A], answer: bytes) -> A:
    try:
        return decode(kind, answer)
    except MalformedMessage as error:
        raise DpdError(
            f"the distribution point's answer cannot be read: {error}; is it a newer or older dpd?"
        ) from None


def read_key(place: Path) -> bytes | None:
    """The public key in a file beside this program: 64 hexadecimal digits. None where there is no such file. Raises DpdError."""
    try:
        key = bytes.fromhex(place.read_text("ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise DpdError(f"{place}: expected dpd's public key as 64 hexadecimal digits; build the boot image again")
    return key
