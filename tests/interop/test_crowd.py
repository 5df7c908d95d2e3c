# SPDX-License-Identifier: Apache-2.0
"""Two hundred receivers join at once and complete; the daemon's memory stays what it was, and what it took is printed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan
from bench.transfer_watch import cpu_s
from tests.interop.daemon import Daemon

PACKAGE = "CROWD001"
HOSTS, EACH = 8, 25
IMAGE_BYTES = 6 << 20  # two slabs
PATIENCE_S = 120.0
MAX_JOINING_S = 10.0  # two cores play all 200; on a quiet machine it is one second
MAX_GROWTH_KIB = 64 << 10
SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
start_delay_s = 1
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    """Trains stay whole: two hundred sockets on two cores."""
    return make_lan("server", *(f"r{i}" for i in range(HOSTS)), checksum_offload=True)


def test_two_hundred_receivers_join_at_once(lan: Lan, tmp_path: Path) -> None:
    image = random.Random(200).randbytes(IMAGE_BYTES)
    source = tmp_path / "image.raw"
    source.write_bytes(image)
    with Daemon(tmp_path, SETTINGS, lan["server"]) as daemon:
        daemon.tell("content", "add", source, "--package", PACKAGE)
        memory_kib, busy_s = daemon.memory_kib(), cpu_s([daemon.pid])
        crowds = [_start(lan, tmp_path, number) for number in range(HOSTS)]
        started = time.monotonic()
        for crowd in crowds:
            assert crowd.stdin is not None
            crowd.stdin.write(b"\n")
            crowd.stdin.close()
        failed = sum(crowd.wait(PATIENCE_S) for crowd in crowds)
        seconds = time.monotonic() - started
        joins = [datetime.fromisoformat(event["time"]) for event in daemon.events("receiver joined")]
        first = joins[: HOSTS * EACH]
        joining_s = (first[-1] - first[0]).total_seconds()
        grown_kib = daemon.memory_kib() - memory_kib
        print(
            f"{len(joins)} joins, the first {HOSTS * EACH} in {joining_s:.2f} s; all complete after {seconds:.1f} s; "
            f"the daemon: {grown_kib} KiB more, {cpu_s([daemon.pid]) - busy_s:.2f} s of CPU"
        )
        assert failed == 0
        assert joining_s < MAX_JOINING_S
        assert grown_kib < MAX_GROWTH_KIB
        assert daemon.events("receiver completed")
        assert '"level": "error"' not in daemon.text()
    for path in tmp_path.glob("crowd*/*"):
        assert path.read_bytes() == image
    assert len(list(tmp_path.glob("crowd*/*"))) == HOSTS * EACH


def _start(lan: Lan, home: Path, number: int) -> subprocess.Popen[bytes]:
    """One host's receivers, ready to join."""
    host, folder = lan[f"r{number}"], home / f"crowd{number}"
    folder.mkdir()
    url = f"http://{lan['server'].address}:8080"
    command = host.command(sys.executable, "-m", "bench.crowd", str(EACH), folder, url, PACKAGE, DEVICE)
    with (home / f"crowd{number}.log").open("wb") as log:
        crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    host.processes.append(crowd)
    while b"ready" not in (home / f"crowd{number}.log").read_bytes():
        assert crowd.poll() is None
        time.sleep(0.05)
    return crowd
