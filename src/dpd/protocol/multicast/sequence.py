# SPDX-License-Identifier: Apache-2.0
"""Following the sender's tx_seq: what was lost, what came late, and which numbers to believe.

Nothing but BEATs is signed, so a number may be damaged, or forged by another member. One that goes on within TRUSTED of
the newest is believed. One further away, ahead or behind, waits for others
beside it: one ahead for a second, since a long burst may have been lost; one behind for three trains' worth, since symbols
also come late; and those that go on at the old place count against it. So one forged number changes nothing, and many
forged ones are outvoted by the stream itself within a few trains, or corrected by the next BEAT.
"""

from __future__ import annotations

from collections import deque

from dpd.protocol.multicast.audit import Audit
from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS

TRUSTED = 4 * COLUMNS  # four trains: a burst that is lost, or what reordering moves
VOTES_BACK = 3 * COLUMNS  # to be believed behind the newest: late symbols come one by one between those on time
MAX_LEAP = 1 << 22  # further than that nothing was lost: we would have noticed the silence
MAX_LATE = 1 << 14  # a BEAT this far behind is not late, but the number seen wrong: 0.2 s at 1 Gbit/s
RANGES_REMEMBERED = 256  # numbers missing, for symbols that come late
_MASK = 0xFFFFFFFF


class Sequence:
    """`seen`: the newest number believed, -1 before the first. Counts into `counters`: symbols, lost, reordered."""

    def __init__(self, counters: ReceiverCounters) -> None:
        self.seen = -1
        self.leapt = 0  # of those counted as lost: numbers that no symbol within TRUSTED stands for
        self.is_misled = False  # losses were counted that were none: before the latest BEAT or since
        self._has_turned = False  # back, since the latest BEAT
        self._audit = Audit()
        self._repeats = 0  # symbols that were neither new nor missing
        self._counters = counters
        self._missing: deque[tuple[int, int]] = deque(maxlen=RANGES_REMEMBERED)  # (first, last) of each gap
        self._elsewhere = -1  # where the stream may have gone
        self._votes = 0

    def follows(self, tx_seq: int) -> bool:
        """Whether this number is believed as it is and is newer than all seen."""
        return self.seen < 0 or 0 < (tx_seq - self.seen) & _MASK <= TRUSTED

    def count(self, tx_seq: int, count: int) -> bool:
        """Take in `count` neighbours, the first of them `tx_seq`. False: they are late, or not believed yet."""
        self._counters.symbols += count
        last = (tx_seq + count - 1) & _MASK
        ahead = (last - self.seen) & _MASK
        if ahead == count or self.seen < 0:
            self.seen = last
        elif 0 < ahead <= TRUSTED + count:
            self._lose(ahead - count)
            self.seen = last
        else:
            behind = (self.seen - last) & _MASK
            self._take_late(tx_seq, count)
            return behind <= TRUSTED or self._is_confirmed(last, count, ahead)
        if self._votes:
            self._votes = max(self._votes - count, 0)
        return True

    def believe(self, tx_seq: int, is_end: bool) -> bool:
        """A BEAT says that `tx_seq` was the latest number sent, and `is_end` that nothing follows. False: it is late."""
        is_newest = self._follow(tx_seq, is_end)
        excess = self._audit.excess(tx_seq, self._counters.symbols - self._repeats, self._counters.lost)
        self.is_misled, self._has_turned = excess > 0 or self._has_turned, False
        if excess:
            self._counters.lost -= excess
            self._missing.clear()
            self.leapt = 0
        return is_newest

    def _follow(self, tx_seq: int, is_end: bool) -> bool:
        if self.seen < 0:
            self.seen = tx_seq
            return True
        ahead = (tx_seq - self.seen) & _MASK
        if ahead <= _MASK >> 1:
            if ahead:
                self._lose(ahead)
            self.seen = tx_seq
            return True
        if is_end or _MASK + 1 - ahead > MAX_LATE:
            self._turn_back(tx_seq)  # the sender has not been as far as we thought
        return False

    def _is_confirmed(self, last: int, count: int, ahead: int) -> bool:
        """Weigh symbols far from the newest against those on time. True: the stream is there now."""
        is_near = self._elsewhere >= 0 and 0 < (last - self._elsewhere) & _MASK <= TRUSTED + count
        if is_near:
            self._votes += count
            self._elsewhere = last
        elif self._votes > count:
            self._votes -= count
        else:
            self._elsewhere, self._votes = last, count
        is_ahead = ahead <= _MASK >> 1
        if self._votes < (2 if is_ahead else VOTES_BACK):
            return False
        if is_ahead:
            self._lose(ahead - self._votes)
            self.seen = last
        else:
            self._turn_back(last)
        self._elsewhere, self._votes = -1, 0
        return True

    def _lose(self, lost: int) -> None:
        """So many numbers behind `seen` were passed over."""
        if 0 < lost < MAX_LEAP:
            self._counters.lost += lost
            self.leapt += max(lost - TRUSTED, 0)
            self._missing.append(((self.seen + 1) & _MASK, (self.seen + lost) & _MASK))

    def _turn_back(self, seen: int) -> None:
        """What was counted as lost beyond `seen` has never been sent."""
        while self._missing and (self._missing[-1][0] - seen - 1) & _MASK <= _MASK >> 1:
            lost = _size(*self._missing.pop())
            self.is_misled = self._has_turned = True
            self._counters.lost -= lost
            self.leapt -= max(lost - TRUSTED, 0)
        self.seen = seen

    def _take_late(self, tx_seq: int, count: int) -> None:
        """If these were counted as lost, they are not: they were reordered. Else they are duplicates."""
        for index in range(len(self._missing) - 1, -1, -1):
            first, last = self._missing[index]
            if (tx_seq - first) & _MASK <= (last - first) & _MASK:
                end = (tx_seq + min(count, _size(tx_seq, last)) - 1) & _MASK
                self._counters.lost -= _size(tx_seq, end)
                self._counters.reordered += _size(tx_seq, end)
                self._cut(index, tx_seq, end)
                return
        self._repeats += count

    def _cut(self, index: int, begin: int, end: int) -> None:
        """Take `begin` .. `end` out of a range of missing numbers."""
        first, last = self._missing[index]
        del self._missing[index]
        pieces = [(first, (begin - 1) & _MASK)] if begin != first else []
        pieces += [((end + 1) & _MASK, last)] if end != last else []
        self.leapt -= max(_size(first, last) - TRUSTED, 0)
        for piece in reversed(pieces[: RANGES_REMEMBERED - len(self._missing)]):
            self._missing.insert(index, piece)
            self.leapt += max(_size(*piece) - TRUSTED, 0)


def _size(first: int, last: int) -> int:
    """How many numbers from first to last, both of them included."""
    return ((last - first) & _MASK) + 1
