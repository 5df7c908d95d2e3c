# SPDX-License-Identifier: Apache-2.0
"""A library of 10,000 packages beside one of ten and an empty one: start, memory, pages; and a tree of 20,000 files.

    python bench/library_scale.py [--quick] [--packages N] [--files N] [--directory DIR]

`dpd serve` is started as systemd would, runs alternating, until it says READY; its memory is read then, and again when
every page has been asked for. A page is a hundred contents by the control API: the first, the one in the middle and the
last. The libraries are made in memory and then copied to the disk that they are measured on.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.machine import print_facts, ratio, spread, table  # noqa: E402
from tests.daemon_process import DaemonProcess  # noqa: E402

from dpd.content.library import Library  # noqa: E402
from dpd.protocol.multicast.geometry import SLAB_BYTES  # noqa: E402

PAGE = 100
TARGET_START = 3.0
PACKAGE_BYTES = 2000


def main() -> None:
    arguments = _arguments()
    print_facts()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as place:
        home = Path(place)
        libraries = {0: home / "empty", 10: home / "ten", arguments.packages: home / "many"}
        for count, state in libraries.items():
            _make_packages(state, count)
        _measure_daemons(libraries, arguments.runs)
        _measure_tree(home, arguments.files)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, three runs")
    parser.add_argument("--packages", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="where to measure; the default is the usual one for such files")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.packages, arguments.files, arguments.runs = arguments.packages // 10, arguments.files // 10, 3
    return arguments


def _make_packages(state: Path, count: int) -> None:
    """State of a daemon with so many packages, each of its own bytes."""
    rng = random.Random(count)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        made, source = Path(place) / "state", Path(place) / "image.bin"
        with Library(_parent(made) / "library", slab_bytes=SLAB_BYTES) as library:
            for number in range(count):
                source.write_bytes(rng.randbytes(PACKAGE_BYTES))
                library.publish(source, f"LAB{number:05d}", tags=[f"room={number % 100}"])
        shutil.copytree(made, state)


def _parent(folder: Path) -> Path:
    folder.mkdir()
    return folder


# ---- the daemon


def _measure_daemons(libraries: dict[int, Path], runs: int) -> None:
    starts: dict[int, list[float]] = {count: [] for count in libraries}
    memory: dict[int, list[float]] = {count: [] for count in libraries}
    after_pages: dict[int, list[float]] = {count: [] for count in libraries}
    pages: dict[int, list[float]] = {count: [] for count in libraries}
    for _ in range(runs):
        for count, state in libraries.items():
            begun = time.monotonic()
            with DaemonProcess(state).ready() as daemon:
                starts[count].append(time.monotonic() - begun)
                memory[count].append(_memory_mib(daemon.process.pid))
                pages[count] += _page_times(daemon.control_socket, count)
                after_pages[count].append(_memory_mib(daemon.process.pid))
    rows = [
        {
            "packages": count,
            "start_s": str(spread(starts[count])),
            "start, x empty": ratio(spread(starts[count]), spread(starts[0])),
            "memory_mib": f"{spread(memory[count]).median:.1f}",
            "after all pages": f"{spread(after_pages[count]).median:.1f}",
            "page_ms": str(spread(pages[count])) if pages[count] else "-",
            "page, x ten": ratio(spread(pages[count]), spread(pages[10])) if pages[count] else "-",
        }
        for count in libraries
    ]
    print(table(rows))
    many = max(libraries)
    factor = spread(starts[many]).median / spread(starts[0]).median
    print(f"start with {many} packages: {factor:.2f} x an empty library (target <= {TARGET_START:g} x)")


def _page_times(path: str, count: int) -> list[float]:
    """Milliseconds for a page with the same ten contents' worth of reply: first, middle and last, ten times each."""
    if not count:
        return []
    for after in range(0, count, 1000):  # every page once, as a list of all of it does
        _ask(path, f"/v1/content?limit=1000&after={_cursor(after)}")
    found = []
    for after in (0, count // 2, count - 10):
        for _ in range(10):
            begun = time.monotonic()
            reply = _ask(path, f"/v1/content?limit=10&after={_cursor(after)}")
            found.append((time.monotonic() - begun) * 1000)
            assert len(reply["content"]) >= min(10, count - after)
    return found


def _cursor(number: int) -> str:
    return f"LAB{number - 1:05d}/1" if number else ""


def _ask(path: str, target: str) -> Any:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(path)
    try:
        connection.request("GET", target)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


# ---- a tree


def _measure_tree(home: Path, files: int) -> None:
    folder = home / "tree"
    rng = random.Random(files)
    for number in range(files):
        path = folder / f"{number % 200:03d}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(100, 8000)))
    with Library(home / "trees", slab_bytes=SLAB_BYTES) as library:
        rows = [_timed("publish", files, lambda: library.publish(folder, "TREE"))]
        for number in range(0, files, 100):
            (folder / f"{number % 200:03d}" / f"{number:05d}.bin").write_bytes(rng.randbytes(500))
        rows.append(_timed("publish the next version, 1 % changed", files, lambda: library.publish(folder, "TREE")))
        rows.append(_timed("description", files, lambda: library.description(library.find("TREE"))))
        rows.append(_timed("verify", files, lambda: library.verify("TREE")))
        rows.append(_timed("gc, dry run", files, library.gc))
        rows.append(_timed("remove the older version", files, lambda: library.remove("TREE", 1)))
        rows.append(_timed("remove the last version", files, lambda: library.remove("TREE", 2)))
    print(table(rows))


def _timed(what: str, files: int, work: Callable[[], object]) -> dict[str, str]:
    begun = time.monotonic()
    work()
    took = time.monotonic() - begun
    return {f"tree of {files} files": what, "seconds": f"{took:.2f}", "files/s": f"{files / took:.0f}"}


if __name__ == "__main__":
    main()
