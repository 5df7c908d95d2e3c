# SPDX-License-Identifier: Apache-2.0
"""What dpd is held to in `transfer_netns`, and whether the runs met it. The two labs are never mixed in one target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.transfer_results import (
    Cell,
    Cells,
    Figure,
    Mode,
    Run,
    best_peer,
    cells,
    data_goodput,
    goodput,
    receivers_cpu,
    sender_cpu,
    sent_ratio,
    wire_share,
)

# As on a wire, by (receivers, loss in percent).
OF_PUMP = {(1, 0): 0.85, (4, 0): 0.70, (8, 0): 0.70, (1, 1): 0.75, (4, 1): 0.60, (8, 1): 0.60}
WIRE_TO_PEER = {(1, 0): 1.6, (1, 1): 1.6, (4, 0): 1.8, (4, 1): 1.8, (8, 0): 1.8, (8, 1): 1.8, (8, 5): 2.0}
MAX_SENT_RATIO = {(8, 5): 1.15}
# Trains whole, by receivers.
WHOLE_TO_PEER = {4: 8.0, 8: 8.0}
WHOLE_TO_UNICAST = {4: 1.2, 8: 1.5}
MAX_SENDER_CPU = 1 / 4  # to the peer that takes least
MAX_RECEIVERS_CPU = 1.0
# A limited line, by (Mbit/s, receivers, loss in percent).
OF_WIRE = {(100, 8, 0): 0.97, (100, 8, 1): 0.95, (100, 8, 5): 0.88, (1000, 2, 0): 0.97, (1000, 2, 1): 0.90}
LINE_TO_UNICAST = {(100, 8): 7.2}
UNICAST = ("nginx", "nginx+sha256")


def verdicts(runs: Iterable[Run]) -> Iterator[str]:
    """Each target of dpd beside what was measured; where something to compare with is missing there is no line."""
    for mode, systems in cells(runs).items():
        ours = systems.get("dpd", Cell())
        if not ours.good:
            continue
        if mode.line_mbit_s:
            yield from _on_a_line(mode, systems, ours)
        elif mode.lab == "wire":
            yield from _as_on_a_wire(mode, systems, ours)
        else:
            yield from _with_trains_whole(mode, systems, ours)


def is_met(line: str) -> bool:
    return not line.startswith("MISSED")


def _as_on_a_wire(mode: Mode, systems: Cells, ours: Cell) -> Iterator[str]:
    key = (mode.receivers, int(mode.loss_percent))
    pump = systems.get("pump", Cell()).median(goodput)
    yield from _least(mode, "goodput ÷ pump", ours, goodput, pump, OF_PUMP.get(key))
    yield from _least(mode, "the same without set-up", ours, data_goodput, pump, OF_PUMP.get(key))
    yield from _to_peer(mode, systems, ours, WIRE_TO_PEER.get(key))
    yield from _most(mode, "bytes on the wire ÷ size", ours, sent_ratio, 1.0, MAX_SENT_RATIO.get(key))


def _with_trains_whole(mode: Mode, systems: Cells, ours: Cell) -> Iterator[str]:
    if mode.loss_percent:
        return
    yield from _to_peer(mode, systems, ours, WHOLE_TO_PEER.get(mode.receivers))
    for name in UNICAST:
        theirs = systems.get(name, Cell()).median(goodput)
        yield from _least(mode, f"goodput ÷ {name}", ours, goodput, theirs, WHOLE_TO_UNICAST.get(mode.receivers))
    least = best_peer(systems, sender_cpu, is_less_better=True)
    yield from _most(mode, "sender CPU ÷ least of the peers", ours, sender_cpu, least, MAX_SENDER_CPU)
    least = best_peer(systems, receivers_cpu, is_less_better=True)
    yield from _most(mode, "receivers' CPU ÷ least of the peers", ours, receivers_cpu, least, MAX_RECEIVERS_CPU)


def _on_a_line(mode: Mode, systems: Cells, ours: Cell) -> Iterator[str]:
    target = OF_WIRE.get((int(mode.line_mbit_s), mode.receivers, int(mode.loss_percent)))
    yield from _least(mode, "share of the wire", ours, lambda run: wire_share(mode, goodput(run)), 1.0, target)
    yield from _least(
        mode, "the same without set-up", ours, lambda run: wire_share(mode, data_goodput(run)), 1.0, target
    )
    for name in UNICAST:
        theirs = systems.get(name, Cell()).median(goodput)
        times = LINE_TO_UNICAST.get((int(mode.line_mbit_s), mode.receivers)) if not mode.loss_percent else None
        yield from _least(mode, f"goodput ÷ {name}", ours, goodput, theirs, times)


def _to_peer(mode: Mode, systems: Cells, ours: Cell, target: float | None) -> Iterator[str]:
    yield from _least(mode, "goodput ÷ best peer", ours, goodput, best_peer(systems, goodput), target)
    yield from _least(mode, "the same without set-up", ours, data_goodput, best_peer(systems, data_goodput), target)


def _least(
    mode: Mode, what: str, ours: Cell, figure: Figure, over: float | None, target: float | None
) -> Iterator[str]:
    found = ours.median(figure)
    if found is not None and over and target is not None:
        yield _line(found / over >= target, mode, f"{what} {found / over:.2f}, at least {target:.2f}")


def _most(mode: Mode, what: str, ours: Cell, figure: Figure, over: float | None, target: float | None) -> Iterator[str]:
    found = ours.median(figure)
    if found is not None and over and target is not None:
        yield _line(found / over <= target, mode, f"{what} {found / over:.2f}, at most {target:.2f}")


def _line(is_good: bool, mode: Mode, text: str) -> str:
    return f"{'met   ' if is_good else 'MISSED'}  {mode}: {text}"
