# SPDX-License-Identifier: Apache-2.0
"""What becomes of receivers that are slower than their speed class: nothing, a slower class, or another way altogether.

Judged once a second over what the streams sent and the members reported. A member is *slow* when over ten seconds it
verified less than 80 % of the slabs that its class sent and it did not have; with a slab and a second of slack, since
reports are late. It is *to blame* when more than half of the repair was added by its NACKs, while repair is more than 3 %
of the stream. Standing already keeps it from stopping the others; the policy gives it a pace of its own.

    none          nobody is moved
    multistream   slow or to blame: one class down; up again after 30 s at 120 % of what the class above needs
    disconnect    below the threshold: FALL_BACK to HTTP, or KICK

Where falling back is allowed, the last two of a larger group are sent to HTTP if they lack so little in common that
multicast saves nothing; and who brings a class below its floor for 30 s is, too, wherever slow members are judged at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dpd.protocol.multicast.geometry import SLAB_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import ControlCode, ControlReason

SLAB_KIB = SLAB_BYTES / 1024
SYMBOL_KIB = SYMBOL_BYTES / 1024
WINDOW_S = 10.0
SLOW_SHARE = 0.8
BLAME_SHARE = 0.5
BLAMED_REPAIR = 0.03
BLAMED_GROUP = 4  # with fewer, somebody always has half of it
UP_SHARE = 1.2
UP_S = 30.0
MAX_UP_S = 480.0
FLOOR_S = 30.0
THRESHOLD_SLABS = 3  # what a member at the threshold verifies while it is judged, at least
CEILING_ROOM = 1.25  # a class whose own ceiling is not that much above a threshold shows nothing
ENDGAME_MEMBERS = 2
ENDGAME_GROUP = 4
ENDGAME_S = 5.0
ENDGAME_GAIN = 1.5  # missing in all ÷ missing by anyone: below it multicast saves less than a third


class SlowClients(Enum):
    """The operator's choice, in the words of the settings."""

    NONE = "none"
    MULTISTREAM = "multistream"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """`streams`: speed classes under multistream; `below_kib_s`: what must be stored under disconnect; `floor_kib_s`: 0 is
    none; `fall_back`: whether HTTP is a way to go on."""

    slow_clients: SlowClients = SlowClients.NONE
    streams: int = 2
    below_kib_s: float = 512.0
    floor_kib_s: float = 256.0
    fall_back: bool = True


@dataclass(frozen=True, slots=True)
class StreamView:
    """One speed class at this moment: totals since its start, and its members by id. `ended`: the slabs sent last, the
    latest at the end, `ended_count` in all; `ceiling_kib_s` 0: none."""

    speed_class: int
    has_started: bool
    ceiling_kib_s: float
    source_symbols: int
    repair_symbols: int
    ended: Sequence[int]
    ended_count: int
    members: Mapping[int, Member]

    def sent_since(self, count: int) -> int:
        """Slab set: what was sent after the first `count` slabs."""
        new = self.ended_count - count
        slabs = 0
        for slab in self.ended[-new:] if new else ():
            slabs |= 1 << slab
        return slabs


@dataclass(frozen=True, slots=True)
class PolicyOrder:
    """Tell a member: MOVE to `speed_class`, FALL_BACK or KICK, and why."""

    member: int
    code: ControlCode
    reason: ControlReason
    speed_class: int


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    verified: int
    blame: int
    ended_count: int


@dataclass(slots=True)
class _Record:
    """What is remembered of a member; samples are as old as the report they show."""

    speed_class: int
    samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=256))
    fast_since: float | None = None
    up_s: float = UP_S  # doubles each time it has to come down again

    def span_s(self) -> float:
        return self.samples[-1].at - self.samples[0].at if self.samples else 0.0


@dataclass(slots=True)
class _Pace:
    """What a stream sent in the last window."""

    samples: deque[tuple[float, int, int]] = field(default_factory=deque)  # time, source symbols, repair symbols
    below_since: float | None = None

    def note(self, view: StreamView, now: float) -> None:
        self.samples.append((now, view.source_symbols, view.repair_symbols))
        while now - self.samples[0][0] > WINDOW_S:
            self.samples.popleft()

    @property
    def rate_kib_s(self) -> float:
        (first_at, first, _), (last_at, last, _) = self.samples[0], self.samples[-1]
        return (last - first) * SYMBOL_KIB / (last_at - first_at) if last_at > first_at else 0.0

    @property
    def repair_share(self) -> float:
        (_, first, repaired), (_, last, repairing) = self.samples[0], self.samples[-1]
        return (repairing - repaired) / (last - first) if last > first else 0.0


class SlowClientPolicy:
    """Call `judge` about once a second with every stream of one session."""

    def __init__(self, rules: PolicyRules) -> None:
        self.rules = rules
        self._records: dict[int, _Record] = {}
        self._paces: dict[int, _Pace] = {}
        self._largest_group = 0
        self._few_since: float | None = None

    def judge(self, views: Sequence[StreamView], now: float) -> list[PolicyOrder]:
        """What to order now. An order is given once for each cause: who obeys is judged anew in its new place."""
        self._remember(views, now)
        orders: dict[int, PolicyOrder] = {}
        for view in views:
            if self.rules.slow_clients is not SlowClients.NONE and view.has_started:
                for order in (*self._judge_members(view, views), *self._judge_floor(view, now), *self._rise(view, now)):
                    orders.setdefault(order.member, order)
        for order in self._endgame(views, now):
            orders.setdefault(order.member, order)
        for member in orders:
            self._records[member].samples.clear()
            self._records[member].fast_since = None
        return list(orders.values())

    def replace(self, member: int, successor: int) -> None:
        """A receiver joined again under another id: what is known of its moves goes with it."""
        if (record := self._records.pop(member, None)) is not None:
            self._records[successor] = record

    # ---- what is known

    def _remember(self, views: Sequence[StreamView], now: float) -> None:
        living = {number for view in views for number in view.members}
        self._records = {number: record for number, record in self._records.items() if number in living}
        self._largest_group = max(self._largest_group if living else 0, len(living))
        for view in views:
            self._paces.setdefault(view.speed_class, _Pace()).note(view, now)
            for member in view.members.values():
                self._note(view, member)

    def _note(self, view: StreamView, member: Member) -> None:
        record = self._records.setdefault(member.member, _Record(view.speed_class))
        if record.speed_class != view.speed_class:
            if view.speed_class > record.speed_class:
                record.up_s = min(record.up_s * 2, MAX_UP_S)
            record.speed_class, record.fast_since = view.speed_class, None
            record.samples.clear()
        if not view.has_started or not member.is_wanting:
            record.samples.clear()
        elif not record.samples or member.reported_at > record.samples[-1].at:
            record.samples.append(_Sample(member.reported_at, member.verified, member.blame, view.ended_count))
            window_s = max(WINDOW_S, self._threshold_s())
            while record.samples[-1].at - record.samples[1 if len(record.samples) > 1 else 0].at >= window_s:
                record.samples.popleft()

    def _threshold_s(self) -> float:
        """How long a member must be watched to tell whether it stores `below_kib_s`."""
        if self.rules.slow_clients is not SlowClients.DISCONNECT:
            return 0.0
        return THRESHOLD_SLABS * SLAB_KIB / self.rules.below_kib_s

    def _drain(self, view: StreamView, record: _Record) -> tuple[float, float]:
        """Slabs that a member verified in its window, and those that it was sent and did not have."""
        first, last = record.samples[0], record.samples[-1]
        offered = (view.sent_since(first.ended_count) & ~first.verified).bit_count()
        late = (view.sent_since(last.ended_count) & ~first.verified).bit_count()
        return (last.verified & ~first.verified).bit_count(), offered - late

    # ---- down

    def _judge_members(self, view: StreamView, views: Sequence[StreamView]) -> list[PolicyOrder]:
        wanting = [m for m in view.members.values() if m.is_wanting]
        if self.rules.slow_clients is SlowClients.DISCONNECT:
            return [self._out(m, ControlReason.SLOW, view) for m in wanting if self._is_below(view, m)]
        if len(wanting) < 2 or view.speed_class + 1 >= self.rules.streams:
            return []
        slow = {m.member: ControlReason.SLOW for m in wanting if self._is_slow(view, m)}
        culprit = self._culprit(view, wanting)
        if culprit is not None:
            slow.setdefault(culprit, ControlReason.BLAME)
        if len(slow) == len(
            wanting
        ):  # then it is the class that is too fast for its members, and it will adapt to them
            return []
        down = view.speed_class + 1
        return [PolicyOrder(member, ControlCode.MOVE, reason, down) for member, reason in slow.items()]

    def _is_slow(self, view: StreamView, member: Member) -> bool:
        record = self._records[member.member]
        if record.span_s() < WINDOW_S:
            return False
        gained, offered = self._drain(view, record)
        return gained + 1 + offered / record.span_s() < SLOW_SHARE * offered

    def _is_below(self, view: StreamView, member: Member) -> bool:
        record, below = self._records[member.member], self.rules.below_kib_s
        if record.span_s() < max(WINDOW_S, self._threshold_s()):
            return False
        if view.ceiling_kib_s and view.ceiling_kib_s < below * CEILING_ROOM:
            return False
        sent = view.sent_since(record.samples[0].ended_count)
        had = sent & record.samples[0].verified
        if had.bit_count() > (1 - SLOW_SHARE) * sent.bit_count():  # the class sent what others lack
            return False
        gained, _ = self._drain(view, record)
        return (gained + 1) * SLAB_KIB / record.span_s() < below

    def _culprit(self, view: StreamView, wanting: Sequence[Member]) -> int | None:
        if len(wanting) < BLAMED_GROUP or self._paces[view.speed_class].repair_share <= BLAMED_REPAIR:
            return None
        added = {}
        for member in wanting:
            record = self._records[member.member]
            added[member.member] = record.samples[-1].blame - record.samples[0].blame if record.samples else 0
        worst = max(added, key=added.__getitem__)
        is_watched = self._records[worst].span_s() >= WINDOW_S
        return worst if is_watched and added[worst] > BLAME_SHARE * sum(added.values()) else None

    def _out(self, member: Member, reason: ControlReason, view: StreamView) -> PolicyOrder:
        code = ControlCode.FALL_BACK if self.rules.fall_back else ControlCode.KICK
        return PolicyOrder(member.member, code, reason, view.speed_class)

    def _judge_floor(self, view: StreamView, now: float) -> list[PolicyOrder]:
        """The last class cannot be left for a slower one: whoever brings it below the floor goes on by HTTP."""
        pace, floor = self._paces[view.speed_class], self.rules.floor_kib_s
        wanting = [m for m in view.members.values() if m.is_wanting and self._records[m.member].samples]
        is_capped = bool(view.ceiling_kib_s) and view.ceiling_kib_s < floor * CEILING_ROOM
        if not self.rules.fall_back or len(wanting) < 2 or is_capped or pace.rate_kib_s >= floor:
            pace.below_since = None
            return []
        pace.below_since = now if pace.below_since is None else pace.below_since
        if now - pace.below_since < FLOOR_S:
            return []
        pace.below_since = now
        gained = {m.member: self._drain(view, self._records[m.member])[0] for m in wanting}
        worst = min(wanting, key=lambda m: (gained[m.member], m.strength()))
        return [self._out(worst, ControlReason.SLOW, view)]

    # ---- up

    def _rise(self, view: StreamView, now: float) -> list[PolicyOrder]:
        """Those who for some time store more than the class above needs."""
        above = self._paces.get(view.speed_class - 1)
        if self.rules.slow_clients is not SlowClients.MULTISTREAM or above is None or not above.rate_kib_s:
            return []
        orders = []
        for member in view.members.values():
            record = self._records[member.member]
            if not member.is_wanting or member.tally.drain_kib_s <= UP_SHARE * above.rate_kib_s:
                record.fast_since = None
                continue
            record.fast_since = now if record.fast_since is None else record.fast_since
            if now - record.fast_since >= record.up_s:
                up = view.speed_class - 1
                orders.append(PolicyOrder(member.member, ControlCode.MOVE, ControlReason.RECOVERED, up))
        return orders

    # ---- the end

    def _endgame(self, views: Sequence[StreamView], now: float) -> list[PolicyOrder]:
        """The last of a larger group, each of whom lacks something else."""
        left = [(m, view) for view in views for m in view.members.values() if m.is_wanting]
        is_few = 0 < len(left) <= ENDGAME_MEMBERS < ENDGAME_GROUP <= self._largest_group
        if not is_few or not self.rules.fall_back or not all(view.has_started for _, view in left):
            self._few_since = None
            return []
        self._few_since = now if self._few_since is None else self._few_since
        newest = max(m.joined_at for m, _ in left)
        if now - max(self._few_since, newest + WINDOW_S) < ENDGAME_S or not _gains_nothing([m for m, _ in left]):
            return []
        return [self._out(m, ControlReason.ENDGAME, view) for m, view in left]


def _gains_nothing(members: Sequence[Member]) -> bool:
    """Whether what they lack has little in common. Beyond the last slab all sets alike have nothing."""
    slabs = max(m.slab_count for m in members)
    missing = [~m.verified & ((1 << slabs) - 1) for m in members]
    union = 0
    for each in missing:
        union |= each
    return sum(each.bit_count() for each in missing) < ENDGAME_GAIN * union.bit_count()
