# SPDX-License-Identifier: Apache-2.0
"""What `transfer_netns` measured, as a table beside udpcast, and the targets that dpd is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.machine import Spread, ratio, spread

GIB = 1 << 30
PEER = "udpcast"
MIN_SPEED = {"whole": 5.0, "split": 1.5}  # goodput to udpcast, by trains
MAX_SENDER_CPU = 1 / 3  # to udpcast
MAX_SENT_RATIO = 1.10  # split trains, 1 % loss


@dataclass(frozen=True, slots=True)
class Mode:
    """What every system meets alike."""

    trains: str
    loss_percent: float
    gro: bool

    def __str__(self) -> str:
        return f"trains {self.trains}, loss {self.loss_percent:g} %, GRO {'on' if self.gro else 'off'}"


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer to all receivers. CPU seconds are of the whole transfer; `seconds` includes the set-up."""

    mode: Mode
    system: str
    size_bytes: int
    receivers: int
    seconds: float
    data_seconds: float
    sent_ratio: float
    sender_cpu_s: float
    receivers_cpu_s: float
    softirq_s: float
    failed: int

    def __str__(self) -> str:
        return (
            f"{self.mode}: {self.system} {self.seconds:.2f} s ({self.data_seconds:.2f} s data), {self.sent_ratio:.3f} "
            f"sent, CPU {self.sender_cpu_s:.2f} + {self.receivers_cpu_s:.2f} s, softirq {self.softirq_s:.2f} s, "
            f"failed {self.failed}"
        )


Figure = Callable[[Run], float]


def goodput(run: Run) -> float:
    """Gbit/s at each receiver: the file, from the start to the last receiver's end."""
    return run.size_bytes * 8e-9 / run.seconds


def data_goodput(run: Run) -> float:
    """The same from the moment when data flows."""
    return run.size_bytes * 8e-9 / run.data_seconds


def sender_cpu(run: Run) -> float:
    """CPU seconds of the sender for each GiB of the file."""
    return run.sender_cpu_s * GIB / run.size_bytes


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs of one system in one mode. Those with a failed receiver count as failures and nowhere else."""

    runs: Sequence[Run]

    @property
    def good(self) -> list[Run]:
        return [run for run in self.runs if not run.failed]

    def spread(self, figure: Figure) -> Spread | None:
        return spread(map(figure, self.good)) if self.good else None

    def show(self, figure: Figure, style: str = ".3g") -> str:
        """The median alone."""
        found = self.spread(figure)
        return format(found.median, style) if found else "-"

    def to(self, peer: Cell, figure: Figure) -> str:
        ours, theirs = self.spread(figure), peer.spread(figure)
        return ratio(ours, theirs) if ours and theirs else "-"

    def failures(self) -> str:
        return f"{sum(run.failed for run in self.runs)}/{sum(run.receivers for run in self.runs)}"


def cells(runs: Sequence[Run]) -> dict[Mode, dict[str, Cell]]:
    """Runs by mode and system, in the order in which they came."""
    sorted_runs: dict[Mode, dict[str, list[Run]]] = {}
    for run in runs:
        sorted_runs.setdefault(run.mode, {}).setdefault(run.system, []).append(run)
    return {mode: {name: Cell(its) for name, its in systems.items()} for mode, systems in sorted_runs.items()}


def rows(runs: Sequence[Run]) -> Iterator[dict[str, str]]:
    """One row of the table for each mode and system."""
    for mode, systems in cells(runs).items():
        peer = systems.get(PEER, Cell([]))
        for name, cell in systems.items():
            yield {
                "trains": mode.trains,
                "loss %": f"{mode.loss_percent:g}",
                "GRO": "on" if mode.gro else "off",
                "system": name,
                "Gbit/s per receiver": str(cell.spread(goodput) or "-"),
                "to udpcast": cell.to(peer, goodput),
                "without set-up": cell.show(data_goodput),
                "to udpcast ": cell.to(peer, data_goodput),
                "sent / size": cell.show(lambda run: run.sent_ratio, ".3f"),
                "sender CPU s/GiB": str(cell.spread(sender_cpu) or "-"),
                "to udpcast  ": cell.to(peer, sender_cpu),
                "receivers CPU s/GiB": cell.show(lambda run: run.receivers_cpu_s * GIB / run.size_bytes),
                "softirq s/GiB": cell.show(lambda run: run.softirq_s * GIB / run.size_bytes),
                "failed receivers": cell.failures(),
            }


def verdicts(runs: Sequence[Run]) -> Iterator[str]:
    """Each target of dpd beside what was measured."""
    for mode, systems in cells(runs).items():
        ours, theirs = systems.get("dpd", Cell([])), systems.get(PEER, Cell([]))
        sent = ours.spread(lambda run: run.sent_ratio)
        if sent and mode.trains == "split" and mode.loss_percent == 1:
            yield _verdict(mode, "sent / size", sent.median, at_most=MAX_SENT_RATIO)
        if not (ours.good and theirs.good):
            continue
        least = MIN_SPEED[mode.trains]
        yield _verdict(mode, "goodput to udpcast", _ratio(ours, theirs, goodput), at_least=least)
        yield _verdict(mode, "the same without set-up", _ratio(ours, theirs, data_goodput), at_least=least)
        yield _verdict(mode, "sender CPU to udpcast", _ratio(ours, theirs, sender_cpu), at_most=MAX_SENDER_CPU)


def _ratio(ours: Cell, theirs: Cell, figure: Figure) -> float:
    return spread(map(figure, ours.good)).median / spread(map(figure, theirs.good)).median


def _verdict(mode: Mode, what: str, measured: float, *, at_least: float = 0.0, at_most: float = float("inf")) -> str:
    is_met = at_least <= measured <= at_most
    target = f"at least {at_least:.2f}" if at_least else f"at most {at_most:.2f}"
    return f"{'met   ' if is_met else 'MISSED'}  {mode}: {what} {measured:.2f}, target {target}"
