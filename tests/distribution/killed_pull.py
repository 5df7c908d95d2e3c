# SPDX-License-Identifier: Apache-2.0
"""A process that pulls, to be killed: `python -m tests.distribution.killed_pull FOLDER URL PACKAGE`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.distribution.origin import opened


def main() -> None:
    folder, url, package = sys.argv[1:]
    with opened(Path(folder), {"hq": url}, stall_timeout_s=20.0) as site:
        print("begins", flush=True)
        site.pull(package)
    print("ended", flush=True)


if __name__ == "__main__":
    main()
