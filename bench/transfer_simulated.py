# SPDX-License-Identifier: Apache-2.0
"""How much a session sends over how lossy a network: the real machines in virtual time, the same figures on any computer.

    python -m bench.transfer_simulated [--receivers 1 4 16] [--loss 0 0.1 1 5] [--slabs 3] [--seed 1]

Each row stands beside what plain retransmission would send and beside the floor of the erasure code, both by formula.
Exits with 1 where dpd sends more than MAX_ABOVE_FLOOR allows, so that it may gate a change.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.machine import table
from tests.sim.content import Content
from tests.sim.group import Group
from tests.sim.link import Delay, Element, Flight, Loss
from tests.sim.node import Node

from dpd.protocol.multicast.geometry import ROWS, SLAB_BYTES
from dpd.protocol.multicast.message import Nack, Report, decode_message

GIB = 1 << 30
DELAY_S = 0.0001  # one way, as in a switched LAN
RATE_BIT_S = 1e9
# Measured with seeds 1 to 5: -0.2 to +0.2 % of the floor, which is chance; every symbol sent in vain adds to it.
MAX_ABOVE_FLOOR = 0.01


@dataclass
class Tap:
    """An element that lets everything pass and counts the feedback of one receiver."""

    messages: int = 0
    reports: int = 0
    asked: dict[int, int] = field(default_factory=dict)  # slab -> NACKs that name it

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        for _, datagram in flight:
            message = decode_message(datagram)
            self.messages += 1
            self.reports += isinstance(message, Report)
            for wanted in message.slabs if isinstance(message, Nack) else ():
                self.asked[wanted.slab] = self.asked.get(wanted.slab, 0) + 1
        return flight


@dataclass(frozen=True, slots=True)
class Outcome:
    """One session. Per GiB of the object: NACKs and reports of all receivers together."""

    receivers: int
    loss: float
    sent: float
    nacks: float
    reports: float
    rounds: float
    seconds: float  # of virtual time, to the last receiver


def run(receivers: int, loss: float, slabs: int, seed: int) -> Outcome:
    """One session over independent loss on the way to each receiver; feedback arrives."""
    rng = random.Random(f"{seed}/{receivers}/{loss}")
    content = Content(rng.randbytes(slabs * SLAB_BYTES))
    taps = [Tap() for _ in range(receivers)]
    nodes = [Node(0x1000_0000_0001 + i, _path(loss), [tap, Delay(DELAY_S)]) for i, tap in enumerate(taps)]
    group = Group(content, nodes, rng, RATE_BIT_S)
    group.run()
    size_gib = slabs * SLAB_BYTES / GIB
    return Outcome(
        receivers=receivers,
        loss=loss,
        sent=group.sent_ratio,
        nacks=sum(tap.messages - tap.reports for tap in taps) / size_gib,
        reports=sum(tap.reports for tap in taps) / size_gib,
        rounds=1 + sum(sum(tap.asked.values()) for tap in taps) / (receivers * slabs),
        seconds=max(node.finished_at or 0.0 for node in nodes),
    )


def _path(loss: float) -> Sequence[Element]:
    return [Delay(DELAY_S), Loss(loss)] if loss else [Delay(DELAY_S)]


def retransmission(receivers: int, loss: float) -> float:
    """Sent / size where every lost symbol comes again itself, until each receiver has it: the mean of the largest of N
    geometric numbers."""
    total, lost = 0.0, 1.0
    while lost > 1e-12:
        total += 1 - (1 - lost) ** receivers
        lost *= loss
    return total


def code_floor(receivers: int, loss: float, k: int = ROWS) -> float:
    """Sent / size where symbols of a k-symbol block are sent until each receiver has any k: nobody can do with less at
    this k. The mean of the largest of N negative binomial numbers, from P(X <= m) = P(Binomial(m, 1 - loss) >= k)."""
    if not loss:
        return 1.0
    arrived, done, total, sent = k * math.log1p(-loss), 0.0, float(k), k
    while (done := done + math.exp(arrived)) < 1 - 1e-12:  # exp(arrived): the k-th symbol arrives as number `sent`
        total += 1 - done**receivers
        sent += 1
        arrived += math.log((sent - 1) / (sent - k)) + math.log(loss)
    return total / k


def rows(outcomes: Sequence[Outcome]) -> Iterator[dict[str, str]]:
    """Results as the table shows them."""
    for outcome in outcomes:
        floor = code_floor(outcome.receivers, outcome.loss)
        yield {
            "loss %": f"{outcome.loss * 100:g}",
            "N": str(outcome.receivers),
            "sent / size": f"{outcome.sent:.4f}",
            "RS k=128 floor": f"{floor:.4f}",
            "above floor": f"{outcome.sent / floor - 1:.2%}",
            "retransmission": f"{retransmission(outcome.receivers, outcome.loss):.4f}",
            "NACKs/GiB": f"{outcome.nacks:.0f}",
            "reports/GiB": f"{outcome.reports:.0f}",
            "rounds": f"{outcome.rounds:.2f}",
            "virtual s": f"{outcome.seconds:.3f}",
        }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--loss", nargs="+", type=float, default=[0, 0.1, 1, 5], help="percent")
    parser.add_argument("--slabs", type=int, default=3, help="of 5.5 MiB")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    started = time.monotonic()
    outcomes = [run(n, loss / 100, options.slabs, options.seed) for loss in options.loss for n in options.receivers]
    print(
        f"{options.slabs} slabs, seed {options.seed}, {RATE_BIT_S / 1e9:g} Gbit/s, {time.monotonic() - started:.1f} s\n"
    )
    print(table(list(rows(outcomes))))
    above = [o for o in outcomes if o.sent > code_floor(o.receivers, o.loss) * (1 + MAX_ABOVE_FLOOR)]
    for outcome in above:
        print(f"MISSED  N={outcome.receivers}, loss {outcome.loss:.1%}: {outcome.sent:.4f} sent / size is more than "
              f"{MAX_ABOVE_FLOOR:.0%} above the floor {code_floor(outcome.receivers, outcome.loss):.4f}")  # fmt: skip
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
