# SPDX-License-Identifier: Apache-2.0
"""TFTP of a running `dpd serve` where loopback tells nothing: address translation, multicast, links with a smaller packet,
forged requests."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.netns import Host, Lan
from scapy.layers.inet import IP, UDP
from scapy.layers.tftp import TFTP, TFTP_RRQ
from tests.interop.daemon import Daemon
from tests.interop.flood import QUEUE_BYTES, wait_until_read

CONTENT = random.Random(2090).randbytes(1_500_000)
FORGED = 5000

Need = Callable[..., None]
MakeLan = Callable[..., Lan]


@contextmanager
def serving(lan: Lan, folder: Path, tftp: str = "", rest: str = "") -> Iterator[Daemon]:
    """dpd on `server`, with one file."""
    boot = folder / "boot"
    boot.mkdir()
    (boot / "boot.wim").write_bytes(CONTENT)
    settings = f'[boot]\ndirectory = "{boot}"\n[tftp]\n{tftp}\n[multicast]\nenabled = false\n{rest}'
    with Daemon(folder, settings, lan["server"]) as daemon:
        yield daemon


def atftp(server: Host, local: Path, *options: str) -> list[str]:
    chosen = [word for option in options for word in ("--option", option)]
    return ["atftp", *chosen, "-g", "-r", "boot.wim", "-l", str(local), server.address, "69"]


def is_whole(local: Path) -> bool:
    return local.exists() and hashlib.sha256(local.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()


FIREWALL = """table ip strict {
 chain input { type filter hook input priority 0; udp sport 69 accept; meta l4proto udp drop; }
}"""


@pytest.mark.parametrize("single_port", [True, False])
def test_by_a_single_port_a_client_behind_a_strict_firewall_is_served(
    make_lan: MakeLan, need: Need, tmp_path: Path, single_port: bool
) -> None:
    """What a container's port mapping and many a firewall let through: answers from the port that was asked, no others."""
    need("atftp", "nft")
    lan = make_lan("server", "client")
    client = lan["client"]
    rules = tmp_path / "rules"
    rules.write_text(FIREWALL)
    client.run("nft", "-f", rules)
    local = tmp_path / "received"
    with serving(lan, tmp_path, f"single_port = {str(single_port).lower()}"):
        patience = ("--tftp-timeout", "1")
        command = atftp(lan["server"], local, "blksize 1428", "windowsize 8")
        client.run("timeout", "8", command[0], *patience, *command[1:], check=False)
    assert is_whole(local) == single_port


def test_three_clients_share_one_multicast_stream(make_lan: MakeLan, need: Need, tmp_path: Path) -> None:
    """atftp as the client of RFC 2090: each gets every byte, and the file is on the wire once and not three times."""
    need("atftp")
    names = ["one", "two", "three"]
    lan = make_lan("server", *names)
    with serving(lan, tmp_path, "multicast = true") as dpd:
        before = lan["server"].traffic().sent_bytes
        folders = {name: tmp_path / name for name in names}
        running: dict[str, subprocess.Popen[bytes]] = {}
        for name in names:
            folders[name].mkdir()
            command = atftp(lan["server"], folders[name] / "received", "multicast", "blksize 1428")
            running[name] = lan[name].start(*command, stdout=subprocess.DEVNULL)
        for process in running.values():
            assert process.wait(60) == 0
        sent = lan["server"].traffic().sent_bytes - before
        assert all(is_whole(folders[name] / "received") for name in names)
        assert len(dpd.events("tftp transfer", verdict="completed", multicast=1, bytes=len(CONTENT))) == 3
    assert sent < 2.5 * len(CONTENT)  # the second joins a little late, and asks for what it missed


@pytest.mark.parametrize("clamped", [False, True])
def test_a_link_with_a_smaller_packet_is_named_and_a_clamp_helps(
    make_lan: MakeLan, need: Need, tmp_path: Path, clamped: bool
) -> None:
    """An overlay network that swallows full frames without a word: the offer arrives, the first block never does."""
    need("atftp")
    lan = make_lan("server", "client")
    lan.switch.run("ip", "link", "set", lan["client"].port, "mtu", "1400")
    subnet = '[[pxe.subnet]]\nnetwork = "10.77.0.0/16"\nmax_blksize = 1300\n' if clamped else ""
    local = tmp_path / "received"
    with serving(lan, tmp_path, "timeout_s = 0.2\nattempts = 1", subnet) as dpd:
        lan["client"].run(
            "timeout", "8", *atftp(lan["server"], local, "blksize 1468", "windowsize 4"), timeout_s=20, check=False
        )
        ended = dpd.events("tftp transfer", file="boot.wim")
    if clamped:
        assert is_whole(local)
        assert [(event["verdict"], event["blksize"]) for event in ended] == [("completed", 1300)]
    else:
        assert not is_whole(local)
        assert ended[0]["verdict"] == "timeout"
        assert ended[0]["bytes"] == 0
        assert ended[0]["detail"].endswith("packets of that size may be lost on the way (MTU)")


def test_forged_requests_make_little_of_what_they_name_as_their_source(
    make_lan: MakeLan, need: Need, tmp_path: Path
) -> None:
    """The victim gets less than the attacker sent, and others are served meanwhile. A busy machine reads a flood slowly, and each
    second of it has its answers: hence fewer transfers at once than by default."""
    need("curl")
    lan = make_lan("server", "attacker", "victim", "client")
    request = bytes(TFTP() / TFTP_RRQ(filename="boot.wim", mode="octet"))
    frames = [
        bytes(IP(src=lan["victim"].address, dst=lan["server"].address) / UDP(sport=1024 + number, dport=69) / request)
        for number in range(FORGED)
    ]
    with serving(lan, tmp_path, "timeout_s = 0.2\nmax_transfers_per_client = 4") as dpd:
        before = lan["victim"].traffic().received_bytes
        with lan["attacker"].inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            for frame in frames:  # no faster than dpd reads, or the kernel would drop what is to be counted
                sock.sendto(frame, (lan["server"].address, 0))
                wait_until_read(dpd.pid, 69, QUEUE_BYTES)
        local = tmp_path / "received"
        lan["client"].run("curl", "-sf", "-o", local, f"tftp://{lan['server'].address}/boot.wim")
        assert is_whole(local)
        give_up_at = time.monotonic() + 20
        while dpd.metric("dpd_tftp_active"):  # until the last repetition is over
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        received = lan["victim"].traffic().received_bytes - before
        assert dpd.metric("dpd_tftp_refused_total") > FORGED - 2000
        assert dpd.metric('dpd_tftp_refused_total{reason="client_rate"}') > 0
    sent = sum(map(len, frames))
    assert received < sent
    assert received < 60_000
