# SPDX-License-Identifier: Apache-2.0
"""One running TFTP transfer: its machine, its file, and its socket by way of the driver. And what the service counts."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dpd.boot.tree import BootObject
from dpd.protocol.machine import Address
from dpd.protocol.tftp.events import Event, ExtentNeeded, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.packet import Error, ErrorCode, ReadRequest, encode
from dpd.protocol.tftp.transfer import ReadTransfer
from dpd.service.network.udp import send_datagram
from dpd.service.tftp.driver import TransferDriver
from dpd.service.tftp.extents import OpenFile
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)


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


class Reading:
    """One client reads one file. `note_end` is told of the end, once."""

    def __init__(
        self,
        request: ReadRequest,
        file: BootObject,
        content: OpenFile,
        transfer: ReadTransfer,
        sock: socket.socket,
        *,
        pool: Executor,
        stats: TftpStats,
        note_end: Callable[[Reading, Verdict, str], None],
    ) -> None:
        self.request, self.file, self.transfer = request, file, transfer
        self.began_at = time.monotonic()
        self.driver = TransferDriver(transfer, sock, self, pool)
        self._content, self._sock, self._stats, self._note_end = content, sock, stats, note_end
        self._ended = False

    @property
    def client(self) -> Address:
        """Who reads."""
        return self.transfer.client

    @property
    def answered(self) -> bool:
        """Whether the client has said anything yet; until then its repeated request is no new one."""
        return not self.transfer.untouched

    def repeat(self) -> None:
        """The client asks again: the retransmission timer answers, not every copy."""

    def figures(self) -> dict[str, int | float]:
        """For the record of its end."""
        transfer = self.transfer
        return {
            "bytes": transfer.bytes_acked,
            "blksize": transfer.terms.blksize,
            "windowsize": transfer.terms.windowsize,
            "retransmits": transfer.retransmits,
            "answered": int(transfer.was_answered),
            "seconds": round(time.monotonic() - self.began_at, 3),
        }

    def abort(self, reason: str) -> None:
        """End it and tell the client why."""
        self.transfer.fail(reason)
        self.driver.pump()

    def end(self, verdict: Verdict, detail: str) -> None:
        """Over, without a word to the client; only the first end counts."""
        if not self._ended:
            self._ended = True
            self.driver.close()
            self._stats.datagrams += self.transfer.datagrams_sent
            self._stats.retransmits += self.transfer.retransmits
            self._stats.send_failures += self.driver.send_failures
            self._note_end(self, verdict, detail)

    def on_event(self, event: Event) -> None:
        match event:
            case ExtentNeeded():
                self._read(event)
            case Finished(verdict, detail):
                self.end(verdict, detail)
            case Ignored(reason):
                bump(self._stats.ignored, reason)
            case Malformed(reason):
                bump(self._stats.malformed, reason)

    def on_failure(self, error: Exception) -> None:
        self._stats.failures += 1
        fields = {"peer": self.client[0], "file": self.file.name}
        if isinstance(error, OSError):
            log.error("tftp transfer failed", extra={**fields, "reason": str(error)})
        else:
            log.error("tftp transfer failed", extra=fields, exc_info=error)
        with suppress(OSError):
            send_datagram(self._sock, encode(Error(ErrorCode.NOT_DEFINED, "server error")), self.client)
        self.end(Verdict.ABORTED, f"server error: {error}")

    def on_released(self) -> None:
        self._content.close()

    def _read(self, needed: ExtentNeeded) -> None:
        filled = self._content.at_once(needed)
        if filled is not None:
            self.transfer.provide_extent(*filled)
            return
        self._stats.disk_reads += 1
        self.driver.request(partial(self._content.read, needed), lambda filled: self.transfer.provide_extent(*filled))
