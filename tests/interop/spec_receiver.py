# SPDX-License-Identifier: Apache-2.0
"""A second receiver of dpd-mc/1, written from docs/multicast-protocol.md alone: nothing here imports dpd.

It shows that the document is enough to write one. It is plain rather than fast: one thread, Linux. Numbers in comments are
sections of the document. From the top of the source tree:

    python3 -m tests.interop.spec_receiver http://dp:8080 LAB00001 -o install.wim --interface eth0
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import random
import select
import socket
import struct
import time
from collections.abc import Container
from contextlib import suppress
from typing import Any

from tests.interop.spec_image import Door, Image, Refused, tell
from tests.interop.spec_place import FALL_BACK, KICK, MOVE, SLOTS, TALLY, Place
from tests.interop.spec_slab import SYMBOL

SO_RCVBUFFORCE, RECEIVE_BUFFER = 33, 16 << 20  # for root; others get what the system allows
SILENCE_S = 3.0
MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP = 42, 46  # <linux/in.h>


def open_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock


def measure_credit() -> int:
    """Symbols that the buffer of such a socket holds (3)."""
    with open_socket(socket.AF_INET) as sock:
        return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) * 0.4 / SYMBOL)


def open_group(answer: dict[str, Any], interface: str) -> socket.socket:
    """A socket that hears the group; one way to join for IPv4, IPv6, any source and one source (RFC 3678, 5.1)."""
    group = ipaddress.ip_address(answer["group"])
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    level = socket.IPPROTO_IP if group.version == 4 else socket.IPPROTO_IPV6
    index = socket.if_nametoindex(interface)
    sock = open_socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((str(group), answer["port"]) if group.version == 4 else (str(group), answer["port"], 0, index))
    request = struct.pack("=I4x", index) + _storage(str(group))
    if answer["source"]:
        sock.setsockopt(level, MCAST_JOIN_SOURCE_GROUP, request + _storage(answer["source"]))
    else:
        sock.setsockopt(level, MCAST_JOIN_GROUP, request)
    sock.setblocking(False)
    return sock


def _storage(address: str) -> bytes:
    """A sockaddr_storage."""
    packed = ipaddress.ip_address(address).packed
    family, gap = (socket.AF_INET, 2) if len(packed) == 4 else (socket.AF_INET6, 6)
    return (struct.pack("=H", family) + bytes(gap) + packed).ljust(128, b"\0")


class SpecReceiver:
    """Joins until the image is whole, by multicast or by HTTP ranges."""

    def __init__(self, door: Door, package: str, output: str, interface: str) -> None:
        self.door, self.package, self.interface = door, package, interface
        self.image = Image(door.fetch(f"/content/{package}/manifest"), door, output)
        self.session_id, self.member, self.credit = "", "", measure_credit()
        self.tally = dict.fromkeys((*TALLY, "recovered", "nacks", "moves", "unicast_bytes"), 0)

    def run(self) -> None:
        started = time.monotonic()
        while not self.image.is_complete():
            try:
                self._take_part()
            except (OSError, Refused) as error:  # not now, or the session has gone: join anew
                tell("waiting", reason=str(error))
                time.sleep(random.uniform(0.5, 1.0))
        statistics = self.tally | {"seconds": round(time.monotonic() - started, 3)}
        with suppress(OSError, Refused):
            self.door.ask(f"/mc/sessions/{self.session_id}/complete", {"member": self.member, "statistics": statistics})
        tell("completed", **statistics)

    def _take_part(self) -> None:
        """From a join until its place is of no more use (3)."""
        answer = self._join()
        self.session_id, self.member = answer["session_id"], answer["member"]
        if answer["wire"] != 1 or answer["public_key"] != self.image.public_key:
            raise SystemExit("the session is of another version or signed by another key")
        tell("joined", **{name: answer.get(name) for name in ("mode", "member", "class", "group", "cipher", "reason")})
        if answer["mode"] == "unicast":
            self._fetch_rest()
            return
        with open_group(answer, self.interface) as sock:
            order = self._listen(answer, sock)
        tell("left", order=order)
        self.tally["moves"] += order == MOVE
        if order == FALL_BACK:
            self._fetch_rest()
        elif order == KICK:
            raise SystemExit("this receiver is served no more")
        elif order != MOVE:  # END or silence: not all of a group at once
            time.sleep(random.uniform(0.25, 0.5))

    def _join(self) -> dict[str, Any]:
        request = {
            "wire": [1],
            "verified": self.image.hexadecimal(),
            "credit": self.credit,
            "slots": SLOTS,
            "name": socket.gethostname(),
            "member": self.member,
            "ciphers": ["aes-128-gcm"],
        }
        try:
            return self.door.ask(f"/mc/sessions/{self.package}/join?source_version={self.image.version}", request)
        except Refused as error:
            if error.status in (400, 404):
                raise SystemExit(f"the join is refused: {error}") from None
            raise

    def _listen(self, answer: dict[str, Any], sock: socket.socket) -> int:
        """Returns the order that ended it, 0 where there was none (8, rule 11)."""
        joined_at = time.monotonic()
        place = Place(self.image, answer, self.credit, self.tally, joined_at)
        rate = Rate(joined_at + answer["starts_in_s"], answer["floor_kib_s"])
        host = answer["sender"] or self.door.host
        family, _, _, _, address = socket.getaddrinfo(host, answer["feedback_port"], type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as feedback:
            while not self.image.is_complete() and not place.order:
                for datagram in pump(place, sock, 0.2):
                    feedback.sendto(datagram, address)
                now = time.monotonic()
                rate.note(place.symbols, now)
                if place.has_heard and now - place.heard_at > SILENCE_S:
                    return 0
                is_deaf = not place.has_heard and now > rate.begins_at + SILENCE_S
                if is_deaf or rate.over(30.0) < answer["floor_kib_s"]:
                    tell("unicast", deaf=is_deaf)
                    return self._fetch_beside(place, sock, rate)
        return place.order

    def _fetch_beside(self, place: Place, sock: socket.socket, rate: Rate) -> int:
        """By HTTP while listening, without feedback, until the group flows again for 5 s; then join anew."""
        self.told_at = 0.0
        while not self.image.is_complete() and not place.order:
            self._fetch_one(place.assemblies)
            pump(place, sock, 0.0)
            rate.note(place.symbols, time.monotonic())
            if max(rate.floor_kib_s, 64) <= rate.over(5.0) < math.inf:
                return 0
        return place.order

    def _fetch_rest(self) -> None:
        tell("unicast")
        self.told_at = 0.0
        while not self.image.is_complete():
            self._fetch_one(())

    def _fetch_one(self, held: Container[int]) -> None:
        """The last slab that is lacking, those in assembly after all others; and word of it every 2 s."""
        if time.monotonic() - self.told_at > 2:
            self.told_at = time.monotonic()
            body = {"member": self.member, "verified": self.image.hexadecimal()}
            self.door.ask(f"/mc/sessions/{self.session_id}/progress", body)
        lacking = [slab for slab in range(self.image.count) if slab not in self.image.verified]
        slab = max(lacking, key=lambda slab: (slab not in held, slab))
        if self.image.fetch(slab):
            self.tally["unicast_slabs"] += 1
            self.tally["unicast_bytes"] += self.image.slab_bytes(slab)
        else:
            self.tally["bad_slabs"] += 1


class Rate:
    """KiB/s of symbols from the group; nothing is expected before `begins_at`."""

    def __init__(self, begins_at: float, floor_kib_s: int) -> None:
        self.begins_at, self.floor_kib_s = begins_at, floor_kib_s
        self._samples = [(begins_at, 0)]

    def note(self, symbols: int, now: float) -> None:
        if now > self._samples[-1][0] + 0.1:
            self._samples.append((now, symbols))
            del self._samples[:-400]

    def over(self, period_s: float) -> float:
        """Infinity while less than `period_s` is known."""
        now, symbols = self._samples[-1]
        before = next((s for s in reversed(self._samples) if s[0] <= now - period_s), None)
        return math.inf if before is None else (symbols - before[1]) * SYMBOL / 1024 / (now - before[0])


def pump(place: Place, sock: socket.socket, longest_s: float) -> list[bytes]:
    """Wait for datagrams or the next timer; returns the feedback to send."""
    wait_s = min(longest_s, max(0.0, place.next_timeout() - time.monotonic()))
    if select.select([sock], [], [], wait_s)[0]:
        with suppress(BlockingIOError):
            for _ in range(512):
                place.receive(sock.recv(2048), time.monotonic())
    place.handle_timeout(time.monotonic())
    feedback, place.outbox = place.outbox, []
    return feedback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("package")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--ca-file", default="")
    parser.add_argument("--json", action="store_true", help="no other output is known")
    options = parser.parse_args()
    SpecReceiver(Door(options.url, options.ca_file), options.package, options.output, options.interface).run()


if __name__ == "__main__":
    main()
