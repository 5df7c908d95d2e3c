# SPDX-License-Identifier: Apache-2.0
"""The TFTP read server: requests on one port, each transfer on a socket of its own (its TID)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dpd.content.boot_files import BootFile, BootFiles, explain_miss, read_cached
from dpd.errors import ContentError, MalformedMessage, ServiceError
from dpd.protocol.machine import Address, Datagram
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Error, ErrorCode, ReadRequest, WriteRequest, decode, encode
from dpd.protocol.tftp.transfer import Event, ExtentNeeded, Finished, Ignored, Malformed, ReadTransfer, Verdict
from dpd.service.driver import Driver
from dpd.service.udp import UdpReader, open_udp, send_datagram
from dpd.settings import Settings, TftpSettings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

READ_THREADS = 4  # for extents that are not in the page cache; a disk gains little from more
RRQ = b"\0\x01"


@dataclass(slots=True)
class TftpStats:
    """What the TFTP service counts."""

    requests: int = counter("Read requests that were well-formed.")
    transfers: dict[str, int] = counts("Requests by their end; refused ones never became a transfer.", "verdict")
    active: int = gauge("Transfers running now.")
    payload_bytes: int = counter("File bytes that clients confirmed.")
    datagrams: int = counter("Datagrams of transfers sent, retransmits included.")
    retransmits: int = counter("Datagrams sent again.")
    refused: dict[str, int] = counts("Requests that were not served, answered or not.", "reason")
    malformed: dict[str, int] = counts("Datagrams that are no TFTP.", "reason")
    ignored: dict[str, int] = counts("Well-formed datagrams that changed nothing.", "reason")
    send_failures: int = counter("Trains that the kernel would not send; they count as lost.")
    disk_reads: int = counter("Extents that were not in the page cache and went to a thread.")
    failures: int = counter("Errors of this server that ended a transfer or a request; each is in the log.")


class TftpService:
    """Serves boot files to whoever asks, within the limits of [tftp]."""

    name = "tftp"

    def __init__(self, settings: TftpSettings, boot_files: BootFiles, *, journal: BootJournal) -> None:
        self.stats = TftpStats()
        self.ports: dict[str, int] = {}
        self.journal = journal
        self.boot_files = boot_files
        self.pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tftp-read")
        self._settings = settings
        self._reader: UdpReader | None = None
        self._running: dict[Address, _Reading] = {}
        self._running_per_client: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Bind the request port. Raises ServiceError."""
        sock = open_udp(self._settings.listen, self._settings.port, pktinfo=True, purpose="TFTP")
        self.ports = {"tftp": sock.getsockname()[1]}
        self._reader = UdpReader(sock, self._on_datagram)

    async def drain(self) -> None:
        """Take no request any more; return when the running transfers have ended."""
        self._close_port()
        await self._idle.wait()

    async def stop(self) -> None:
        """End now; clients of running transfers are told."""
        self._close_port()
        for reading in list(self._running.values()):
            reading.abort("the server is stopping")
        self.pool.shutdown(wait=False, cancel_futures=True)

    def apply(self, settings: Settings) -> None:
        """New limits for new transfers; running ones keep theirs."""
        self._settings = settings.tftp

    def _close_port(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _on_datagram(self, datagram: Datagram) -> None:
        """The request port's edge: one bad request costs itself alone."""
        try:
            self._receive(datagram)
        except Exception:
            self.stats.failures += 1
            log.exception("tftp request failed", extra={"peer": datagram.source[0]})

    def _receive(self, datagram: Datagram) -> None:
        if datagram.local != datagram.answer_from or datagram.source[1] == 0:
            # Sent to a broadcast or multicast address (the kernel would answer from another one), or from a port that
            # nobody can be answered on: silence, or one datagram makes many servers talk (RFC 1123 section 4.2.3.4).
            bump(self.stats.refused, "broadcast" if datagram.source[1] else "port_zero")
            return
        try:
            message = decode(datagram.payload)
        except MalformedMessage as error:
            bump(self.stats.malformed, error.reason)
            if datagram.payload.startswith(RRQ):
                self._send_error(datagram, ErrorCode.ILLEGAL_OPERATION, str(error))
            return
        if isinstance(message, ReadRequest):
            self._receive_read(message, datagram)
        elif isinstance(message, WriteRequest):
            self._refuse(datagram, message.filename, "write", ErrorCode.ACCESS_VIOLATION, "this server is read-only")
        else:
            bump(self.stats.ignored, "no_transfer")

    def _receive_read(self, request: ReadRequest, datagram: Datagram) -> None:
        self.stats.requests += 1
        earlier = self._running.get(datagram.source)
        if earlier is not None:
            if earlier.request == request and earlier.transfer.untouched:
                bump(self.stats.ignored, "repeated_request")  # the retransmission timer answers, not every copy
                return
            # ROMs with one fixed port do this. No ERROR: it would reach the new request as its answer.
            earlier.end(Verdict.ABORTED, "the client asked anew from the same port")
        if busy := self._busy(datagram.source[0]):
            # No ERROR: firmware gives up on one, but asks again every few seconds after silence, and then finds room.
            bump(self.stats.refused, busy)
            return
        if request.mode != "octet":
            # A netascii client changes line ends back; with the bytes as they are that would corrupt every loader.
            self._refuse(datagram, request.filename, "mode", ErrorCode.ILLEGAL_OPERATION, "only mode octet is served")
            return
        file = self.boot_files.lookup(request.filename)
        if file is None:
            reason = explain_miss(request.filename)
            self._refuse(datagram, request.filename, "not_found", ErrorCode.FILE_NOT_FOUND, reason)
            return
        self._begin(request, file, datagram)

    def _busy(self, client: str) -> str:
        if len(self._running) >= self._settings.max_transfers:
            return "max_transfers"
        if self._running_per_client[client] >= self._settings.max_transfers_per_client:
            return "max_transfers_per_client"
        return ""

    def _begin(self, request: ReadRequest, file: BootFile, datagram: Datagram) -> None:
        # Opened on the loop: 10 us for a file two folders deep, a thread hop costs 36 (both measured on one core).
        try:
            descriptor = self.boot_files.open(file)
        except ContentError as error:
            log.warning("tftp boot file refused", extra={"file": file.name, "reason": str(error)})
            self._refuse(datagram, file.name, "unreadable", ErrorCode.ACCESS_VIOLATION, "the file cannot be read now")
            return
        try:
            sock = open_udp(datagram.answer_from or self._settings.listen, 0, purpose="TFTP transfer")
        except (ServiceError, OSError) as error:
            os.close(descriptor)
            log.warning("tftp transfer has no socket", extra={"reason": str(error)})
            self._refuse(datagram, file.name, "no_socket", ErrorCode.NOT_DEFINED, "the server has no free socket")
            return
        settings = self._settings
        limits = Limits(settings.max_blksize, settings.max_windowsize, settings.timeout_s, settings.attempts)
        transfer = ReadTransfer(request, datagram.source, file.size_bytes, limits)
        reading = _Reading(self, request, file, descriptor, transfer, sock)
        self._note_begin(reading)
        reading.driver.start()

    def _note_begin(self, reading: _Reading) -> None:
        self._running[reading.transfer.client] = reading
        self._running_per_client[reading.transfer.client[0]] += 1
        self.stats.active = len(self._running)
        self._idle.clear()

    def note_end(self, reading: _Reading, verdict: Verdict, detail: str) -> None:
        """A transfer is over: forget it, count it, tell it."""
        transfer, client = reading.transfer, reading.transfer.client
        del self._running[client]
        self._running_per_client[client[0]] -= 1
        if not self._running_per_client[client[0]]:
            del self._running_per_client[client[0]]
        self.stats.active = len(self._running)
        if not self._running:
            self._idle.set()
        self.stats.payload_bytes += transfer.bytes_acked
        self.stats.datagrams += transfer.datagrams_sent
        self.stats.retransmits += transfer.retransmits
        self.stats.send_failures += reading.driver.send_failures
        self._tell(
            client,
            reading.file.name,
            verdict,
            detail,
            bytes=transfer.bytes_acked,
            blksize=transfer.terms.blksize,
            windowsize=transfer.terms.windowsize,
            retransmits=transfer.retransmits,
            seconds=round(time.monotonic() - reading.began_at, 3),
        )

    def _refuse(self, datagram: Datagram, name: str, reason: str, code: ErrorCode, message: str) -> None:
        bump(self.stats.refused, reason)
        self._send_error(datagram, code, message)
        self._tell(datagram.source, name, Verdict.REFUSED, message)

    def _send_error(self, datagram: Datagram, code: ErrorCode, message: str) -> None:
        """From the request port itself: a refusal needs no socket of its own, and clients take it from any port."""
        assert self._reader is not None
        sent = send_datagram(
            self._reader.sock, encode(Error(code, message)), datagram.source, local=datagram.answer_from
        )
        self.stats.send_failures += not sent

    def _tell(self, client: Address, name: str, verdict: Verdict, detail: str, **figures: int | float) -> None:
        """One record and one line of the machine's story for each request that got an answer."""
        bump(self.stats.transfers, verdict.value)
        told = {"file": name, "verdict": verdict.value, "detail": detail}
        log.info("tftp transfer", extra={"peer": client[0], **told, **figures})
        whole = {key: value for key, value in figures.items() if isinstance(value, int)}
        self.journal.note_address(client[0].removeprefix("::ffff:"), "tftp", **told, **whole)


class _Reading:
    """One running transfer: its machine, its file, and its socket by way of the driver."""

    def __init__(
        self,
        service: TftpService,
        request: ReadRequest,
        file: BootFile,
        descriptor: int,
        transfer: ReadTransfer,
        sock: socket.socket,
    ) -> None:
        self.request, self.file, self.transfer = request, file, transfer
        self.began_at = time.monotonic()
        self.driver = Driver(transfer, sock, self, service.pool)
        self._service, self._descriptor, self._sock = service, descriptor, sock
        self._ended = False

    def abort(self, reason: str) -> None:
        """End it and tell the client why."""
        self.transfer.fail(reason)
        self.driver.pump()

    def end(self, verdict: Verdict, detail: str) -> None:
        """Over, without a word to the client; only the first end counts."""
        if not self._ended:
            self._ended = True
            self.driver.close()
            self._service.note_end(self, verdict, detail)

    def on_event(self, event: Event) -> None:
        match event:
            case ExtentNeeded():
                self._read(event)
            case Finished(verdict, detail):
                self.end(verdict, detail)
            case Ignored(reason):
                bump(self._service.stats.ignored, reason)
            case Malformed(reason):
                bump(self._service.stats.malformed, reason)

    def on_failure(self, error: Exception) -> None:
        self._service.stats.failures += 1
        fields = {"peer": self.transfer.client[0], "file": self.file.name}
        if isinstance(error, OSError):
            log.error("tftp transfer failed", extra={**fields, "reason": str(error)})
        else:
            log.error("tftp transfer failed", extra=fields, exc_info=error)
        with suppress(OSError):
            send_datagram(self._sock, encode(Error(ErrorCode.NOT_DEFINED, "server error")), self.transfer.client)
        self.end(Verdict.ABORTED, f"server error: {error}")

    def on_released(self) -> None:
        os.close(self._descriptor)

    def _read(self, extent: ExtentNeeded) -> None:
        content = read_cached(self._descriptor, extent.offset, extent.length)
        if content is not None:
            self.transfer.provide_extent(extent.offset, content)
            return
        self._service.stats.disk_reads += 1
        self.driver.request(
            partial(os.pread, self._descriptor, extent.length, extent.offset),
            partial(self.transfer.provide_extent, extent.offset),
        )
