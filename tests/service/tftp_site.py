# SPDX-License-Identifier: Apache-2.0
"""A TFTP service over real sockets on loopback, and a client of the tests' own."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

from dpd.content.boot_files import BootFiles
from dpd.protocol.tftp.packet import Ack, Data, Message, OptionAck, ReadRequest, decode, encode
from dpd.service.boot_tree import BootTree
from dpd.service.network.udp import open_udp
from dpd.service.tftp.server import TftpService
from dpd.settings import PxeSettings, Settings, TftpSettings
from dpd.telemetry.journal import BootJournal

SETTINGS = TftpSettings(listen="0.0.0.0", port=0, timeout_s=5.0)


def tree_of(directory: Path) -> BootTree:
    return BootTree(BootFiles(directory), BootJournal())


async def idle(service: TftpService) -> None:
    """Once no transfer runs; the request port stays open."""
    await asyncio.wait_for(service._idle.wait(), 5)


def live(service: TftpService, *, pxe: PxeSettings | None = None, **changes: object) -> None:
    """What the daemon does after SIGHUP."""
    tftp = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    service.apply(Settings(tftp=tftp, pxe=pxe or PxeSettings()))


class Client:
    """One socket that says and hears TFTP without blocking the loop."""

    def __init__(self, service: TftpService, server: str = "127.0.0.1", own: str = "127.0.0.1") -> None:
        self.server = (server, service.ports["tftp"])
        self.sock = open_udp(own, 0, broadcast=True)
        self.peer = self.server

    def ask(self, name: str, mode: str = "octet", /, **options: int) -> None:
        asked = tuple((option, str(value)) for option, value in options.items())
        self.sock.sendto(encode(ReadRequest(name, mode, asked)), self.server)

    def say(self, message: Message | bytes) -> None:
        self.sock.sendto(message if isinstance(message, bytes) else encode(message), self.peer)

    async def hear(self) -> Message:
        loop = asyncio.get_running_loop()
        wire, self.peer = await asyncio.wait_for(loop.sock_recvfrom(self.sock, 65536), 5)
        return decode(wire)

    def heard_nothing(self) -> bool:
        """To be asked after the server has answered something sent later."""
        try:
            self.sock.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    async def read(self, name: str, **options: int) -> bytes:
        """The whole file, acknowledged window by window."""
        self.ask(name, **options)
        content, block, blksize, window = bytearray(), 0, 512, 1
        while True:
            match await self.hear():
                case OptionAck(granted):
                    blksize = int(dict(granted).get("blksize", 512))
                    window = int(dict(granted).get("windowsize", 1))
                    self.say(Ack(0))
                case Data(number, payload):
                    if number == block & 0xFFFF:
                        continue  # a probe, after this machine stopped for a while
                    assert number == (block + 1) & 0xFFFF
                    block += 1
                    content += payload
                    last = len(payload) < blksize
                    if last or block % window == 0:
                        self.say(Ack(number))
                    if last:
                        return bytes(content)
                case other:
                    raise AssertionError(other)
