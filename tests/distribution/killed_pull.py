# SPDX-License-Identifier: Apache-2.0
"""A process that pulls, to be killed (tests.prepared)."""

from __future__ import annotations

from pathlib import Path

from tests.distribution.origin import opened


def main(folder: str, url: str, package: str) -> None:
    with opened(Path(folder), {"hq": url}, stall_timeout_s=20.0) as site:
        print("begins", flush=True)
        site.pull(package)
    print("came", flush=True)
