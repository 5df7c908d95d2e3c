# SPDX-License-Identifier: Apache-2.0
"""One host forges, replays, corrupts, reorders and duplicates a hundredth of a session each, and lies to the sender as a
member: every file is byte-identical all the same, and neither daemon nor receivers grow."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan
from tests.interop.adversary import Adversary, join_session
from tests.interop.daemon import Daemon
from tests.interop.receiving import Receiving
from tests.sim.clock import seeded

PACKAGE = "EVIL0001"
IMAGE_BYTES = 27 << 20  # 5 slabs; 4 s at the rate below
RECEIVERS = ("r1", "r2", "r3")
MAX_DAEMON_GROWTH_KIB = 80 << 10  # 28 MB are all parity of five slabs, which a member may ask for
MAX_RECEIVER_GROWTH_KIB = 64 << 10  # eleven slabs of its sixteen
SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
rate_mbit_s = 60
start_delay_s = 1
"""


@dataclass
class MemoryWatch:
    """The most that each process had in use; without mapped files, which are the page cache's."""

    pids: Sequence[int]
    peak_kib: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.1):
            for pid in self.pids:
                with suppress(FileNotFoundError, ProcessLookupError, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
                    now_kib = int(status.partition("RssAnon:")[2].split()[0])
                    self.peak_kib[pid] = max(now_kib, self.peak_kib.get(pid, 0))


class Scene:
    """The LAN with its daemon and image; one transfer to all receivers at a time."""

    def __init__(self, lan: Lan, daemon: Daemon, image: bytes, home: Path) -> None:
        self.lan, self.daemon, self.image, self._home = lan, daemon, image, home
        self.url = f"http://{lan['server'].address}:8080"

    def transfer(self) -> tuple[list[Receiving], int, float]:
        """The receivers, all complete; the most memory that one of them had, KiB; seconds."""
        receivers = [self._receive(name) for name in RECEIVERS]
        watch, started = MemoryWatch([receiver.process.pid for receiver in receivers]), time.monotonic()
        with watch.watching():
            for receiver in receivers:
                receiver.complete()
        return receivers, max(watch.peak_kib.values()), time.monotonic() - started

    def _receive(self, name: str) -> Receiving:
        output = self._home / f"{name}.raw"
        output.unlink(missing_ok=True)
        return Receiving(self.lan[name], self.url, PACKAGE, output)


@pytest.fixture
def scene(make_lan: Callable[..., Lan], tmp_path: Path) -> Iterator[Scene]:
    lan = make_lan("server", "adversary", *RECEIVERS, checksum_offload=True)
    lan.split_trains("server")
    image = random.Random(66).randbytes(IMAGE_BYTES)
    source = tmp_path / "image.raw"
    source.write_bytes(image)
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(tmp_path, SETTINGS, lan["server"]))
        daemon.tell("content", "add", source, "--package", PACKAGE)
        yield Scene(lan, daemon, image, tmp_path)


def test_every_file_is_identical_beside_an_adversary(scene: Scene) -> None:
    """Twice, so that what grows with each transfer shows."""
    _, quiet_kib, quiet_s = scene.transfer()
    before_kib = scene.daemon.memory_kib()
    membership = join_session(scene.lan["adversary"], scene.url, PACKAGE)
    with Adversary(scene.lan["adversary"], membership, seeded(66)) as adversary:
        scene.transfer()
        receivers, attacked_kib, attacked_s = scene.transfer()
    grown_kib = scene.daemon.memory_kib() - before_kib
    print(
        f"\nof {adversary.heard} heard {dict(adversary.sent)}; {quiet_s:.1f} s without, {attacked_s:.1f} s with; receivers "
        f"{quiet_kib} and {attacked_kib} KiB, daemon {grown_kib} KiB more"
    )
    assert all(receiver.output.read_bytes() == scene.image for receiver in receivers)
    kinds = ("duplicated", "reordered", "replayed", "corrupted", "forged", "feedback")
    assert all(adversary.sent[kind] > 0.005 * adversary.heard for kind in kinds)
    assert attacked_kib - quiet_kib < MAX_RECEIVER_GROWTH_KIB
    assert grown_kib < MAX_DAEMON_GROWTH_KIB
    assert "Traceback" not in scene.daemon.text()
