# SPDX-License-Identifier: Apache-2.0
"""One receiver is stopped, one has a slow disk, one is killed: the fourth completes while the first still stands, and all
that live have the image in the end. `bench/stall_netns.py` measures what it costs the others. Where all stand still, hardly
anything is sent."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan
from tests.interop.daemon import DPD, Daemon
from tests.interop.receiving import Receiving

from dpd.protocol.multicast.geometry import SYMBOL_BYTES

PACKAGE = "STALL001"
IMAGE_BYTES = 72 << 20  # 13 slabs; 3 s at the rate below
SLOW_BYTES_S = "5e6"
SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
rate_mbit_s = 200
start_delay_s = 2
"""
RECEIVE = (DPD, "receive")
RECEIVE_SLOWLY = (sys.executable, "-m", "bench.slow_disk", SLOW_BYTES_S)


@dataclass(frozen=True)
class Scene:
    """A LAN with the distribution point, and where its image is to arrive."""

    lan: Lan
    daemon: Daemon
    image: bytes
    home: Path

    def receive(self, name: str, program: tuple[str | Path, ...] = RECEIVE) -> Receiving:
        url = f"http://{self.lan['server'].address}:8080"
        return Receiving(self.lan[name], url, PACKAGE, self.home / f"{name}.raw", program)


@pytest.fixture
def scene(make_lan: Callable[..., Lan], tmp_path: Path) -> Iterator[Scene]:
    lan = make_lan("server", "stopped", "slow", "killed", "other", checksum_offload=True)
    lan.split_trains("server")
    image = random.Random(8).randbytes(IMAGE_BYTES)
    source = tmp_path / "image.raw"
    source.write_bytes(image)
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(tmp_path, SETTINGS, lan["server"]))
        daemon.tell("content", "add", source, "--package", PACKAGE)
        yield Scene(lan, daemon, image, tmp_path)


def test_the_stopped_the_slow_and_the_killed_hold_nobody_up(scene: Scene) -> None:
    stopped, killed, other = (scene.receive(name) for name in ("stopped", "killed", "other"))
    slow = scene.receive("slow", RECEIVE_SLOWLY)
    other.wait_for_share(0.1)
    stopped.process.send_signal(signal.SIGSTOP)
    killed.kill()
    other.complete()
    assert not stopped.output.exists()
    stopped.process.send_signal(signal.SIGCONT)
    for receiver in (stopped, slow):
        receiver.complete()
    for receiver in (stopped, slow, other):
        assert receiver.output.read_bytes() == scene.image


def test_while_its_only_receiver_stands_still_a_sender_does_not_send_the_rest_to_nobody(scene: Scene) -> None:
    alone = scene.receive("stopped")
    alone.wait_for_share(0.1)
    alone.process.send_signal(signal.SIGSTOP)
    time.sleep(5)  # in the fourth of which all of the image would have left
    alone.process.send_signal(signal.SIGCONT)
    alone.complete()
    assert alone.output.read_bytes() == scene.image
    (session,) = json.loads(scene.daemon.tell("session", "list", "--json"))["sessions"]
    assert session["datagrams_sent"] * SYMBOL_BYTES < 1.5 * IMAGE_BYTES
