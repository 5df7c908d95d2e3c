# SPDX-License-Identifier: Apache-2.0
"""The TFTP read server: requests on one port, each transfer on a socket of its own (its TID)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import WeakValueDictionary

from dpd.boot.tree import BootObject
from dpd.errors import DpdError, MalformedMessage, ServiceError
from dpd.protocol.machine import Address, Datagram
from dpd.protocol.tftp.events import Verdict
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Error, ErrorCode, ReadRequest, WriteRequest, decode, encode
from dpd.protocol.tftp.transfer import ReadTransfer
from dpd.service.boot_tree import BootTree, Denial, NotServed
from dpd.service.network.udp import UdpReader, send_datagram
from dpd.service.tftp.extents import Held, OpenFile, extent_bytes
from dpd.service.tftp.limits import Admission, BlockSizes, FirstWaits
from dpd.service.tftp.multicast import Group, GroupKey, GroupMember, MulticastGroups
from dpd.service.tftp.ports import TransferPorts
from dpd.service.tftp.reading import Reading, TftpStats
from dpd.settings import PxeSubnet, Settings, TftpSettings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

READ_THREADS = 4  # for extents that are not in the page cache; a disk gains little from more
RRQ, WRQ = b"\0\1", b"\0\2"


class TftpService:
    """Serves boot files to whoever asks, within the limits of [tftp] and of the boot tree. `subnets` are those of [pxe]."""

    name = "tftp"

    def __init__(
        self,
        settings: TftpSettings,
        boot_tree: BootTree,
        *,
        journal: BootJournal,
        subnets: Sequence[PxeSubnet] = (),
    ) -> None:
        self.stats = TftpStats()
        self.ports: dict[str, int] = {}
        self.journal = journal
        self._tree = boot_tree
        self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tftp-read")
        self._sockets = TransferPorts(settings)
        self._reader: UdpReader | None = None
        self._running: dict[Address, Reading | GroupMember] = {}
        self._opening: dict[Address, ReadRequest] = {}
        self._running_per_client: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._extents: Held = WeakValueDictionary()
        self._groups = MulticastGroups(self._pool, self.stats, self._on_end)
        self._limit(settings, subnets)

    async def start(self) -> None:
        """Bind the request port. Raises ServiceError."""
        sock = self._sockets.open_requests()
        self.ports = {"tftp": sock.getsockname()[1]}
        self._reader = UdpReader(sock, self._on_datagram)

    async def drain(self) -> None:
        """Take no request any more; return when the running transfers have ended."""
        self._close_port()
        await self._idle.wait()

    async def stop(self) -> None:
        """End now; clients of running transfers are told."""
        self._stopped = True
        self._close_port()
        for client in list(self._running):
            if (reading := self._running.get(client)) is not None:  # the end of one may be the end of its whole group
                reading.abort("the server is stopping")
        self._pool.shutdown(wait=False, cancel_futures=True)

    def apply(self, settings: Settings) -> None:
        """New limits for new transfers; running ones keep theirs."""
        self._limit(settings.tftp, settings.pxe.subnet)

    def _limit(self, settings: TftpSettings, subnets: Sequence[PxeSubnet]) -> None:
        self._settings = settings
        self._admission = Admission(settings)
        self._block_sizes = BlockSizes(settings, subnets)
        self._first_waits = FirstWaits(settings.timeout_s)

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

    def _on_misled(self, datagram: Datagram) -> None:
        """One that came to a transfer's socket before that had its client: a turn of the loop later, as if it came now."""
        asyncio.get_running_loop().call_soon(self._on_datagram, datagram)

    def _receive(self, datagram: Datagram) -> None:
        if datagram.local != datagram.answer_from or datagram.source[1] == 0:
            # Sent to a broadcast or multicast address (the kernel would answer from another one), or from a port that
            # nobody can be answered on: silence, or one datagram makes many servers talk (RFC 1123 section 4.2.3.4).
            bump(self.stats.refused, "broadcast" if datagram.source[1] else "port_zero")
            return
        answerable = datagram.payload[:2] in (RRQ, WRQ)
        if answerable and (refusal := self._admission.refusal(datagram.source[0], time.monotonic())):
            bump(self.stats.refused, refusal)
            return
        try:
            message = decode(datagram.payload)
        except MalformedMessage as error:
            bump(self.stats.malformed, error.reason)
            if answerable:
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
        if datagram.source in self._opening:
            bump(self.stats.ignored, "repeated_request")
            return
        if earlier is not None and earlier.request == request and not earlier.answered:
            bump(self.stats.ignored, "repeated_request")
            earlier.repeat()
            return
        if earlier is not None:
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
        found = self._tree.find(request.filename, plain(datagram.source))
        if isinstance(found, NotServed):
            code = ErrorCode.FILE_NOT_FOUND if found.reason is Denial.NOT_FOUND else ErrorCode.ACCESS_VIOLATION
            self._refuse(datagram, request.filename, found.reason.value, code, found.message)
            return
        if (key := self._group_key(request, found, datagram)) and (group := self._groups.running(key)):
            self._join(group, request, found, datagram.source)
        else:
            self._open(request, found, datagram)

    def _busy(self, client: str) -> str:
        if len(self._running) + len(self._opening) >= self._settings.max_transfers:
            return "max_transfers"
        if self._running_per_client[client] >= self._settings.max_transfers_per_client:
            return "max_transfers_per_client"
        return ""

    def _open(self, request: ReadRequest, file: BootObject, datagram: Datagram) -> None:
        if file.may_block:
            self._opening[datagram.source] = request
            self._note_change(datagram.source[0], +1)
            future = asyncio.get_running_loop().run_in_executor(self._pool, file.open)
            future.add_done_callback(partial(self._on_opened, request, file, datagram))
            return
        # Opened on the loop: 10 us for a file two folders deep, a thread hop costs 36 (both measured on one core).
        try:
            descriptor = file.open()
        except (DpdError, OSError) as error:
            self._refuse_unreadable(datagram, file, error)
        else:
            self._begin(request, file, descriptor, datagram)

    def _on_opened(
        self, request: ReadRequest, file: BootObject, datagram: Datagram, opened: asyncio.Future[int]
    ) -> None:
        del self._opening[datagram.source]
        try:
            if opened.cancelled():
                return
            error = opened.exception()
            if isinstance(error, (DpdError, OSError)):
                self._refuse_unreadable(datagram, file, error)
            elif error is not None:
                self.stats.failures += 1
                log.error("tftp boot file failed", extra={"file": file.name}, exc_info=error)
            elif self._stopped:
                os.close(opened.result())
            else:
                self._begin(request, file, opened.result(), datagram)
        finally:
            self._note_change(datagram.source[0], -1)

    def _begin(self, request: ReadRequest, file: BootObject, descriptor: int, datagram: Datagram) -> None:
        assert self._reader is not None
        local = datagram.answer_from or self._settings.listen
        try:
            sock = self._sockets.open_transfer(local, self.ports["tftp"], datagram.source, self._on_misled)
        except (ServiceError, OSError) as error:
            os.close(descriptor)
            log.warning("tftp transfer has no socket", extra={"reason": str(error)})
            self._refuse(datagram, file.name, "no_socket", ErrorCode.NOT_DEFINED, "the server has no free socket")
            return
        limits = self._limits_for(datagram)
        content = OpenFile(descriptor, self._extents)
        if key := self._group_key(request, file, datagram):
            if (group := self._groups.running(key)) is not None:  # it began while the file was opened for this one
                content.close()
                sock.close()
            else:
                group = self._groups.begin(key, file, content, sock, limits)
            self._join(group, request, file, datagram.source)
            return
        transfer = ReadTransfer(request, datagram.source, file.size_bytes, limits)
        reading = Reading(
            *(request, file, content, transfer, sock),
            pool=self._pool,
            stats=self.stats,
            note_end=self._on_end,
        )
        self._note_begin(reading)
        reading.driver.start()

    def _group_key(self, request: ReadRequest, file: BootObject, datagram: Datagram) -> GroupKey | None:
        if not self._settings.multicast or self._sockets.single_port:
            return None
        return self._groups.key_for(request, file, datagram.answer_from, self._limits_for(datagram))

    def _join(self, group: Group, request: ReadRequest, file: BootObject, client: Address) -> None:
        member = GroupMember(group, request, file, client)
        self._note_begin(member)
        group.join(member)

    def _limits_for(self, datagram: Datagram) -> Limits:
        settings = self._settings
        blksize = self._block_sizes.largest(datagram.source[0], datagram.interface)
        memory = extent_bytes(len(self._running) + 1)
        first_s = self._first_waits.wait_s(datagram.source[0])
        return Limits(blksize, settings.max_windowsize, settings.timeout_s, settings.attempts, memory, first_s)

    def _note_begin(self, reading: Reading | GroupMember) -> None:
        self._running[reading.client] = reading
        self._note_change(reading.client[0], +1)

    def _note_change(self, client: str, difference: int) -> None:
        """A transfer, or the opening of its file, begins or ends."""
        self._running_per_client[client] += difference
        if not self._running_per_client[client]:
            del self._running_per_client[client]
        self.stats.active = len(self._running)
        if self._running_per_client:
            self._idle.clear()
        else:
            self._idle.set()

    def _on_end(self, reading: Reading | GroupMember, verdict: Verdict, detail: str) -> None:
        """A transfer is over: forget it, count it, tell it."""
        client, figures = reading.client, reading.figures()
        if isinstance(reading, Reading) and (wait_s := reading.transfer.known_wait_s) is not None:
            self._first_waits.note(client[0], wait_s)
        del self._running[client]
        self._note_change(client[0], -1)
        self.stats.payload_bytes += int(figures["bytes"])
        if verdict is Verdict.COMPLETED:
            self._tree.sent(reading.file, plain(client))
        self._tell(client, reading.file.name, verdict, detail, sha256=reading.file.sha256, **figures)

    def _refuse_unreadable(self, datagram: Datagram, file: BootObject, error: Exception) -> None:
        log.warning("tftp boot file refused", extra={"file": file.name, "reason": str(error)})
        self._refuse(datagram, file.name, "unreadable", ErrorCode.ACCESS_VIOLATION, "the file cannot be read now")

    def _refuse(self, datagram: Datagram, name: str, reason: str, code: ErrorCode, message: str) -> None:
        bump(self.stats.refused, reason)
        self._send_error(datagram, code, message)
        self._tell(datagram.source, name, Verdict.REFUSED, message)

    def _send_error(self, datagram: Datagram, code: ErrorCode, message: str) -> None:
        """From the request port itself: a refusal needs no socket of its own, and clients take it from any port."""
        assert self._reader is not None
        if self._reader.sock.fileno() < 0:  # the file was opened while the server began to drain
            return
        sent = send_datagram(
            self._reader.sock, encode(Error(code, message)), datagram.source, local=datagram.answer_from
        )
        self.stats.send_failures += not sent

    def _tell(
        self, client: Address, name: str, verdict: Verdict, detail: str, *, sha256: str = "", **figures: int | float
    ) -> None:
        """One record and one line of the machine's story for each request that got an answer."""
        bump(self.stats.transfers, verdict.value)
        told = {"file": name, "verdict": verdict.value, "detail": detail} | ({"sha256": sha256} if sha256 else {})
        log.info("tftp transfer", extra={"peer": client[0], **told, **figures})
        whole = {key: value for key, value in figures.items() if isinstance(value, int)}
        self.journal.note_address(plain(client), "tftp", **told, **whole)


def plain(client: Address) -> str:
    """The address as tickets and the journal have it: an IPv4 client of an IPv6 socket is one of IPv4."""
    return client[0].removeprefix("::ffff:")
