# SPDX-License-Identifier: Apache-2.0
"""A thousand receivers and 10 GB, dpd beside what others send over the same channel: part of `bench.transfer_simulated`.

dpd's promise of parity, its merging of NACKs and its report timers are the code of the machines; the simulator is
`tests/sim/vector.py`, the others `tests/sim/peers.py`, which say what they leave out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tests.sim import peers
from tests.sim.channel import Bursts, Channel, Independent
from tests.sim.vector import Outcome, simulate

from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SLAB_BYTES
from dpd.protocol.multicast.promise import Promise

MAX_FEEDBACK_S = 1000  # packets to the sender, whatever is lost: 0.2 % of what one core reads
PEERS: tuple[peers.Scheme, ...] = (peers.originals, peers.udpcast, peers.uftp, peers.wds, peers.norm)
PEER_SYMBOLS = 8 * ROWS * COLUMNS  # nothing in them changes with time: 46 MB of the file show it


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of loss, and how much dpd may send there: symbols sent ÷ symbols of the file, at N = 1000."""

    loss: float
    goal: float
    burst: int = 0  # mean length of a run of losses; 0: independent

    def __str__(self) -> str:
        return f"{self.loss:g} %" + (f", bursts of {self.burst}" if self.burst else "")

    def channel(self, receivers: int, rng: np.random.Generator) -> Channel:
        if self.burst:
            return Bursts(receivers, self.loss / 100, self.burst, rng)
        return Independent(receivers, self.loss / 100, rng)


CASES = (Case(0.01, 1.012), Case(0.1, 1.022), Case(1, 1.06), Case(5, 1.15), Case(1, 1.11, burst=32))


@dataclass(frozen=True, slots=True)
class Result:
    """One scheme in one case."""

    case: Case
    outcome: Outcome
    is_ours: bool

    @property
    def missed(self) -> list[str]:
        """What the goals ask and this does not keep."""
        missed = []
        if self.is_ours and self.outcome.sent_ratio > self.case.goal:
            missed.append(f"{self.case}: sent / size {self.outcome.sent_ratio:.4f}, goal {self.case.goal}")
        if self.is_ours and self.outcome.feedback_s > MAX_FEEDBACK_S:
            missed.append(f"{self.case}: feedback {self.outcome.feedback_s:.0f} packets/s, goal {MAX_FEEDBACK_S}")
        return missed


def run(receivers: int, size_bytes: int, seed: int) -> Iterator[Result]:
    """Every case with every scheme."""
    for number, case in enumerate(CASES):
        rng = np.random.default_rng([seed, number])
        slabs = -(-size_bytes // SLAB_BYTES)
        yield Result(case, simulate(case.channel(receivers, rng), slabs, rng, Promise()), True)
        for scheme in PEERS:
            yield Result(case, scheme(case.channel(receivers, rng), PEER_SYMBOLS), False)


def rows(results: Sequence[Result]) -> Iterator[dict[str, str]]:
    """Results as the table shows them."""
    for result in results:
        outcome, ours = result.outcome, next(r.outcome for r in results if r.case == result.case)
        yield {
            "loss": str(result.case),
            "scheme": outcome.scheme,
            "sent / size": f"{outcome.sent_ratio:.4f}",
            "goal": f"<= {result.case.goal}" if result.is_ours else "",
            "x dpd": f"{outcome.sent_ratio / ours.sent_ratio:.2f}",
            "feedback/s": f"{outcome.feedback_s:.0f}",
            "of it by the clock": f"{outcome.reports_s:.0f}",
            "rounds": f"{outcome.rounds / outcome.units:.2f}",
            "10 GB at 1 Gbit/s, s": f"{outcome.seconds / outcome.symbols * 10e9 / 1408:.1f}",
        }
