# SPDX-License-Identifier: Apache-2.0
"""A million hostile datagrams at each UDP port of a running `dpd serve`: no fault, no leak, no client kept waiting.

All are delivered: the sender waits for the daemon, so that a drop in the kernel hides nothing (drops are printed). They
come from one host, while another host of the LAN asks what real clients ask. DPD_FLOOD_COUNT sets their number,
DPD_SIM_SEED replays a run.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bench.netns import Host, Lan, missing
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.tftp import TFTP, TFTP_ACK, TFTP_RRQ, TFTP_Option, TFTP_Options
from scapy.packet import Packet, fuzz
from tests.interop.daemon import DPD, Daemon
from tests.interop.flood import hostile, send_all, socket_state, wait_until_read
from tests.sim.clock import seeded

from dpd.control.boot_watch import FAILED_BURST, FAILED_PER_S
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.protocol.multicast.message import Header, MessageType, Nack, Report, SlabDeficits, Tally
from dpd.protocol.pxe.client import PxeClient

COUNT = int(os.environ.get("DPD_FLOOD_COUNT", 1_000_000))
ROUNDS = 20  # in each the flood goes on, and the client asks in the middle of it
MAX_ANSWER_S = 0.1
MAX_GROWTH_KIB = 20 << 10
MACHINES = 5000  # more than the boot journal remembers
SLABS = 2

# At full speed the session, which never hears that its data arrived, would compete with the flood for the processor.
SETTINGS = """
[boot]
directory = "{boot}"
[multicast]
rate_mbit_s = 50
"""


@dataclass(frozen=True)
class Scene:
    """The LAN of the floods: `attacker`, `client`, and `server` with the daemon on it."""

    lan: Lan
    daemon: Daemon
    session: dict[str, int | str]
    began_at: float = field(default_factory=time.monotonic)  # soon after the daemon's start

    @property
    def server(self) -> str:
        return self.lan["server"].address

    def socket_on(self, host: str, port: int) -> socket.socket:
        """A UDP socket of that host, connected to a port of the server."""
        with self.lan[host].inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((self.server, port))
        return sock


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    absent = missing("curl")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    directory = tmp_path_factory.mktemp("flood")
    boot, image = directory / "boot", directory / "image.raw"
    boot.mkdir()
    (boot / "ipxe.efi").write_bytes(bytes(5000))
    image.write_bytes(random.Random(1).randbytes(SLABS * SLAB_BYTES))
    with (
        Lan("server", "client", "attacker") as lan,
        Daemon(directory, SETTINGS.format(boot=boot), lan["server"]) as daemon,
    ):
        daemon.tell("content", "add", image, "--package", "FLOOD001")
        scene = Scene(lan, daemon, _join(lan["attacker"], lan["server"].address))
        _fill_the_boot_journal(scene)
        yield scene


def _fill_the_boot_journal(scene: Scene) -> None:
    """16 MB that dpd remembers on purpose, and has to reach before growth means anything."""
    clients = (PxeClient(f"52:54:01:00:{i >> 8:02x}:{i & 255:02x}") for i in range(MACHINES))
    messages = (client.discover(xid) for client in clients for xid in range(5))
    with scene.socket_on("attacker", 67) as sock:
        send_all(sock, messages, 5 * MACHINES, scene.daemon.pid, 67)


def _join(host: Host, server: str) -> dict[str, int | str]:
    url = f"http://{server}:8080/mc/sessions/FLOOD001/join"
    answer = host.run(
        "curl", "-s", "--fail-with-body", "--max-time", "5", "--json", json.dumps({"slots": 16, "credit": 1024}), url
    )
    return dict(json.loads(answer))


# ---- what each port is sent, and what a client asks there


def _dhcp_seeds(scene: Scene) -> list[bytes]:
    address = scene.lan["attacker"].address
    clients = [
        PxeClient("52:54:00:00:00:01"),
        PxeClient("52:54:00:00:00:02", relay=address, guid="00112233-4455-6677-8899-aabbccddeeff"),
        PxeClient("52:54:00:00:00:03", client_arch=0),
    ]
    options = [("message-type", "discover"), ("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003000"), "end"]
    fuzzed = [BOOTP(op=1) / fuzz(DHCP()), fuzz(BOOTP(op=1)) / DHCP(options=options)]
    valid = [message for c in clients for message in (c.discover(1), c.boot_request(2, address))]
    return valid + [bytes(packet) for packet in fuzzed for _ in range(100)]


def _tftp_seeds(scene: Scene) -> list[bytes]:
    options = TFTP_Options(
        options=[TFTP_Option(oname="blksize", value="1468"), TFTP_Option(oname="windowsize", value="4")]
    )
    valid: list[Packet] = [
        TFTP() / TFTP_RRQ(filename="ipxe.efi", mode="octet"),
        TFTP() / TFTP_RRQ(filename="ipxe.efi", mode="octet") / options,
        TFTP() / TFTP_RRQ(filename="no/such/file", mode="octet"),
        TFTP() / TFTP_ACK(block=1),
    ]
    fuzzed = [bytes(fuzz(TFTP(op=1) / TFTP_RRQ())) for _ in range(100)]
    return [bytes(packet) for packet in valid] + fuzzed


def _feedback_seeds(scene: Scene) -> list[bytes]:
    session, epoch, member = (
        int(scene.session["session"]),
        int(scene.session["epoch"]),
        int(str(scene.session["member"]), 16),
    )
    nack = Nack(Header(MessageType.NACK, session, epoch), member, 1, (SlabDeficits(0, bytes(31) + b"\x03"),))
    report = Report(
        Header(MessageType.REPORT, session, epoch), member, 1, 1, 640, 16, Tally(1), (0,), 1000, SLABS, 0b10
    )
    return [nack.encode(), report.encode()]


def _ask_dhcp(scene: Scene) -> None:
    client = PxeClient("52:54:00:c1:1e:01", relay=scene.lan["client"].address)
    with scene.socket_on("client", 67) as sock:
        answer = client.read(_exchange(sock, client.discover(77)), 77)
    assert answer is not None
    assert answer.loader == "ipxe.efi"


def _ask_boot_server(scene: Scene) -> None:
    client = PxeClient("52:54:00:c1:1e:01")
    with scene.socket_on("client", 4011) as sock:
        answer = client.read(_exchange(sock, client.boot_request(78, scene.lan["client"].address)), 78)
    assert answer is not None
    assert answer.loader == "ipxe.efi"


def _ask_tftp(scene: Scene) -> None:
    """The whole transfer: ten blocks of 512 bytes, the last of 392."""
    with scene.lan["client"].inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(2)
        sock.sendto(b"\0\1ipxe.efi\0octet\0", (scene.server, 69))
        for number in range(1, 11):
            block, peer = sock.recvfrom(600)
            while block[:4] == bytes((0, 3, 0, number - 1)):  # sent again, since this client was away for 20 ms
                block, peer = sock.recvfrom(600)
            assert block[:4] == bytes((0, 3, 0, number)), block[:60]
            sock.sendto(bytes((0, 4, 0, number)), peer)


def _ask_session(scene: Scene) -> None:
    assert _join(scene.lan["client"], scene.server)["session_id"] == scene.session["session_id"]


def _exchange(sock: socket.socket, request: bytes) -> bytes:
    sock.settimeout(2)
    sock.send(request)
    return sock.recv(2048)


@dataclass(frozen=True)
class Door:
    """One UDP port: what hostile datagrams grow from, what a client asks, and the metrics that count what came in."""

    seeds: Callable[[Scene], list[bytes]]
    ask: Callable[[Scene], None]
    heard: tuple[str, ...]
    port: int = 0


DOORS = {
    "dhcp": Door(_dhcp_seeds, _ask_dhcp, ("dpd_pxe_datagrams_total",), 67),
    "boot_server": Door(_dhcp_seeds, _ask_boot_server, ("dpd_pxe_datagrams_total",), 4011),
    "tftp": Door(
        _tftp_seeds,
        _ask_tftp,
        ("dpd_tftp_requests_total", "dpd_tftp_malformed_total", "dpd_tftp_refused_total", "dpd_tftp_ignored_total"),
        69,
    ),
    "multicast": Door(
        _feedback_seeds,
        _ask_session,
        ("dpd_multicast_nacks_total", "dpd_multicast_reports_total", "dpd_multicast_ignored_total"),
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_flood_does_no_harm(scene: Scene, name: str) -> None:
    door, daemon = DOORS[name], scene.daemon
    port = door.port or int(scene.session["feedback_port"])
    source = seeded(67)
    random.seed(67)  # scapy's fuzz() draws from the module's own source
    datagrams = hostile(door.seeds(scene), source)
    before_kib, before_heard = daemon.memory_kib(), daemon.metric(*door.heard)
    dropped_before, meanwhile = socket_state(daemon.pid, port).dropped, []
    with scene.socket_on("attacker", port) as sock:
        for _ in range(ROUNDS):
            send_all(sock, datagrams, COUNT // ROUNDS, daemon.pid, port)
            meanwhile.append(_answer_time(scene, door))
        wait_until_read(daemon.pid, port)
    afterwards = [_answer_time(scene, door) for _ in range(ROUNDS)]
    dropped = socket_state(daemon.pid, port).dropped - dropped_before
    grown_kib = daemon.memory_kib() - before_kib
    heard = _heard(scene, door, before_heard, (COUNT // ROUNDS) * ROUNDS - dropped)
    print(
        f"{name}: {COUNT} sent, {heard:.0f} heard, {dropped} dropped by the kernel, {grown_kib} KiB more memory, "
        f"answers in {_shown(meanwhile)} meanwhile, {_shown(afterwards)} afterwards"
    )
    assert heard >= (COUNT // ROUNDS) * ROUNDS - dropped
    assert grown_kib < MAX_GROWTH_KIB
    assert statistics.median(meanwhile) < MAX_ANSWER_S
    assert statistics.median(afterwards) < MAX_ANSWER_S
    assert "Traceback" not in daemon.text()
    assert [line for line in daemon.text().splitlines() if '"level": "error"' in line] == []
    told = sum('"message": "boot.unfinished"' in line for line in daemon.text().splitlines())
    assert told <= FAILED_BURST + FAILED_PER_S * (time.monotonic() - scene.began_at) + 50  # of thousands of machines


def test_the_session_delivers_the_image_after_all_that(scene: Scene, tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    url = f"http://{scene.server}:8080"
    scene.lan["client"].run(DPD, "receive", url, "FLOOD001", "-o", image, timeout_s=60)
    assert image.read_bytes() == random.Random(1).randbytes(SLABS * SLAB_BYTES)


def _heard(scene: Scene, door: Door, before: float, expected: int) -> float:
    """What the daemon counted; a session adds to the metrics four times a second only."""
    deadline = time.monotonic() + 2
    while (heard := scene.daemon.metric(*door.heard) - before) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return heard


def _answer_time(scene: Scene, door: Door) -> float:
    started = time.perf_counter()
    door.ask(scene)
    return time.perf_counter() - started


def _shown(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} ms (at most {max(times) * 1000:.1f})"
