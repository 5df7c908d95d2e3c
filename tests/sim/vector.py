# SPDX-License-Identifier: Apache-2.0
"""A session to a thousand receivers in seconds: numbers of lacking symbols in an array instead of symbols.

Per slab there is an array of receivers by columns with what each still lacks; only those who lack something take part in
its repair. The sender's decisions are made by the sender's own code: how many parity rows are promised, how NACKs merge,
which columns a train of repairs has. What its receivers do is written here a second time, for all at once: back-off,
silence where an NCF or the promise covers what they lack, asking again. `test_vector.py` holds the result against the real
machines and against the formula.

Simpler than the real thing: slabs are repaired one after the other (in truth the repair of one overlaps the next, so
that a burst may hit both); any repair symbol is of use (after 127 parity rows source rows come, and some of those are
there); nobody is slow, nothing is reordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from tests.sim.channel import Channel, Numbers, Reals

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.membership import representative_count
from dpd.protocol.multicast.repair import SlabRepair
from dpd.protocol.multicast.reporting import ReportTimer
from dpd.protocol.multicast.train import WIRE_BYTES

LINE_BIT_S = 1e9
SYMBOL_S = WIRE_BYTES * 8 / LINE_BIT_S
WINDOW = 13_000  # symbols: a receiver's buffer of 16 MB
NEWS_S = SYMBOL_S / (1 / (ROWS * COLUMNS) + 4 / WINDOW)  # between two things that a representative tells
REORDER_GRACE_S = 0.002
ROUND_TRIP_S = 0.0004  # from a NACK to the NCF that it raised, at another receiver: a switched LAN and two busy hosts
NCF_GAP_S = 0.001
RETRY_S = 0.02
MAX_RETRY_S = 1.0
KNOWN_AFTER_S = 0.1  # from a slab's end until the sender learns from what was asked for: two slabs later


def reports_per_s(members: int) -> float:
    """Reports while data flows: representatives tell of each slab and each quarter of their window, as often as their
    timer lets them; the others report when theirs has run out."""
    timer = ReportTimer(0.0)
    timer.members = members
    timer.note_sent(0, 0, False, 0.0)
    slow_s = timer.due
    timer.note_sent(0, 0, True, 0.0)
    timer.soon(0.0)
    fast = min(representative_count(members), members)
    return fast / max(timer.due, NEWS_S) + (members - fast) / slow_s


def nack_width_s(members: int) -> float:
    """The width of the back-off that the sender asks for."""
    return min(max(members // 20, 2), 50) / 1000


def truncated_exponential(width_s: float, group: int, chances: Reals) -> Reals:
    """Back-off times (RFC 5401, 4.2): few are early, so that most hear of an early one before their own time comes.
    `chances` are uniform in [0, 1)."""
    scale = math.log(group) + 1
    times: Reals = width_s / scale * np.log1p(chances * math.expm1(scale))
    return times


@dataclass
class Outcome:
    """What a scheme sent for `symbols` of the file, and what came back. `rounds` over all `units` (slabs, slices, sections):
    how often whoever asked most often asked."""

    scheme: str
    receivers: int
    symbols: int = 0
    sent: int = 0
    feedback: float = 0.0  # packets
    rounds: int = 0
    units: int = 0
    reports_s: float = 0.0  # of the feedback: what comes by the clock, per second

    @property
    def sent_ratio(self) -> float:
        return self.sent / self.symbols

    @property
    def seconds(self) -> float:
        """At line rate."""
        return self.sent * SYMBOL_S

    @property
    def feedback_s(self) -> float:
        """Packets to the sender per second."""
        return self.feedback / self.seconds + self.reports_s


class Promising(Protocol):
    """How many parity rows the sender promises with each slab: `promise.Promise`, or always the same."""

    def rows_for(self, source_rows: int) -> int: ...

    def note_sent(self, slab: int, source_rows: int, promised: int, known_at: float) -> None: ...

    def settle(self, demand: Callable[[int], Sequence[int]], now: float) -> None: ...


@dataclass
class Fixed:
    """Always the same promise; nothing is learnt."""

    count: int = 0

    def rows_for(self, source_rows: int) -> int:
        return self.count

    def note_sent(self, slab: int, source_rows: int, promised: int, known_at: float) -> None: ...

    def settle(self, demand: Callable[[int], Sequence[int]], now: float) -> None: ...


@dataclass
class Repairing:
    """The repair of one slab: receivers of the session by their numbers in `members`, what each lacks by column."""

    channel: Channel
    members: Numbers
    lacking: Numbers  # int[members, columns]
    rng: np.random.Generator
    lost_feedback: float
    now: float = 0.0
    sent: int = 0
    slab: SlabRepair = field(default_factory=lambda: SlabRepair(ROWS))
    _seq: int = 0
    _train_at: float = math.inf
    _ncf_at: float = math.inf
    _ncf_free_at: float = 0.0

    def __post_init__(self) -> None:
        self._width_s = nack_width_s(self.channel.receivers)
        self._place = np.full(self.channel.receivers, -1)
        self._place[self.members] = np.arange(len(self.members))
        self._due = np.full(len(self.members), math.inf)
        self._retry_s = np.full(len(self.members), RETRY_S)
        self._asked_at = np.full(len(self.members), -math.inf)  # in this round of each; -inf: not yet
        self._asked_for = np.zeros(len(self.members), np.int64)
        self._is_put_off = np.zeros(len(self.members), bool)
        self.asked = np.zeros(len(self.members), np.int64)  # NACKs of each
        self._begin_round(self._wanting(), self._waits(len(self.members)))

    def run(self) -> None:
        """Until nobody lacks anything."""
        while len(self._wanting()):
            first = int(self._due.argmin())
            self.now = min(float(self._due[first]), self._train_at, self._ncf_at)
            if self.now == self._train_at:
                self._send_train()
            elif self.now == self._ncf_at:
                self._announce()
            else:
                self._ask(first)

    def _wanting(self) -> Numbers:
        return np.flatnonzero(self.lacking.any(axis=1))

    def _waits(self, count: int) -> Reals:
        chances = self.rng.random(count)
        return REORDER_GRACE_S + truncated_exponential(self._width_s, self.channel.receivers, chances)

    def _begin_round(self, who: Numbers, waits: Reals) -> None:
        """These ask after a time of their own, as if for the first time."""
        self._due[who] = self.now + waits
        self._retry_s[who] = RETRY_S
        self._asked_at[who] = -math.inf
        self._is_put_off[who] = False

    def _end_burst(self, who: Numbers) -> None:
        """Repairs have ended for these, who lack something still. As `gaps.Gaps.ask`: who has asked and got something begins
        anew; who has not asked keeps its time, or takes one if an NCF had put it off."""
        waits = self._waits(len(who))
        has_asked = self._asked_at[who] > -math.inf
        is_new = has_asked & (self.lacking[who].sum(axis=1) < self._asked_for[who])
        self._begin_round(who[is_new], waits[is_new])
        earlier = (has_asked & ~is_new) | (~has_asked & self._is_put_off[who])
        soonest = np.maximum(self.now + waits, self._asked_at[who] + RETRY_S)
        self._due[who[earlier]] = np.minimum(self._due[who], soonest)[earlier]

    def _patience_s(self) -> float:
        return max(2 * self._width_s, RETRY_S)

    def _ask(self, who: int) -> None:
        """A NACK, which may be lost; the sender's NCF follows, at most one each NCF_GAP_S, and its repairs."""
        self._due[who] = self.now + max(self._retry_s[who], 2 * self._width_s)
        self._retry_s[who] = min(2 * self._retry_s[who], MAX_RETRY_S)
        self._asked_at[who], self._asked_for[who] = self.now, self.lacking[who].sum()
        self.asked[who] += 1
        if self.rng.random() < self.lost_feedback:
            return
        before = list(self.slab.pending)
        self.slab.merge(self.lacking[who].astype(np.uint8).tobytes(), self._seq)
        if self.slab.pending != before:
            self._ncf_at = min(self._ncf_at, max(self.now + ROUND_TRIP_S, self._ncf_free_at))
            self._train_at = min(self._train_at, self.now + COLUMNS * SYMBOL_S)

    def _announce(self) -> None:
        """An NCF: whoever hears it and lacks no more than is coming holds its NACK back."""
        self._ncf_at, self._ncf_free_at = math.inf, self.now + NCF_GAP_S
        heard = np.ones(len(self.members), bool)
        deaf, _ = self.channel.lose(1)
        heard[self._place[deaf][self._place[deaf] >= 0]] = False
        covered = (self.lacking <= np.array(self.slab.pending)).all(axis=1)
        spared = np.flatnonzero(heard & covered & np.isfinite(self._due) & ~self._is_put_off)
        self._is_put_off[spared] = True
        self._due[spared] = np.maximum(self._due[spared], self.now + self._patience_s())

    def _send_train(self) -> None:
        """Repairs take turns with rows of the next slab. The last symbol of a burst of them says so: whoever gets it, and
        lacks still, asks anew."""
        columns = np.array([column for _, column in self.slab.take(COLUMNS)])
        self._seq += len(columns)
        self.sent += len(columns)
        self.channel.skip(COLUMNS)
        receivers, positions = self.channel.lose(len(columns))
        places = self._place[receivers]
        keys = places * COLUMNS + columns[positions]
        missed = np.bincount(keys[places >= 0], minlength=self.lacking.size).reshape(self.lacking.shape)
        self.lacking = np.maximum(self.lacking - np.bincount(columns, minlength=COLUMNS) + missed, 0)
        self._due[~self.lacking.any(axis=1)] = math.inf
        self._train_at = self.now + (COLUMNS + len(columns)) * SYMBOL_S
        if not self.slab.is_pending:
            self._train_at = math.inf
            wanting, deaf = self._wanting(), places[positions == len(columns) - 1]
            self._end_burst(wanting[~np.isin(wanting, deaf)])


def simulate(
    channel: Channel,
    slabs: int,
    rng: np.random.Generator,
    promise: Promising | None = None,
    lost_feedback: float = 0.0,
    scheme: str = "dpd",
) -> Outcome:
    """A session over so many whole slabs."""
    outcome = Outcome(scheme, channel.receivers, reports_s=reports_per_s(channel.receivers))
    promise = promise or Fixed()
    asked: dict[int, Sequence[int]] = {}
    for slab in range(slabs):
        promise.settle(asked.pop, outcome.seconds)
        promised = promise.rows_for(ROWS)
        repairing = Repairing(channel, *_first_pass(channel, promised), rng, lost_feedback)
        repairing.run()
        asked[slab] = repairing.slab.sent
        outcome.symbols += ROWS * COLUMNS
        outcome.sent += (ROWS + promised) * COLUMNS + repairing.sent
        outcome.feedback += int(repairing.asked.sum())
        outcome.rounds += int(repairing.asked.max(initial=0))
        outcome.units += 1
        promise.note_sent(slab, ROWS, promised, outcome.seconds + KNOWN_AFTER_S)
    return outcome


def _first_pass(channel: Channel, promised: int) -> tuple[Numbers, Numbers]:
    """Who lacks something when a slab and the promised parity rows have passed, and what: int[them, columns]."""
    receivers, positions = channel.lose((ROWS + promised) * COLUMNS)
    lost = np.bincount(receivers * COLUMNS + positions % COLUMNS, minlength=channel.receivers * COLUMNS)
    lacking = np.maximum(lost.reshape(-1, COLUMNS) - promised, 0)
    members = np.flatnonzero(lacking.any(axis=1))
    return members, lacking[members]
