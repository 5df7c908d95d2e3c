# SPDX-License-Identifier: Apache-2.0
"""A switch's trunk port with its access ports, in user space, since the kernel of many a test machine knows no 802.1Q:
`python -m tests.interop.trunk OWN PEER VLAN=TAP …`.

OWN and PEER are paths of Unix datagram sockets: PEER is a guest's network card (QEMU's `-netdev dgram`), whose frames are
tagged. What comes from it with tag VLAN leaves TAP without the tag, and the other way round; other frames are dropped. Prints
a line when it is ready.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
ETHERTYPE_VLAN = b"\x81\x00"  # IEEE 802.1Q
ADDRESSES_BYTES = 12
MAX_FRAME_BYTES = 1 << 16


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame with a tag behind its addresses."""
    return frame[:ADDRESSES_BYTES] + ETHERTYPE_VLAN + struct.pack("!H", vlan) + frame[ADDRESSES_BYTES:]


def untagged(frame: bytes) -> tuple[int, bytes]:
    """The tag's number, 0 where there is none, and the frame without it."""
    if frame[12:14] != ETHERTYPE_VLAN:
        return 0, frame
    (tag,) = struct.unpack("!H", frame[14:16])
    return tag & 0x0FFF, frame[:ADDRESSES_BYTES] + frame[16:]


def open_tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    os.set_blocking(descriptor, False)
    return descriptor


def switch(own: str, peer: str, taps: Mapping[int, str]) -> None:
    """Pass frames on for ever."""
    trunk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    trunk.bind(own)
    access = {vlan: open_tap(name) for vlan, name in taps.items()}
    ready = selectors.DefaultSelector()
    ready.register(trunk, selectors.EVENT_READ)
    for vlan, descriptor in access.items():
        ready.register(descriptor, selectors.EVENT_READ, vlan)
    print("trunk ready", flush=True)
    while True:
        for key, _ in ready.select():
            with suppress(
                OSError
            ):  # a card that is not there yet, or whose queue is full: a frame is lost, as on a wire
                if key.fileobj is trunk:
                    vlan, frame = untagged(trunk.recv(MAX_FRAME_BYTES))
                    if vlan in access:
                        os.write(access[vlan], frame)
                else:
                    trunk.sendto(tagged(os.read(key.fd, MAX_FRAME_BYTES), key.data), peer)


if __name__ == "__main__":
    switch(
        sys.argv[1], sys.argv[2], {int(vlan): tap for vlan, _, tap in (each.partition("=") for each in sys.argv[3:])}
    )
