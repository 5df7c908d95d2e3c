# SPDX-License-Identifier: Apache-2.0
"""What `transfer_netns` measured, as a table beside the pump and the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.machine import Spread, spread

GIB = 1 << 30
WIRE_SHARE = 1408 / 1502  # of a line's bits: header 28, UDP and IP 28, Ethernet with preamble and gap 38
MULTICAST_PEERS = ("udpcast", "uftp", "norm")

Lab = Literal["wire", "whole"]


@dataclass(frozen=True, slots=True)
class Mode:
    """What every system meets alike. `line_mbit_s` 0: no limit but the processors."""

    lab: Lab
    receivers: int
    loss_percent: float = 0.0
    line_mbit_s: float = 0.0
    gro: bool = True  # the receivers' devices put datagrams together

    def __str__(self) -> str:
        line = f", line {self.line_mbit_s:g} Mbit/s" if self.line_mbit_s else ""
        gro = "" if self.gro == (self.lab == "wire") else f", GRO {'on' if self.gro else 'off'}"
        return f"{self.lab}, N = {self.receivers}, loss {self.loss_percent:g} %{line}{gro}"


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer to all receivers. CPU seconds are of the whole transfer; `seconds` includes the set-up."""

    mode: Mode
    system: str
    size_bytes: int
    seconds: float
    data_seconds: float
    sent_ratio: float
    sender_cpu_s: float
    receivers_cpu_s: float
    softirq_s: float
    failed: int

    def __str__(self) -> str:
        return (
            f"{self.mode}: {self.system} {self.size_bytes >> 20} MiB in {self.seconds:.2f} s ({self.data_seconds:.2f} s "
            f"data), {self.sent_ratio:.3f} sent, CPU {self.sender_cpu_s:.2f} + {self.receivers_cpu_s:.2f} s, softirq "
            f"{self.softirq_s:.2f} s, failed {self.failed}"
        )


Figure = Callable[[Run], float]


def goodput(run: Run) -> float:
    """Gbit/s at each receiver: the file, from the start to the last receiver's end."""
    return run.size_bytes * 8e-9 / run.seconds


def data_goodput(run: Run) -> float:
    """The same from the moment when data flows."""
    return run.size_bytes * 8e-9 / run.data_seconds


def sent_ratio(run: Run) -> float:
    """Bytes that left the sender's device, headers included, for each byte of the file."""
    return run.sent_ratio


def sender_cpu(run: Run) -> float:
    """CPU seconds of the sender for each GiB of the file."""
    return run.sender_cpu_s * GIB / run.size_bytes


def receivers_cpu(run: Run) -> float:
    """CPU seconds of all receivers together for each GiB of the file."""
    return run.receivers_cpu_s * GIB / run.size_bytes


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs of one system in one mode. Those with a failed receiver count as failures and nowhere else."""

    runs: Sequence[Run] = ()

    @property
    def good(self) -> list[Run]:
        return [run for run in self.runs if not run.failed]

    def spread(self, figure: Figure) -> Spread | None:
        return spread(map(figure, self.good)) if self.good else None

    def median(self, figure: Figure) -> float | None:
        found = self.spread(figure)
        return found.median if found else None

    def show(self, figure: Figure, style: str = ".3g") -> str:
        """The median alone."""
        found = self.median(figure)
        return "-" if found is None else format(found, style)

    def failures(self) -> str:
        return f"{sum(run.failed for run in self.runs)}/{sum(run.mode.receivers for run in self.runs)}"


Cells = dict[str, Cell]  # the systems of one mode


def cells(runs: Iterable[Run]) -> dict[Mode, Cells]:
    """Runs by mode and system, in the order in which they came."""
    sorted_runs: dict[Mode, dict[str, list[Run]]] = {}
    for run in runs:
        sorted_runs.setdefault(run.mode, {}).setdefault(run.system, []).append(run)
    return {mode: {name: Cell(its) for name, its in systems.items()} for mode, systems in sorted_runs.items()}


def best_peer(systems: Cells, figure: Figure, *, is_less_better: bool = False) -> float | None:
    """The best median among the multicast peers; None where none of them has a good run."""
    medians = [systems[name].median(figure) for name in MULTICAST_PEERS if name in systems]
    found = [median for median in medians if median is not None]
    return (min if is_less_better else max)(found) if found else None


def wire_share(mode: Mode, gbit_s: float) -> float:
    """Of what a line can carry once every header is on it."""
    return gbit_s * 1000 / (mode.line_mbit_s * WIRE_SHARE)


def rows(runs: Iterable[Run]) -> Iterator[dict[str, str]]:
    """One row of the table for each mode and system."""
    for mode, systems in cells(runs).items():
        pump, peer = systems.get("pump", Cell()).median(goodput), best_peer(systems, goodput)
        for name, cell in systems.items():
            yield {
                "lab": mode.lab,
                "N": str(mode.receivers),
                "line": f"{mode.line_mbit_s:g}" if mode.line_mbit_s else "-",
                "loss %": f"{mode.loss_percent:g}",
                "system": name,
                "MiB": str(cell.runs[0].size_bytes >> 20),
                "Gbit/s per receiver": str(cell.spread(goodput) or "-"),
                "÷ pump": _over(cell.median(goodput), pump),
                "÷ best peer": _over(cell.median(goodput), peer),
                "of the wire": _share_of_line(mode, cell),
                "without set-up": cell.show(data_goodput),
                "sent / size": cell.show(sent_ratio, ".3f"),
                "sender CPU s/GiB": cell.show(sender_cpu),
                "receivers CPU s/GiB": cell.show(receivers_cpu),
                "softirq s/GiB": cell.show(lambda run: run.softirq_s * GIB / run.size_bytes),
                "failed": cell.failures(),
            }


def _over(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours and theirs else "-"


def _share_of_line(mode: Mode, cell: Cell) -> str:
    median = cell.median(goodput)
    return f"{wire_share(mode, median):.1%}" if median and mode.line_mbit_s else "-"
