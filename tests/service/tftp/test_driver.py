# SPDX-License-Identifier: Apache-2.0
"""Lock-step by a connected socket: as fast, and as strict with everybody else."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.service.tftp_site import SETTINGS, Client, idle, live, tree_of

from dpd.protocol.tftp.packet import Ack, Data, Error, Message, decode, encode
from dpd.service.tftp.driver import TransferDriver
from dpd.service.tftp.reading import Reading
from dpd.service.tftp.server import TftpService
from dpd.telemetry.journal import BootJournal

CONTENT = bytes(range(256)) * 200 + b"end"
SO_NO_CHECK = 11  # <asm-generic/socket.h>


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[TftpService]:
    (tmp_path / "file").write_bytes(CONTENT)
    service = TftpService(SETTINGS, tree_of(tmp_path), journal=BootJournal())
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def client(service: TftpService) -> Iterator[Client]:
    client = Client(service)
    with closing(client.sock):
        yield client


async def in_lock_step(client: Client) -> None:
    """Blocks 1 and 2 are there; block 3 is on the way."""
    client.ask("file")
    for number in (1, 2):
        assert await client.hear() == Data(number, CONTENT[(number - 1) * 512 : number * 512])
        client.say(Ack(number))
    assert await client.hear() == Data(3, CONTENT[1024:1536])


async def test_the_short_way_is_really_taken(
    service: TftpService, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ways = 0
    real = TransferDriver._receive_from_client

    def counted(self: TransferDriver, data: bytes, now: float) -> None:
        nonlocal long_ways
        long_ways += 1
        real(self, data, now)

    monkeypatch.setattr(TransferDriver, "_receive_from_client", counted)
    assert await client.read("file") == CONTENT
    await idle(service)
    assert long_ways <= 2  # of a hundred blocks: the last one, which is shorter, and its ACK


async def test_a_stranger_is_refused_by_the_kernel_and_the_transfer_goes_on(
    service: TftpService, client: Client
) -> None:
    await in_lock_step(client)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(5)
        stranger.connect(client.peer)
        stranger.send(encode(Error(0, "stop")))
        with pytest.raises(ConnectionRefusedError):
            stranger.recv(100)
    client.say(Ack(3))
    assert await client.hear() == Data(4, CONTENT[1536:2048])


async def test_what_a_stranger_sent_just_before_is_not_taken_for_the_clients(
    service: TftpService, client: Client
) -> None:
    client.ask("file")
    assert await client.hear() == Data(1, CONTENT[:512])
    client.say(Ack(1))  # after this one the socket is connected; the other waits in it by then
    stranger = Client(service)
    with closing(stranger.sock):
        stranger.peer = client.peer
        stranger.say(Error(0, "stop"))
        assert await client.hear() == Data(2, CONTENT[512:1024])
        client.say(Ack(2))
        assert await client.hear() == Data(3, CONTENT[1024:1536])
    assert service.stats.ignored == {"stray_tid": 1}


async def test_an_abort_and_nonsense_go_the_long_way(service: TftpService, client: Client) -> None:
    await in_lock_step(client)
    client.say(b"\0")
    client.say(Ack(2))
    client.say(Error(3, "disk full"))
    await idle(service)
    assert service.stats.malformed == {"too_short": 1}
    assert service.stats.ignored == {"duplicate_ack": 1}
    assert service.stats.transfers == {"aborted": 1}


async def test_a_client_whose_port_is_gone_is_given_up(service: TftpService) -> None:
    live(service, timeout_s=0.2, attempts=1)
    client = Client(service)
    await in_lock_step(client)
    client.sock.close()  # every further datagram comes back as ICMP
    await idle(service)
    assert service.stats.transfers == {"timeout": 1}
    assert service.stats.failures == 0


async def test_a_lost_block_is_sent_again_by_the_timer(service: TftpService, client: Client) -> None:
    await in_lock_step(client)
    client.say(Ack(3))
    for _ in range(2):  # the client is deaf for the first
        loop = asyncio.get_running_loop()
        wire, _ = await asyncio.wait_for(loop.sock_recvfrom(client.sock, 65536), 5)
        assert decode(wire) == Data(4, CONTENT[1536:2048])
    client.say(Ack(4))
    assert await client.hear() == Data(5, CONTENT[2048:2560])
    client.say(Ack(5))
    assert await client.hear() == Data(6, CONTENT[2560:3072])


@pytest.mark.parametrize("windowsize", [4, 64])
async def test_without_segmentation_windows_arrive_block_by_block(
    service: TftpService, client: Client, windowsize: int
) -> None:
    """A socket without checksums is one that the kernel cuts no train for, as with some cards and tunnels."""
    client.ask("file", blksize=512, windowsize=windowsize)
    await client.hear()
    (reading,) = service._running.values()
    assert isinstance(reading, Reading)
    reading._sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    received, expected = bytearray(), 1
    client.say(Ack(0))
    while len(received) < len(CONTENT):
        message = await client.hear()
        assert isinstance(message, Data)
        if message.block_number != expected:
            continue  # sent once more, where this busy machine was slow to acknowledge
        received, expected = received + message.payload, expected + 1
        if message.block_number % windowsize == 0 or len(message.payload) < 512:
            client.say(Ack(message.block_number))
    assert received == CONTENT
    assert not reading.driver._train.offload
    assert service.stats.failures == 0


class Poller(Client):
    """For uvloop, which has no sock_recvfrom."""

    async def hear(self) -> Message:
        for _ in range(5000):
            try:
                wire, self.peer = self.sock.recvfrom(65536)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            else:
                return decode(wire)
        raise TimeoutError


def test_a_held_up_loop_repeats_nothing_that_was_answered_meanwhile(tmp_path: Path) -> None:
    """uvloop looks at its timers first, where the callback of another socket took long."""
    uvloop = pytest.importorskip("uvloop")
    (tmp_path / "file").write_bytes(CONTENT)

    async def scenario(service: TftpService, client: Client, held_up: socket.socket) -> None:
        await in_lock_step(client)
        (reading,) = service._running.values()
        assert isinstance(reading, Reading)
        repeated: list[int] = []
        for number in range(3, 60):
            client.say(Ack(number))
            assert await client.hear() == Data(number + 1, CONTENT[number * 512 : number * 512 + 512])

        def hold_up() -> None:
            held_up.recv(1)
            repeated.append(reading.transfer.retransmits)
            client.say(Ack(60))
            time.sleep(0.3)  # all deadlines are over, and the answer is there

        asyncio.get_running_loop().add_reader(held_up, hold_up)
        assert await client.hear() == Data(61, CONTENT[60 * 512 : 61 * 512])
        asyncio.get_running_loop().remove_reader(held_up)
        assert repeated == [reading.transfer.retransmits]

    async def run() -> None:
        service = TftpService(SETTINGS, tree_of(tmp_path), journal=BootJournal())
        await service.start()
        client = Poller(service)
        held_up, waker = socket.socketpair()
        with closing(client.sock), held_up, waker:
            waker.send(b"x")
            await scenario(service, client, held_up)
            await service.stop()

    uvloop.run(run())


async def test_a_second_file_knows_how_fast_its_client_is(service: TftpService, client: Client) -> None:
    assert service._first_waits.wait_s("127.0.0.1") == 1.0
    assert await client.read("file", blksize=512, windowsize=4) == CONTENT
    await idle(service)
    assert service._first_waits.wait_s("127.0.0.1") < 0.5
