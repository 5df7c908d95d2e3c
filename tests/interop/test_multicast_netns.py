# SPDX-License-Identifier: Apache-2.0
"""`dpd serve` and `dpd receive` as processes on a LAN that loses datagrams: a real WIM arrives whole at everyone, whoever
joins late, is killed, or loses the distribution point; and the wire shows what it cost.

Trains leave the sender's port as datagrams and are lost one by one at each receiver, as on a real network. The rate is
limited, so that "at 40 %" is a moment in the middle on any machine; the receivers' own events say when it has come.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan, missing
from tests.interop.daemon import Daemon
from tests.interop.receiving import PATIENCE_S, Receiving

PACKAGE = "LAB00001"
MIN_IMAGE_BYTES = 256 << 20
LOSS = 0.01
RATE_MBIT_S = (
    300  # of wire; 256 MiB then take 8 s, and two cores keep up with five receivers though others use them, too
)
HEADERS = 1478 / 1408  # of a datagram on the wire
LATE_SLACK = 1.02  # on a pass and what the last join missed of it: a slab under way at the join is 2 % of this image
MAX_SENT_RATIO = 1.10  # 1.05 are headers of datagrams, 1.02 is the erasure code's floor for four receivers
RECEIVERS = ("r1", "r2", "r3", "r4", "late")

SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
rate_mbit_s = {RATE_MBIT_S}
start_delay_s = 2
member_timeout_s = 2
[metrics]
listen = ""
"""


class Lab:
    """The LAN with its distribution point, the image, and a place for what is received."""

    def __init__(self, lan: Lan, daemon: Daemon, image: Path, home: Path) -> None:
        self.lan, self.daemon, self.image = lan, daemon, image
        self.size = image.stat().st_size
        self._sha256 = _sha256(image)
        self._home = home
        self._url = f"http://{lan['server'].address}:8080"

    def receive(self, name: str) -> Receiving:
        return Receiving(self.lan[name], self._url, PACKAGE, self._home / f"{name}.wim")

    def sent_bytes(self) -> int:
        return self.lan["server"].traffic().sent_bytes

    @contextmanager
    def losing_nothing(self) -> Iterator[None]:
        """A network without loss, meanwhile."""
        for name in RECEIVERS:
            self.lan.lose_nothing(name)
        try:
            yield
        finally:
            for name in RECEIVERS:
                self.lan.lose(name, LOSS)

    def clear(self) -> None:
        for path in self._home.glob("*.wim*"):
            path.unlink()

    def assert_identical(self, receivers: Sequence[Receiving]) -> None:
        for receiver in receivers:
            assert _sha256(receiver.output) == self._sha256, f"{receiver.output} differs from the image"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """In memory where there is room: here the network is under test, not the disk."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 10 * MIN_IMAGE_BYTES
    with tempfile.TemporaryDirectory(dir=memory if has_room else None) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def image(home: Path) -> Path:
    """A WIM of more than 256 MiB that does not compress."""
    tree = home / "tree"
    tree.mkdir()
    for i in range(8):
        (tree / f"file{i}.bin").write_bytes(os.urandom((MIN_IMAGE_BYTES >> 3) + i))
    wim = home / "install.wim"
    command = ["wimlib-imagex", "capture", str(tree), str(wim), "Lab", "--compress=none"]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    assert wim.stat().st_size > MIN_IMAGE_BYTES
    return wim


@pytest.fixture(scope="module")
def whole_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """One LAN, daemon and published image for all tests of this file."""
    absent = missing("nft", "wimlib-imagex")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    home, image = request.getfixturevalue("home"), request.getfixturevalue("image")
    with ExitStack() as stack:
        lan = stack.enter_context(Lan("server", *RECEIVERS, checksum_offload=True))
        lan.split_trains("server")
        for name in RECEIVERS:
            lan.lose(name, LOSS)
        daemon = stack.enter_context(Daemon(home, SETTINGS, lan["server"]))
        daemon.tell("content", "add", image, "--package", PACKAGE)
        received = home / "received"
        received.mkdir()
        yield Lab(lan, daemon, image, received)


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """No receiver of one test is there in the next, nor its files."""
    yield whole_lab
    for name in RECEIVERS:
        for process in whole_lab.lan[name].processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        whole_lab.lan[name].processes.clear()
    whole_lab.clear()


def test_four_receivers_have_the_image_for_a_tenth_more_than_its_size(lab: Lab) -> None:
    before = lab.sent_bytes()
    receivers = [lab.receive(name) for name in ("r1", "r2", "r3", "r4")]
    for receiver in receivers:
        receiver.complete()
    sent = lab.sent_bytes() - before
    assert all(receiver.all("progress")[-1]["lost"] > 0 for receiver in receivers), "the network lost nothing"
    assert not any(receiver.all("session lost") for receiver in receivers)
    lab.assert_identical(receivers)
    receivers[0].host.run("wimlib-imagex", "verify", receivers[0].output)
    assert sent <= MAX_SENT_RATIO * lab.size


def test_who_joins_at_60_percent_completes_and_costs_the_part_it_missed(lab: Lab) -> None:
    before = lab.sent_bytes()
    receivers = [lab.receive(name) for name in ("r1", "r2", "r3", "r4")]
    receivers[0].wait_for_share(0.6)
    late = lab.receive("late")
    late.wait_for(lambda e: e["event"] == "joined")
    missed = lab.sent_bytes() - before
    for receiver in (*receivers, late):
        receiver.complete()
    assert late.all("joined")[1:] == []
    lab.assert_identical([*receivers, late])
    assert lab.sent_bytes() - before <= MAX_SENT_RATIO * lab.size + missed


def test_late_joins_cost_the_part_that_the_last_of_them_missed(lab: Lab) -> None:
    """At 10, 50 and 90 % of the pass, on a network that loses nothing: 1 + time of the last join ÷ one pass, and no more."""
    with lab.losing_nothing():
        before = lab.sent_bytes()
        receivers = [lab.receive("r1")]
        for share, name in ((0.1, "r2"), (0.5, "r3"), (0.9, "late")):
            receivers[0].wait_for_share(share)
            receivers.append(lab.receive(name))
            receivers[-1].wait_for(lambda e: e["event"] == "joined")
        missed = lab.sent_bytes() - before
        for receiver in receivers:
            receiver.complete()
        sent = lab.sent_bytes() - before
    lab.assert_identical(receivers)
    assert not any(receiver.all("session lost") for receiver in receivers)
    assert sent <= LATE_SLACK * (HEADERS * lab.size + missed)


def test_a_killed_receiver_asks_for_nothing_it_had(lab: Lab) -> None:
    killed = lab.receive("r1")
    killed.wait_for_share(0.4)
    silent = len(lab.daemon.events("receiver silent"))
    killed.kill()
    verified = killed.journal_slabs()
    _wait_until(lambda: len(lab.daemon.events("receiver silent")) > silent)  # nothing is sent for it any more
    before = lab.sent_bytes()
    again = lab.receive("r1")
    again.complete()
    sent = lab.sent_bytes() - before
    slabs = again.all("progress")[-1]["slabs"]
    rest = lab.size * (slabs - verified) / slabs
    assert verified >= 0.4 * slabs
    assert again.all("resuming")[0]["verified_slabs"] == verified
    assert lab.daemon.events("receiver joined")[-1]["verified_slabs"] == verified
    assert sent <= MAX_SENT_RATIO * rest + 0.05 * (lab.size - rest)  # a receiver that starves on a busy host drops some
    lab.assert_identical([again])


def test_receivers_outlive_a_killed_distribution_point(lab: Lab) -> None:
    receivers = [lab.receive(name) for name in ("r1", "r2", "r3", "r4")]
    receivers[0].wait_for_share(0.5)
    lab.daemon.kill_and_restart()
    for receiver in receivers:
        receiver.complete()
        assert len(receiver.all("joined")) == 2
    lab.assert_identical(receivers)
    rejoined = lab.daemon.events("receiver joined")[-4:]
    assert all(event["verified_slabs"] > 0 for event in rejoined)


def _wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
