# SPDX-License-Identifier: Apache-2.0
"""Fetching the loader as firmware does: by TFTP with blksize and windowsize, or by HTTP.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from scapy.layers.tftp import TFTP, TFTP_ACK, TFTP_DATA, TFTP_ERROR, TFTP_OACK, TFTP_RRQ, TFTP_Option, TFTP_Options

from dpd_probe.client import Target, Told
from dpd_probe.steps import Account, Ending, ProbeError

BLKSIZE = 1428
WINDOWSIZE = 4  # EDK2's default
TRIES = 4
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that came as a whole."""

    size_bytes: int
    sha256: str


def fetch(told: Told, target: Target, account: Account) -> Fetched:
    """Fetch the loader that was told. Raises ProbeError."""
    url = urlsplit(told.loader)
    began_at = time.monotonic()
    if url.scheme in ("http", "https"):
        account.tell("fetch", protocol=url.scheme, loader=told.loader)
        chunks = _by_http(told.loader, target.timeout_s)
    else:
        name = url.path.lstrip("/") if url.scheme == "tftp" else told.loader
        server = (url.hostname or "") if url.scheme == "tftp" else told.server
        account.tell("fetch", protocol="tftp", server=server, loader=name)
        chunks = _by_tftp(server, target.tftp_port, name, target)
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise ProbeError(
                Ending.FAILED, "too_large", f"{told.loader}: more than {MAX_BYTES} bytes; no loader is that large"
            )
    fetched = Fetched(size, digest.hexdigest())
    seconds = round(time.monotonic() - began_at, 3)
    account.tell("fetched", loader=told.loader, bytes=size, sha256=fetched.sha256, seconds=seconds)
    return fetched


def _by_http(url: str, timeout_s: float) -> Iterator[bytes]:
    try:
        with urlopen(url, timeout=timeout_s) as response:
            while chunk := response.read(1 << 16):
                yield chunk
    except (URLError, HTTPException, OSError) as error:
        raise ProbeError(Ending.FAILED, "http", f"{url}: {error}") from None


def _by_tftp(server: str, port: int, name: str, target: Target) -> Iterator[bytes]:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        if target.relay and (":" in target.relay) == (family == socket.AF_INET6):
            sock.bind((target.relay, 0))  # the address under which dpd knows this machine
        sock.settimeout(target.timeout_s)
        yield from _Reading(sock, name).blocks((server, port))


class _Reading:
    """One transfer. Blocks count from 1 without wrapping; their low 16 bits are on the wire."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock, self._name = sock, name
        self._blksize, self._windowsize = 512, 1
        self._last = 0  # the last block that came in order
        self._sent = b""  # what is said again after silence
        self._peer: tuple[str, int] = ("", 0)

    def blocks(self, server: tuple[str, int]) -> Iterator[bytes]:
        wished = {"tsize": "0", "blksize": str(BLKSIZE), "windowsize": str(WINDOWSIZE)}
        options = [TFTP_Option(oname=name, value=value) for name, value in wished.items()]
        request = TFTP(op=1) / TFTP_RRQ(filename=self._name, mode="octet") / TFTP_Options(options=options)
        self._say(bytes(request), server)
        while True:
            packet = self._receive()
            if TFTP_OACK in packet and self._last == 0:
                self._agree(packet)
                self._acknowledge()
            elif TFTP_DATA in packet:
                content = self._take(packet)
                if content is not None:
                    yield content
                    if len(content) < self._blksize:
                        self._acknowledge()
                        return

    def _receive(self) -> TFTP:
        """The next packet of the transfer's peer; what was said last is said again after silence. Raises ProbeError."""
        for _ in range(TRIES):
            try:
                data, source = self._sock.recvfrom(65536)
            except TimeoutError:
                self._say(self._sent, self._peer)
                continue
            except OSError as error:
                raise self._failed(str(error)) from None
            if self._last == 0:
                self._peer = source[:2]
            packet = TFTP(data)
            if TFTP_ERROR in packet:
                raise self._failed(
                    f"the server says: {bytes(packet[TFTP_ERROR].errormsg).rstrip(bytes(1)).decode('latin-1')}"
                )
            if source[:2] == self._peer:
                return packet
        raise self._failed(f"no answer after block {self._last}; is UDP blocked on the way?")

    def _failed(self, detail: str) -> ProbeError:
        return ProbeError(Ending.FAILED, "tftp", f"{self._name}: {detail}")

    def _agree(self, packet: TFTP) -> None:
        given = {bytes(o.oname).lower(): bytes(o.value) for o in packet[TFTP_Options].options}
        self._blksize = int(given.get(b"blksize", b"512"))
        self._windowsize = int(given.get(b"windowsize", b"1"))

    def _take(self, packet: TFTP) -> bytes | None:
        """The block's bytes when it is the next one; else the server is told where we are."""
        content = bytes(packet[TFTP_DATA].payload)
        if packet[TFTP_DATA].block != (self._last + 1) & 0xFFFF:
            self._acknowledge()
            return None
        self._last += 1
        if self._last % self._windowsize == 0 and len(content) == self._blksize:
            self._acknowledge()
        return content

    def _acknowledge(self) -> None:
        self._say(bytes(TFTP(op=4) / TFTP_ACK(block=self._last & 0xFFFF)), self._peer)

    def _say(self, data: bytes, peer: tuple[str, int]) -> None:
        self._sent, self._peer = data, peer
        try:
            self._sock.sendto(data, peer)
        except OSError as error:
            raise self._failed(str(error)) from None
