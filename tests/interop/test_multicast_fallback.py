# SPDX-License-Identifier: Apache-2.0
"""A network that passes no multicast, to all or to one of two: `dpd receive` completes without any setting, over HTTP.

The switch drops what it would forward to a group, as one does whose multicast filter has no entry; ARP, TCP and the
receivers' own feedback pass. What the ports count shows which way the image came.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bench.netns import DEVICE, Host, Lan, missing
from tests.content.wim_builder import make_wim
from tests.interop.daemon import Daemon
from tests.interop.receiving import Receiving

PACKAGE = "LAB00001"
RESOURCE_BYTES = 48 << 20
RATE_MBIT_S = 200  # 2 s for the image
HEADERS = 1.15  # what a port carries for each byte of the image at the most: TCP's or our headers, repairs, BEATs

SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
rate_mbit_s = {RATE_MBIT_S}
start_delay_s = 0.5
member_timeout_s = 4
[metrics]
listen = ""
"""


class Network:
    """A LAN whose switch can stop forwarding to groups, a daemon at it, and an image."""

    def __init__(self, lan: Lan, daemon: Daemon, image: Path, home: Path) -> None:
        self.lan, self.daemon, self.image, self.home = lan, daemon, image, home
        self.size_bytes = image.stat().st_size

    def block(self, *names: str) -> None:
        """Drop what goes to a group by the ports of these hosts. nft sees a bridge's frames; iptables would not."""
        rules = ["add table bridge dpd", "add chain bridge dpd forward { type filter hook forward priority 0; }"]
        for name in names:
            rules.append(f"add rule bridge dpd forward oifname {self.lan[name].port} ip daddr 224.0.0.0/4 drop")
        for rule in rules:
            self.lan.switch.run("nft", rule)

    def pass_all(self) -> None:
        self.lan.switch.run("nft", "delete table bridge dpd", check=False)

    def receive(self, name: str) -> Receiving:
        url = f"http://{self.lan['server'].address}:8080"
        return Receiving(self.lan[name], url, PACKAGE, self.home / f"{name}.wim")

    def assert_whole(self, receiving: Receiving) -> None:
        digests = [sha256(path.read_bytes()).digest() for path in (receiving.output, self.image)]
        assert digests[0] == digests[1], f"{receiving.output} differs from the image"


@pytest.fixture(scope="module")
def whole_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    absent = missing("nft")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    home = tmp_path_factory.mktemp("fallback")
    image = home / "image.wim"
    image.write_bytes(make_wim(chunk_bytes=1 << 20, resources=(random.Random(5).randbytes(RESOURCE_BYTES),)))
    with ExitStack() as stack:
        lan = stack.enter_context(Lan("server", "one", "two", checksum_offload=True))
        daemon = stack.enter_context(Daemon(home, SETTINGS, lan["server"]))
        daemon.tell("content", "add", image, "--package", PACKAGE)
        yield Network(lan, daemon, image, home)


@pytest.fixture
def network(whole_network: Network) -> Iterator[Network]:
    yield whole_network
    whole_network.pass_all()
    for name in ("one", "two"):
        end_processes(whole_network.lan[name])
        (whole_network.home / f"{name}.wim").unlink(missing_ok=True)


def end_processes(host: Host) -> None:
    for process in host.processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    host.processes.clear()


def members(network: Network) -> list[dict[str, Any]]:
    sessions = json.loads(network.daemon.tell("session", "list", "--json"))
    return [member for session in sessions for member in session["members"]]


def test_without_any_multicast_the_image_comes_over_http(network: Network) -> None:
    network.block("one")
    before = network.lan["one"].traffic().received_bytes
    receiver = network.receive("one")
    receiver.wait_for(lambda e: e["event"] == "unicast")
    receiver.complete()
    network.assert_whole(receiver)
    (began,) = receiver.all("unicast")
    assert began["reason"] == "no multicast arrived for 3 s"
    assert receiver.all("progress")[-1]["symbols"] == 0
    done = receiver.all("completed")[0]
    assert (done["unicast_bytes"], done["multicast_bytes"]) == (network.size_bytes, 0)
    assert network.lan["one"].traffic().received_bytes - before <= HEADERS * network.size_bytes
    assert len(receiver.all("joined")) == 1


def test_one_without_multicast_shares_a_session_with_one_that_has_it(network: Network) -> None:
    network.block("one")
    before = network.lan["two"].traffic().received_bytes
    deaf, hearing = network.receive("one"), network.receive("two")
    hearing.complete()
    deaf.complete()
    assert deaf.all("joined")[0]["session"] == hearing.all("joined")[0]["session"]
    for receiver in (deaf, hearing):
        network.assert_whole(receiver)
    assert hearing.all("completed")[0]["unicast_bytes"] == 0
    assert deaf.all("completed")[0]["multicast_bytes"] == 0
    assert network.lan["two"].traffic().received_bytes - before <= 2 * HEADERS * network.size_bytes
    assert not hearing.all("session lost")


def test_multicast_that_ends_in_the_middle_is_taken_over(network: Network) -> None:
    receiver = network.receive("one")
    receiver.wait_for_share(0.3)
    network.block("one")
    receiver.complete()
    network.assert_whole(receiver)
    done = receiver.all("completed")[0]
    assert done["multicast_bytes"] >= 0.3 * network.size_bytes
    assert done["unicast_bytes"] > 0
    assert done["unicast_bytes"] + done["multicast_bytes"] == network.size_bytes
