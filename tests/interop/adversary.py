# SPDX-License-Identifier: Apache-2.0
"""A host of the LAN that hears a session as a member does and adds to it what nobody should believe.

Of what it hears it sends one in a hundred again at once, one late, one much later, one with bytes changed; as often it makes
symbols, BEATs, CONTROLs and NCFs of its own, from the sender's address, and NACKs and REPORTs to the sender, from a member
that does not exist and from the member that it is itself. It cannot sign, and it takes nothing away: switches do not.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Self

from bench.netns import DEVICE, Host

from dpd.protocol.multicast.message import (
    HEADER_BYTES,
    Beat,
    Control,
    ControlCode,
    Header,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Tally,
    decode_header,
)
from dpd.service.network.udp import SO_RCVBUFFORCE

SHARE = 0.01
LATE = 200  # datagrams later
REMEMBERED = 8192
FRAME_HEADERS = 14 + 20 + 8
ETHERNET_IPV4 = 0x0800
SYMBOL = (MessageType.DATA, MessageType.PARITY)


class Adversary:
    """A context manager: inside it a thread does its worst. `sent` counts what it sent, by kind."""

    def __init__(self, host: Host, join: dict[str, Any], source: random.Random) -> None:
        self._host, self._join, self._source = host, join, source
        self._session, self._epoch = int(join["session"]), int(join["epoch"])
        self._group, self._port = str(join["group"]), int(join["port"])
        self.sent: Counter[str] = Counter()
        self.heard = 0
        self._old: deque[bytes] = deque(maxlen=REMEMBERED)
        self._late: deque[bytes] = deque()
        self._latest = Header(MessageType.DATA, self._session, self._epoch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adversary")

    def __enter__(self) -> Self:
        with self._host.inside():
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_IPV4))
            self._ears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # the switch sends to members alone
            self._mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._wire.bind((DEVICE, ETHERNET_IPV4))
        self._wire.settimeout(0.1)
        membership = socket.inet_aton(self._group) + socket.inet_aton(self._host.address)
        self._ears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self._mouth.connect((str(self._join["sender"]), int(self._join["feedback_port"])))
        self._frame_headers = self._make_frame_headers()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for sock in (self._wire, self._ears, self._mouth):
            sock.close()

    def _make_frame_headers(self) -> Callable[[int], bytes]:
        """Ethernet, IPv4 and UDP in front of so many bytes, as if the sender had sent them; no checksum of UDP."""
        group = socket.inet_aton(self._group)
        ethernet = b"\x01\x00\x5e" + bytes((group[1] & 127, group[2], group[3])) + bytes(self._wire.getsockname()[4])
        sender, sender_port = socket.inet_aton(str(self._join["sender"])), int(self._join["feedback_port"])

        def headers(size: int) -> bytes:
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + size, 0, 0, 1, 17, 0, sender, group)
            total = sum(struct.unpack("!10H", ip))
            total = (total & 0xFFFF) + (total >> 16)
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            udp = struct.pack("!HHHH", sender_port, self._port, 8 + size, 0)
            return ethernet + struct.pack("!H", ETHERNET_IPV4) + ip[:10] + struct.pack("!H", checksum) + ip[12:] + udp

        return headers

    # ---- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                frame, place = self._wire.recvfrom(65536)
            except TimeoutError:
                continue
            is_own = place[2] == socket.PACKET_OUTGOING
            if is_own or frame[30:34] != socket.inet_aton(self._group) or frame[23] != socket.IPPROTO_UDP:
                continue
            datagram = frame[FRAME_HEADERS:]
            self.heard += 1
            self._note(datagram)
            for act in (self._duplicate, self._reorder, self._replay, self._corrupt, self._forge, self._feed_back):
                if self._source.random() < SHARE:
                    act(datagram)
            if len(self._late) > LATE * SHARE:
                self._send("reordered", self._late.popleft())

    def _note(self, datagram: bytes) -> None:
        header = decode_header(datagram)
        if header.type in SYMBOL:
            self._latest = header
        if self.heard % 8 == 0:
            self._old.append(datagram)

    def _send(self, kind: str, datagram: bytes) -> None:
        self._wire.send(self._frame_headers(len(datagram)) + datagram)
        self.sent[kind] += 1

    def _duplicate(self, datagram: bytes) -> None:
        self._send("duplicated", datagram)

    def _reorder(self, datagram: bytes) -> None:
        self._late.append(datagram)

    def _replay(self, datagram: bytes) -> None:
        self._send("replayed", self._source.choice(self._old or (datagram,)))

    def _corrupt(self, datagram: bytes) -> None:
        changed = bytearray(datagram)
        for _ in range(self._source.choice((1, 2, 16))):
            at = self._source.randrange(len(changed) if self._source.random() < 0.7 else HEADER_BYTES)
            changed[at] ^= self._source.randrange(1, 256)
        self._send("corrupted", bytes(changed))

    def _forge(self, _: bytes) -> None:
        made = self._source.choice((self._symbol, self._symbol, self._symbol, self._beat, self._control, self._ncf))
        self._send("forged", made())

    def _header(self, kind: MessageType, **fields: int) -> Header:
        latest = self._latest
        known = {"slab": latest.slab, "tx_seq": latest.tx_seq + 1, "tx_time": latest.tx_time + 1}
        return Header(kind, self._session, self._epoch, **(known | fields))

    def _symbol(self) -> bytes:
        """A symbol of the slab under way whose content is noise."""
        kind = self._source.choice(SYMBOL)
        row = self._source.randrange(128) + (128 if kind is MessageType.PARITY else 0)
        header = self._header(kind, row=min(row, 254), column=self._source.randrange(32))
        return header.encode() + self._source.randbytes(1408)

    def _beat(self) -> bytes:
        header = self._header(MessageType.BEAT, tx_seq=self._source.getrandbits(32))
        return Beat(header, self._source.randrange(1000), 1, 1, (self._source.getrandbits(32),)).encode(self._signature)

    def _control(self) -> bytes:
        code = self._source.choice(list(ControlCode))
        member = int(str(self._join["member"]), 16) & 0xFFFFFFFF
        return Control(self._header(MessageType.CONTROL, row=code), 1, (member,)).encode(self._signature)

    def _ncf(self) -> bytes:
        """Everything is on its way; nobody need ask."""
        return Ncf(self._header(MessageType.NCF), (SlabDeficits(self._latest.slab, bytes([127] * 32)),)).encode()

    def _signature(self, _: bytes) -> bytes:
        return self._source.randbytes(64)

    def _feed_back(self, datagram: bytes) -> None:
        member = self._source.choice((int(str(self._join["member"]), 16), self._source.getrandbits(64)))
        message = self._nack(member) if self._source.random() < 0.5 else self._report(member)
        if self._source.random() < 0.3:
            message = message[: self._source.randrange(len(message))] + datagram[:64]
        self._mouth.send(message)
        self.sent["feedback"] += 1

    def _nack(self, member: int) -> bytes:
        """Greed: it lacks all of a slab."""
        slab = SlabDeficits(
            self._source.randrange(self._latest.slab + 1), bytes([self._source.choice((1, 128, 255))] * 32)
        )
        return Nack(self._header(MessageType.NACK), member, self._latest.tx_seq, (slab,)).encode()

    def _report(self, member: int) -> bytes:
        header, any32 = self._header(MessageType.REPORT), self._source.getrandbits(32)
        return Report(header, member, any32, any32, 640, 1, Tally(any32), (0,), 1 << 20, self._slabs, 0).encode()

    @property
    def _slabs(self) -> int:
        return -(-int(self._join["size_bytes"]) // (128 * 32 * 1408))


def join_session(host: Host, url: str, package: str) -> dict[str, Any]:
    """A membership like any other receiver's."""
    request = json.dumps({"wire": [1], "slots": 4, "credit": 1024, "name": "adversary"})
    command = ("curl", "-s", "--fail-with-body", "--max-time", "5", "--json", request)
    return dict(json.loads(host.run(*command, f"{url}/mc/sessions/{package}/join")))
