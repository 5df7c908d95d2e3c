# SPDX-License-Identifier: Apache-2.0
"""TFTP clients that others wrote read from the real service on loopback; what arrives is what was served, byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dpd.content.boot_files import BootFiles
from dpd.service.boot_tree import BootTree
from dpd.service.tftp.server import TftpService
from dpd.settings import TftpSettings
from dpd.telemetry.journal import BootJournal

pytestmark = pytest.mark.interop

WRAP_BYTES = 65536 * 512 + 12345  # past block 65535 of 512 bytes: the number on the wire starts again at 0
SIZES = {
    "empty": 0,
    "one-byte": 1,
    "one-block": 512,
    "multiple": 512 * 1456,  # a whole number of blocks for every blksize used here: ends with an empty block
    "odd": 1_000_003,
    "wrap": WRAP_BYTES,
}
Command = Callable[[int, str, Path], list[str]]  # port, remote name, local file


def curl(*options: str) -> Command:
    return lambda port, name, local: [
        *("curl", "-s", "-S", "-m", "60", *options),
        *("-o", str(local), f"tftp://127.0.0.1:{port}/{name}"),
    ]


def atftp(*options: str) -> Command:
    chosen = [word for option in options for word in ("--option", option)]
    return lambda port, name, local: ["atftp", *chosen, "-g", "-r", name, "-l", str(local), "127.0.0.1", str(port)]


def tftp_hpa(port: int, name: str, local: Path) -> list[str]:
    return ["tftp", "-m", "binary", "127.0.0.1", str(port), "-c", "get", name, str(local)]


def busybox(*options: str) -> Command:
    return lambda port, name, local: [
        *("busybox", "tftp", *options),
        *("-g", "-r", name, "-l", str(local), "127.0.0.1", str(port)),
    ]


CLIENTS: dict[str, Command] = {
    "curl": curl(),
    "curl-blksize-1456": curl("--tftp-blksize", "1456"),
    "curl-no-options": curl("--tftp-no-options"),
    "atftp": atftp(),
    "atftp-blksize-1456": atftp("blksize 1456", "tsize 0"),
    "atftp-windowsize-16": atftp("windowsize 16"),
    "atftp-windowsize-16-blksize-1456": atftp("blksize 1456", "windowsize 16", "timeout 2"),
    "tftp-hpa": tftp_hpa,
    "busybox": busybox(),
    "busybox-blksize-1456": busybox("-b", "1456"),
}
# Every client crosses the wrap with 512-byte blocks: its numbers pass 65535 only so.
WRAPPING = ["curl", "curl-no-options", "atftp", "atftp-windowsize-16", "tftp-hpa", "busybox"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    below = tmp_path_factory.mktemp("boot")
    dice = random.Random(7440)
    for name, size in SIZES.items():
        (below / name).write_bytes(dice.randbytes(size))
    return below


@pytest.fixture
async def service(directory: Path) -> AsyncIterator[TftpService]:
    journal = BootJournal()
    tree = BootTree(BootFiles(directory), journal)
    service = TftpService(TftpSettings(listen="127.0.0.1", port=0), tree, journal=journal)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def single_port_service(directory: Path) -> AsyncIterator[TftpService]:
    journal = BootJournal()
    settings = TftpSettings(listen="127.0.0.1", port=0, single_port=True)
    service = TftpService(settings, BootTree(BootFiles(directory), journal), journal=journal)
    await service.start()
    yield service
    await service.stop()


async def run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a client to its end. Skips where the machine does not have it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    client = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(client.communicate(), 90)
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert client.returncode is not None
    return client.returncode, output.decode(errors="replace")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def fetch_and_compare(service: TftpService, client: str, name: str, directory: Path, local: Path) -> None:
    code, output = await run(CLIENTS[client](service.ports["tftp"], name, local), local.parent)
    assert code == 0, output
    if not local.exists():  # some clients create nothing for an empty file
        local.touch()
    assert digest(local) == digest(directory / name)
    await asyncio.wait_for(service.drain(), 10)
    assert service.stats.transfers == {"completed": 1}
    assert service.stats.malformed == {}


@pytest.mark.parametrize("name", [name for name in SIZES if name != "wrap"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_gets_every_byte(
    service: TftpService, client: str, name: str, directory: Path, tmp_path: Path
) -> None:
    await fetch_and_compare(service, client, name, directory, tmp_path / "received")


@pytest.mark.parametrize("client", CLIENTS)
async def test_by_a_single_port_a_client_gets_every_byte(
    single_port_service: TftpService, client: str, directory: Path, tmp_path: Path
) -> None:
    await fetch_and_compare(single_port_service, client, "odd", directory, tmp_path / "received")


async def test_by_a_single_port_clients_side_by_side_get_every_byte(
    single_port_service: TftpService, directory: Path, tmp_path: Path
) -> None:
    port = single_port_service.ports["tftp"]
    names = ["curl", "atftp-windowsize-16-blksize-1456", "tftp-hpa", "busybox-blksize-1456"]
    for name in (*names, *(f"{name}-2" for name in names)):
        (tmp_path / name).mkdir()
    commands = {
        tmp_path / folder: CLIENTS[name](port, "odd", tmp_path / folder / "received")
        for name in names
        for folder in (name, f"{name}-2")
    }
    ended = await asyncio.gather(*(run(command, folder) for folder, command in commands.items()))
    assert [code for code, _ in ended] == [0] * len(commands)
    assert {digest(folder / "received") for folder in commands} == {digest(directory / "odd")}


@pytest.mark.parametrize("client", WRAPPING)
async def test_a_client_gets_every_byte_past_block_65535(
    service: TftpService, client: str, directory: Path, tmp_path: Path
) -> None:
    await fetch_and_compare(service, client, "wrap", directory, tmp_path / "received")


@pytest.mark.parametrize("client", ["curl", "atftp", "tftp-hpa", "busybox"])
async def test_an_unknown_name_is_told_by_the_client(service: TftpService, client: str, tmp_path: Path) -> None:
    _, output = await run(CLIENTS[client](service.ports["tftp"], "absent.efi", tmp_path / "received"), tmp_path)
    assert output  # each in its own words; curl says "File Not Found" for code 1 and hides the text
    assert service.stats.refused == {"not_found": 1}


async def test_the_windowsize_was_really_used(service: TftpService, directory: Path, tmp_path: Path) -> None:
    """atftp asks for 16 and acknowledges each window: far fewer datagrams come in than go out."""
    local = tmp_path / "received"
    code, output = await run(
        ["atftp", "--trace", *CLIENTS["atftp-windowsize-16"](service.ports["tftp"], "odd", local)[1:]], tmp_path
    )
    assert code == 0, output
    blocks = SIZES["odd"] // 512 + 1
    assert output.count("sent ACK") <= blocks / 16 + 3
    assert digest(local) == digest(directory / "odd")
