# SPDX-License-Identifier: Apache-2.0
"""Reports of a target, and a book to take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dpd.deployment.database import open_database
from dpd.deployment.execution import StepName
from dpd.deployment.execution_book import ExecutionBook
from dpd.sequence.exchange import Report, StepState
from dpd.telemetry.status_messages import Value

STEPS = (
    StepName("1", "Partition the disk", "partition_disk"),
    StepName("2", "Install", "group"),
    StepName("2.1", "Apply the image", "apply_os_image"),
    StepName("2.2", "Boot loader", "install_boot_loader"),
)


def said(number: int, step: str, state: str, message: str = "", *, at: float = 1010.0, **counted: int) -> Report:
    """One report, as it comes over the wire."""
    return Report(number, at, step, StepState(state), message, **counted)


@dataclass(slots=True)
class Ears:
    """Whoever is told."""

    told: list[tuple[str, dict[str, Value]]] = field(default_factory=list)

    def __call__(self, event: str, fields: Mapping[str, Value]) -> None:
        self.told.append((event, dict(fields)))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]


def open_book(folder: Path, ears: Ears | None = None, opened_at: float = 1000.0) -> ExecutionBook:
    """The book in this folder, as a daemon opens it that starts at that moment."""
    return ExecutionBook(open_database(folder / "deployment.db"), tell=ears or Ears(), clock=lambda: opened_at)


def begin(book: ExecutionBook, machine: str = "pc-1", at: float = 1000.0, deployment: int = 7) -> str:
    """An execution of three steps and a group."""
    return book.begin(machine, machine.upper(), "52:54:00:00:00:01", deployment, "debian", 3, STEPS, at)
