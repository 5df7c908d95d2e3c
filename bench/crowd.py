# SPDX-License-Identifier: Apache-2.0
"""Many receivers in one process, each the real one in a thread: python -m bench.crowd COUNT FOLDER URL PACKAGE DEVICE

For joins by the hundred on a machine that could not start so many interpreters in a second. Says `ready`, waits for a line
on standard input, then joins with all; their JSON lines go to standard output, their files are FOLDER/0, FOLDER/1, … Ends
with the number of those that failed.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dpd.target.receiving.receive import main


def receive_all(count: int, folder: Path, url: str, package: str, device: str) -> int:
    """How many failed."""

    def receive(number: int) -> int:
        return main([url, package, "--interface", device, "--json", "--slots", "4", "-o", str(folder / str(number))])

    with ThreadPoolExecutor(count) as pool:
        return sum(code != 0 for code in pool.map(receive, range(count)))


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    sys.exit(receive_all(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
