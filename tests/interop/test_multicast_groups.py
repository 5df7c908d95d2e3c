# SPDX-License-Identifier: Apache-2.0
"""Groups of every kind and orders to receivers, between processes on a LAN: IPv6 and source-specific groups carry the whole
image; a receiver that is moved or kicked has it whole, too, or fails as told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.netns import DEVICE, Lan, missing
from tests.interop.daemon import Daemon
from tests.interop.receiving import PATIENCE_S, Receiving

PACKAGE = "LAB00001"
IMAGE_BYTES = 48 << 20
SERVER6, RECEIVER6 = "fd77::1", "fd77::2"

SETTINGS = """
[pxe]
enabled = false
[tftp]
enabled = false
[http]
listen = "::"
[multicast]
interface = "{device}"
group_range = "{groups}"
rate_mbit_s = {rate}
start_delay_s = 1
[metrics]
listen = ""
"""


class Lab:
    """The LAN, an image, and a daemon with settings of one's own."""

    def __init__(self, lan: Lan, home: Path, image: Path) -> None:
        self.lan, self.home, self.image = lan, home, image

    def daemon(self, stack: ExitStack, groups: str, rate: int) -> Daemon:
        settings = SETTINGS.format(device=DEVICE, groups=groups, rate=rate)
        daemon = stack.enter_context(Daemon(self.home, settings, self.lan["server"]))
        daemon.tell("content", "add", self.image, "--package", PACKAGE)
        return daemon

    def receive(self, name: str, server: str) -> Receiving:
        return Receiving(self.lan[name], f"http://{server}:8080", PACKAGE, self.home / f"{name}.img")

    def assert_identical(self, receiver: Receiving) -> None:
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.image, receiver.output)]
        assert digests[0] == digests[1]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    absent = missing("nft")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    image = tmp_path / "lab.img"
    image.write_bytes(os.urandom(IMAGE_BYTES))
    with Lan("server", "r1", "r2", "r3", ipv6=True) as lan:
        for name, address in (("server", SERVER6), ("r1", RECEIVER6)):
            lan[name].run("ip", "-6", "address", "add", f"{address}/64", "dev", DEVICE, "nodad")
        yield Lab(lan, tmp_path, image)


@pytest.mark.parametrize("groups", ["232.192.0.0/24", "ff15::6470:0/112", "ff35::/32"])
def test_a_group_of_every_kind_carries_the_whole_image(lab: Lab, groups: str) -> None:
    server = f"[{SERVER6}]" if ":" in groups else lab.lan["server"].address
    with ExitStack() as stack:
        daemon = lab.daemon(stack, groups, rate=400)
        receiver = lab.receive("r1", server)
        receiver.complete()
        members = told(daemon, "members")
    lab.assert_identical(receiver)
    assert [(m["mode"], m["state"]) for m in members] == [("multicast", "complete")]
    assert members[0]["bytes_unicast"] == 0
    assert members[0]["bytes_first_sent"] + members[0]["bytes_repair"] >= IMAGE_BYTES


def told(daemon: Daemon, verb: str, *arguments: str) -> list[dict[str, Any]]:
    """The members that the answer to an order lists."""
    (session,) = json.loads(daemon.tell("session", "list", "--json"))["sessions"]
    answer: dict[str, Any] = json.loads(daemon.tell("session", verb, session["session_id"], *arguments, "--json"))
    return answer["members"]  # type: ignore[no-any-return]


def test_receivers_that_are_moved_and_kicked_do_as_they_are_told(lab: Lab) -> None:
    with ExitStack() as stack:
        daemon = lab.daemon(stack, "239.192.0.0/24", rate=60)
        moved, fallen, kicked = (lab.receive(name, lab.lan["server"].address) for name in ("r1", "r2", "r3"))
        for receiver in (moved, fallen, kicked):
            receiver.wait_for_share(0.2)
        by_address = {m["address"]: m["member"] for m in told(daemon, "members")}
        labels = [by_address[lab.lan[name].address] for name in ("r1", "r2", "r3")]
        told(daemon, "move", labels[0], "--class", "1")
        told(daemon, "kick", labels[1])
        told(daemon, "kick", labels[2], "--no-fall-back")
        assert kicked.process.wait(PATIENCE_S) != 0
        kicked.kill()
        for receiver in (moved, fallen):
            receiver.complete()
            lab.assert_identical(receiver)
        ends = {m["address"]: m for m in told(daemon, "members")}
        events = [json.loads(line)["event"] for line in daemon.tell("events", "--json").splitlines()]
    of_moved, of_fallen, of_kicked = (ends[lab.lan[name].address] for name in ("r1", "r2", "r3"))
    assert (of_moved["mode"], of_moved["speed_class"], of_moved["class_moves"]) == ("multicast", 1, 1)
    assert of_fallen["mode"] == "unicast"
    assert 0 < of_fallen["bytes_unicast"] < IMAGE_BYTES, "it kept what it had"
    assert of_kicked["state"] == "kicked"
    assert {"receiver_moved", "receiver_kicked", "receiver_completed"} <= set(events)
