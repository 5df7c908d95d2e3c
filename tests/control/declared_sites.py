# SPDX-License-Identifier: Apache-2.0
"""Declarations of sites of any size, and a process that applies one until it is killed at a statement of its transaction.

It prints how many statements the store was told where it is not killed before (0: never).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dpd.control.operations.declaration import DeclarationOperations
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.store import SiteStore


def declare(letter: str, computers: int, collections: int) -> str:
    """A site whose every thing is named with the letter; each computer in one collection, each collection deployed to."""
    first = ord(letter)
    tables = [
        f'[[computer]]\nname = "{letter}-{number:05}"\nmacs = ["52:54:{first:02x}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"]\n'
        for number in range(computers)
    ]
    for place in range(collections):
        members = ", ".join(f'"{letter}-{number:05}"' for number in range(place, computers, collections))
        tables.append(f'[[collection]]\nname = "{letter}-room-{place:03}"\ncomputers = [{members}]\n')
        target = f'target = "collection:{letter}-room-{place:03}"\npurpose = "available"\n'
        tables.append(f'[[deployment]]\nname = "{letter}-{place}"\n{target}')
    return "\n".join(tables)


def export(path: Path) -> str:
    """The site as the file has it."""
    store = SiteStore(path)
    try:
        return DeclarationOperations(BootPolicy(Settings(), store=store)).export().declaration
    finally:
        store.close()


def main(path: str, declaration: str, killed_at: str) -> None:
    store = SiteStore(Path(path))
    operations = DeclarationOperations(BootPolicy(Settings(), store=store))
    told = 0

    def count(statement: str) -> None:
        nonlocal told
        told += 1
        if told == int(killed_at):
            os.kill(os.getpid(), signal.SIGKILL)

    text = Path(declaration).read_text()
    version = operations.plan(text).policy_version
    store._database._connection.set_trace_callback(count)
    operations.apply(text, version, None, "alice")
    print(told)


if __name__ == "__main__":
    main(*sys.argv[1:])
