# SPDX-License-Identifier: Apache-2.0
"""The sockets of a network test at the receiving machine, read by one thread: the group, echoes, IGMP queries; and, where
nothing arrives, other interfaces and what comes in before the firewall."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from dpd.errors import MalformedMessage, SessionError
from dpd.protocol.igmp.message import PROTOCOL_NUMBER, Query, decode_packet
from dpd.protocol.multicast.probe import Probe, ProbeTally, Stream, decode
from dpd.service.network.udp import SO_RXQ_OVFL, grow_receive_buffer, join_group, kernel_address
from dpd.target.network_test.interface import Interface

BUFFER_BYTES = 16 << 20
IP_RECVTTL = 12  # <linux/in.h>
IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 51, 52  # <linux/in6.h>
SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; the kernel's time of arrival, which no wait for the CPU blurs
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ECHO_INTERVAL_S = 0.2
LONG_BATCH = 256

_TIMESPEC = struct.Struct("@qq")
_COUNT = struct.Struct("@I")
_INT = struct.Struct("@i")


@dataclass(slots=True)
class Heard:
    """What the thread has taken in; read by others at any time, written by it alone."""

    tally: ProbeTally = field(default_factory=ProbeTally)
    drops: dict[Stream, int] = field(default_factory=dict)
    queriers: dict[str, int] = field(default_factory=dict)
    round_trips_s: list[float] = field(default_factory=list)
    echoes_sent: int = 0
    elsewhere: str = ""
    seen_before_firewall: bool = False
    last_beat_at: float = 0.0  # time.monotonic()


class Listener:
    """Listens from `start` to `close`. The group is joined by the constructor, which raises SessionError."""

    def __init__(self, test: int, group: tuple[str, int], source: str, interface: Interface) -> None:
        self.heard = Heard()
        self._test, self._group, self._source, self._interface = test, group, source, interface
        self._packed_group = ip_address(group[0]).packed
        self._selector = selectors.DefaultSelector()
        self._opened = contextlib.ExitStack()
        self._wake, self._woken = socket.socketpair()
        for sock in (self._wake, self._woken):
            self._opened.callback(sock.close)
        self._feedback: socket.socket | None = None
        self._next_echo_at = 0.0
        self._drops = 0
        self._is_ending = False
        self.can_see_packets = False
        self._thread = threading.Thread(target=self._run, name="mc-listener", daemon=True)
        try:
            sock = self._open_group(interface)
        except SessionError:
            self.close()
            raise
        self.buffer_bytes = grow_receive_buffer(sock, BUFFER_BYTES)
        self._watch(sock, self._on_group)
        self.can_hear_queries = self._listen_for_queries()

    def start(self, feedback: tuple[str, int]) -> None:
        """Begin to read, and to send echoes to the distribution point's socket."""
        family = socket.AF_INET6 if ":" in feedback[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self._opened.callback(sock.close)
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # no route: the echoes will not come back, which is told as such
            sock.connect(kernel_address(feedback))
            self._feedback = sock
            self._watch(sock, self._on_echo)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread.start()

    def look_around(self, others: list[Interface]) -> None:
        """Nothing arrives: listen at other interfaces, and before this machine's firewall where that is permitted."""
        for other in others:
            with contextlib.suppress(SessionError):
                self._watch(self._open_group(other), self._elsewhere(other.name))
        with contextlib.suppress(OSError):
            kind = ETH_P_IPV6 if ":" in self._group[0] else ETH_P_IP
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind))
            self._opened.callback(sock.close)
            sock.bind((self._interface.name, kind))
            self._watch(sock, self._on_packet)
            self.can_see_packets = True
        self._wake.send(b"x")

    def close(self) -> None:
        """Stop reading and leave the group."""
        self._is_ending = True
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join()
        self._selector.close()
        self._opened.close()

    # ---- sockets

    def _watch(self, sock: socket.socket, handle: Callable[[socket.socket], None]) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, handle)

    def _open_group(self, interface: Interface) -> socket.socket:
        group, port = self._group
        sock = socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
        self._opened.callback(sock.close)
        try:
            for option in (socket.SO_REUSEADDR, SO_RXQ_OVFL, SO_TIMESTAMPNS):
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            if ":" in group:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            sock.bind((group, port))
            join_group(sock, group, interface.address, self._source)
        except OSError as error:
            raise SessionError(
                f"cannot join group {group} by {interface.name}: {error.strerror}; is it the right --interface?"
            ) from None
        return sock

    def _listen_for_queries(self) -> bool:
        """A raw socket: for root, or with CAP_NET_RAW."""
        if ":" in self._group[0]:
            return False
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL_NUMBER)
            self._opened.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.name.encode())
        except OSError:
            return False
        self._watch(sock, self._on_igmp)
        return True

    # ---- the thread

    def _run(self) -> None:
        while not self._is_ending:
            for key, _ in self._selector.select(self._send_echo()):
                if key.data is None:
                    self._woken.recv(64)
                else:
                    self._drain(key.fileobj, key.data)  # type: ignore[arg-type]

    def _drain(self, sock: socket.socket, handle: Callable[[socket.socket], None]) -> None:
        """A batch at a time, so that a flood at one socket leaves room for the others."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(LONG_BATCH):
                try:
                    handle(sock)
                except (
                    ConnectionRefusedError,
                    MalformedMessage,
                ):  # an echo that nobody takes; somebody else's datagram
                    continue
                except BlockingIOError:
                    raise
                except OSError:  # the interface went down: looked at again at the next wake-up
                    return

    def _send_echo(self) -> float:
        """Send one where it is time. Returns the seconds until the next."""
        now = time.monotonic()
        if self._feedback is None:
            return ECHO_INTERVAL_S
        if now >= self._next_echo_at:
            self._next_echo_at = now + ECHO_INTERVAL_S
            probe = Probe(Stream.ECHO, self._test, self.heard.echoes_sent, time.monotonic_ns() // 1000)
            self.heard.echoes_sent += 1
            with contextlib.suppress(OSError):
                self._feedback.send(probe.encode())
        return max(0.0, self._next_echo_at - now)

    def _on_group(self, sock: socket.socket) -> None:
        data, ancillary, _, _ = sock.recvmsg(65536, 256)
        at, ttl = time.time(), 0
        drops = self._drops
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(content)
                at = seconds + nanoseconds / 1e9
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                drops = _COUNT.unpack(content)[0]
            elif (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, IPV6_HOPLIMIT)):
                ttl = _INT.unpack(content)[0]
        probe = self._decode(data)
        if drops != self._drops:
            self.heard.drops[probe.stream] = self.heard.drops.get(probe.stream, 0) + drops - self._drops
            self._drops = drops
        self.heard.tally.note(probe, at, ttl)
        if probe.stream is Stream.BEAT:
            self.heard.last_beat_at = time.monotonic()

    def _on_echo(self, sock: socket.socket) -> None:
        probe = self._decode(sock.recv(2048))
        self.heard.round_trips_s.append((time.monotonic_ns() // 1000 - probe.sent_us) / 1e6)

    def _on_igmp(self, sock: socket.socket) -> None:
        packet = decode_packet(sock.recv(65536))
        if isinstance(packet.message, Query):
            self.heard.queriers[packet.source] = packet.message.version

    def _elsewhere(self, name: str) -> Callable[[socket.socket], None]:
        def note(sock: socket.socket) -> None:
            self._decode(sock.recv(65536))
            self.heard.elsewhere = name

        return note

    def _on_packet(self, sock: socket.socket) -> None:
        """A whole IP packet to the group; the test's number in it is proof enough."""
        packet, address = sock.recvfrom(65536)
        is_ours = self._packed_group in packet[16:40] and self._test.to_bytes(8, "big") in packet[:120]
        if is_ours and address[2] != socket.PACKET_OUTGOING:
            self.heard.seen_before_firewall = True

    def _decode(self, data: bytes) -> Probe:
        probe = decode(data)
        if probe.test != self._test:
            raise MalformedMessage("test")
        return probe
