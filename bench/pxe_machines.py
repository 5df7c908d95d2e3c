# SPDX-License-Identifier: Apache-2.0
"""A room full of model machines behind one network device, each with its own MAC and address, driven from one thread.

What they ask is built before the clock starts, and answers are told apart by xid and port alone while it runs: a server is
to be measured here, not a client. `ask_each_once` holds every answer against EDK2's rules of acceptance beforehand.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from bench.netns import DEVICE, Lan

from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.tftp.packet import Ack, Error, ErrorCode, Opcode, ReadRequest, encode

SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
IP_PKTINFO = 8  # <linux/in.h>
RECEIVE_BUFFER_BYTES = 8 << 20
BLKSIZE, WINDOWSIZE = 1468, 4  # EDK2's
# EDK2's time-outs: DhcpDxe by PXE 2.1 section 2.2, PxeBcDxe for port 4011, Mtftp4Dxe for each packet
DISCOVER_TIMEOUTS_S = (4.0, 8.0, 16.0, 32.0)
REQUEST_TIMEOUTS_S = (1.0, 2.0, 3.0, 4.0)
TFTP_TIMEOUTS_S = (4.0,) * 6
TICK_S = 0.05
ANSWER_LIMIT_S = 2.0
FIRST_ADDRESS = "10.77.4.0/22"  # room for 1023 machines in the LAN's network
_BLOCK = struct.Struct(">HH")


@dataclass(slots=True)
class Machine:
    """One machine: what it says, how far it is, and how long each answer took at worst."""

    number: int
    mac: str
    address: str
    discover: bytes
    request: bytes
    stage: str = "off"
    asked_at: float = 0.0
    attempt: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    offer_s: float = 0.0
    ack_s: float = 0.0
    tftp_answer_s: float = 0.0
    sock: socket.socket | None = None
    server: tuple[str, int] = ("", 0)
    last_sent: bytes = b""
    block: int = 0
    windowsize: int = 1
    probed: bool = False


@dataclass(frozen=True, slots=True)
class Powered:
    """One storm: until when the last machine had its loader."""

    machines: list[Machine]
    seconds: float
    failed: int
    retries: Counter[str]  # questions asked again, by what was asked


@dataclass(slots=True)
class _Tally:
    answers: int = 0
    waiting: deque[Machine] = field(default_factory=deque)


class Room:
    """All machines, in the namespace `machines` of a LAN whose server is `server`."""

    def __init__(self, lan: Lan, count: int, loader: bytes) -> None:
        self._lan, self._host, self._loader = lan, lan["machines"], loader
        self._server = lan["server"].address
        self._host.run("ip", "route", "add", "local", FIRST_ADDRESS, "dev", "lo")
        # Through one address: a neighbour table has 1024 entries for a whole machine, and this machine is everybody's.
        lan["server"].run("ip", "route", "add", FIRST_ADDRESS, "via", self._host.address)
        self.machines = [_machine(number) for number in range(count)]
        with self._host.inside():
            self._dhcp, self._boot = _open("", 68), _open("", 4011)
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Machine] = {}
        for sock in (self._dhcp, self._boot):
            self._epoll.register(sock, select.EPOLLIN)
        self._blocks = [loader[start : start + BLKSIZE] for start in range(0, len(loader) + 1, BLKSIZE)]

    def close(self) -> None:
        for machine in self.machines:
            self._hang_up(machine)
        for sock in (self._dhcp, self._boot, self._epoll):
            sock.close()

    # One after the other, before anything is measured

    def ask_each_once(self) -> None:
        """Every machine's OFFER and ACK, as EDK2 would judge them. Raises SystemExit where one would not boot."""
        for machine in self.machines:
            client = PxeClient(machine.mac, guid=_guid(machine.number))
            self._send_discover(machine)
            offer = client.read(_receive(self._dhcp), machine.number)
            self._send_request(machine)
            ack = client.read(_receive(self._boot), machine.number)
            if offer is None or ack is None or not ack.loader:
                raise SystemExit(f"{machine.mac} was not given a loader: {offer}, {ack}")

    # As fast as the server answers

    def ask_without_pause(self, in_flight: int, seconds: float) -> tuple[int, float]:
        """DISCOVER and REQUEST in turn from `in_flight` machines at a time. Returns answers and seconds."""
        tally = _Tally(waiting=deque(self.machines))
        began = time.perf_counter()
        for _ in range(in_flight):
            self._send_discover(tally.waiting.popleft())
        while (now := time.perf_counter()) - began < seconds:
            if not self._take_answers(tally):
                raise SystemExit(f"no answer for {ANSWER_LIMIT_S:.0f} s after {tally.answers}")
        self._drain()
        return tally.answers, now - began

    def _take_answers(self, tally: _Tally) -> bool:
        """What is there; each answer makes its machine, or the next one, ask again."""
        ready = self._epoll.poll(ANSWER_LIMIT_S)
        for descriptor, _ in ready:
            is_offer = descriptor == self._dhcp.fileno()
            for machine in self._answered(self._dhcp if is_offer else self._boot):
                tally.answers += 1
                if is_offer:
                    self._send_request(machine)
                else:
                    tally.waiting.append(machine)
                    self._send_discover(tally.waiting.popleft())
        return bool(ready)

    def _answered(self, sock: socket.socket) -> list[Machine]:
        """Whose answers wait in a socket."""
        found: list[Machine] = []
        while True:
            try:
                data = sock.recv(2048)
            except BlockingIOError:
                return found
            if data[0] == 2 and (xid := int.from_bytes(data[4:8], "big")) < len(self.machines):
                found.append(self.machines[xid])

    def _drain(self) -> None:
        while self._epoll.poll(0.2):
            self._answered(self._dhcp)
            self._answered(self._boot)

    # All at once

    def power_on(self, limit_s: float) -> Powered:
        """Every machine from DISCOVER to the last byte of its loader."""
        with self._host.inside():
            return self._power_on(limit_s)

    def _power_on(self, limit_s: float) -> Powered:
        self.machines = [_machine(machine.number) for machine in self.machines]
        began = time.perf_counter()
        for machine in self.machines:
            self._step(machine, "discover", time.perf_counter())
            self._send_discover(machine)
        left, tick = len(self.machines), began
        while left and (now := time.perf_counter()) - began < limit_s:
            for descriptor, _ in self._epoll.poll(TICK_S):
                left -= self._take(descriptor)
            if now - tick > TICK_S:
                self._ask_again(now)
                tick = now
        seconds = time.perf_counter() - began
        for machine in self.machines:
            self._hang_up(machine)
        self._drain()
        return Powered(
            self.machines, seconds, left, sum((machine.retries for machine in self.machines), Counter[str]())
        )

    def _step(self, machine: Machine, stage: str, now: float) -> None:
        machine.stage, machine.asked_at, machine.attempt = stage, now, 0

    def _take(self, descriptor: int) -> int:
        """Whatever waits in one socket. Returns how many machines are done by it."""
        if descriptor == self._dhcp.fileno():
            for machine in self._answered(self._dhcp):
                self._take_offer(machine)
        elif descriptor == self._boot.fileno():
            for machine in self._answered(self._boot):
                self._take_ack(machine)
        else:
            return self._take_tftp(self._by_descriptor[descriptor])
        return 0

    def _take_offer(self, machine: Machine) -> None:
        if machine.stage == "discover":
            now = time.perf_counter()
            machine.offer_s = now - machine.asked_at
            self._step(machine, "request", now)
            self._send_request(machine)

    def _take_ack(self, machine: Machine) -> None:
        if machine.stage == "request":
            machine.ack_s = time.perf_counter() - machine.asked_at
            self._ask_for_file(machine)

    def _ask_for_file(self, machine: Machine) -> None:
        """A socket of its own for each request, as each has its own TID."""
        self._hang_up(machine)
        machine.sock = _open(machine.address, 0)
        self._by_descriptor[machine.sock.fileno()] = machine
        self._epoll.register(machine.sock, select.EPOLLIN)
        options = (("blksize", str(BLKSIZE)), ("windowsize", str(WINDOWSIZE)))
        first = () if machine.probed else (("tsize", "0"),)
        machine.server, machine.block = (self._server, 69), 0
        self._step(machine, "tftp", time.perf_counter())
        self._say(machine, encode(ReadRequest("snponly.efi", "octet", (*first, *options))))

    def _say(self, machine: Machine, packet: bytes) -> None:
        assert machine.sock is not None
        machine.last_sent = packet
        machine.sock.sendto(packet, machine.server)

    def _take_tftp(self, machine: Machine) -> int:
        sock = machine.sock
        while sock is not None and machine.sock is sock:
            try:
                data, source = sock.recvfrom(2048)
            except BlockingIOError:
                break
            now = time.perf_counter()
            machine.tftp_answer_s = max(machine.tftp_answer_s, now - machine.asked_at)
            machine.asked_at, machine.attempt = now, 0
            machine.server = source
            if self._take_packet(machine, data):
                return 1
        return 0

    def _take_packet(self, machine: Machine, data: bytes) -> bool:
        """One OACK or block. Whether the loader is there now."""
        opcode, number = _BLOCK.unpack_from(data)
        if opcode == Opcode.OACK:
            if not machine.probed:
                machine.probed = True
                self._say(machine, encode(Error(ErrorCode.OPTION_REFUSED, "User aborted the transfer")))
                self._ask_for_file(machine)
            else:
                machine.windowsize = WINDOWSIZE if b"windowsize\0" in data.lower() else 1  # else not granted: lock-step
                self._say(machine, encode(Ack(0)))
        elif opcode == Opcode.DATA and number == machine.block + 1:
            if data[4:] != self._blocks[machine.block]:
                raise SystemExit(f"{machine.mac}: block {number} is not what the loader has there")
            machine.block += 1
            is_last = machine.block == len(self._blocks)
            if is_last or machine.block % machine.windowsize == 0:
                self._say(machine, encode(Ack(number)))
            if is_last:
                machine.stage = "loaded"
                self._hang_up(machine)
            return is_last
        elif opcode == Opcode.ERROR:
            raise SystemExit(f"{machine.mac}: TFTP error {data[2:80]!r}")
        return False

    def _hang_up(self, machine: Machine) -> None:
        if machine.sock is not None:
            del self._by_descriptor[machine.sock.fileno()]
            self._epoll.unregister(machine.sock)
            machine.sock.close()
            machine.sock = None

    def _ask_again(self, now: float) -> None:
        """Who waits too long asks once more, and counts."""
        timeouts = {"discover": DISCOVER_TIMEOUTS_S, "request": REQUEST_TIMEOUTS_S, "tftp": TFTP_TIMEOUTS_S}
        for machine in self.machines:
            allowed = timeouts.get(machine.stage, ())
            if machine.attempt < len(allowed) and now - machine.asked_at > allowed[machine.attempt]:
                machine.attempt += 1
                machine.retries[machine.stage] += 1
                machine.asked_at = now
                again = {"discover": self._send_discover, "request": self._send_request, "tftp": self._repeat}
                again[machine.stage](machine)

    def _repeat(self, machine: Machine) -> None:
        self._say(machine, machine.last_sent)

    def _send_discover(self, machine: Machine) -> None:
        self._dhcp.sendto(machine.discover, ("255.255.255.255", 67))

    def _send_request(self, machine: Machine) -> None:
        own = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("@i4s4s", 0, socket.inet_aton(machine.address), bytes(4)))
        self._boot.sendmsg([machine.request], [own], 0, (self._server, 4011))


def _machine(number: int) -> Machine:
    mac = f"52:54:00:57:{number >> 8:02x}:{number & 255:02x}"
    address = f"10.77.{4 + (number + 1 >> 8)}.{number + 1 & 255}"
    client = PxeClient(mac, guid=_guid(number))
    return Machine(number, mac, address, client.discover(number), client.boot_request(number, address))


def _guid(number: int) -> str:
    return f"57000000-0000-4000-8000-{number:012x}"


def _open(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
    sock.bind((address, port))
    return sock


def _receive(sock: socket.socket) -> bytes:
    if not select.select([sock], [], [], ANSWER_LIMIT_S)[0]:
        raise SystemExit(f"no answer on port {sock.getsockname()[1]} after {ANSWER_LIMIT_S:.0f} s")
    return sock.recv(2048)


def pin_away_from(core: int) -> None:
    """This process leaves one core to the server, where there is another."""
    others = os.sched_getaffinity(0) - {core}
    if others:
        os.sched_setaffinity(0, others)
