# SPDX-License-Identifier: Apache-2.0
"""What other reliable multicast does over the same channel: symbols sent and packets that come back to the sender.

Each is its repair and its feedback and nothing else: no congestion control, no waiting for the slowest, no disk, the
same 1408-byte symbols for all, and answers that are never lost. Where a real program would wait for answers, its rate of
feedback here is what it would need to keep the line full. None adapts over time, so that a part of the file says it all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from tests.sim.channel import Channel, Losses, Numbers, Reals
from tests.sim.vector import Outcome, truncated_exponential

BLOCK = 128  # symbols, of the plain NACK scheme
SLICE = 1024  # blocks, of udpcast: its largest, and its fastest in our runs
SECTION = 8 * 1408  # blocks, of UFTP: as many as one STATUS has bits for
NORM_K = 64  # of NORM's default
NORM_BACKOFF_S = 4 * 0.010  # K = 4 (RFC 5740) and the group's round trip as hosts with some load have it
NORM_HEARD_S = 0.001  # from one receiver's NACK to all others
WDS_NACK = 83  # symbols at 1 Gbit/s in 1 ms, its first back-off

Scheme = Callable[[Channel, int], Outcome]
Answers = Callable[[Losses, int], int]  # (what is lacking, number of the round) -> packets to the sender


def originals(channel: Channel, symbols: int) -> Outcome:
    """Plain NACK: each receiver asks once for each block of 128 consecutive symbols with a loss in it, in each round; what
    anybody lacks is sent again to all, itself. No suppression."""
    return _retransmit("originals, NACK", channel, symbols, 32 * BLOCK, lambda lost, _: _pairs(lost, BLOCK))


def udpcast(channel: Channel, symbols: int) -> Outcome:
    """udpcast: slices of 1024 blocks; the sender asks (REQACK) and every receiver answers OK or a bitmap; the union of the
    bitmaps is sent again, and those who were not ready answer again. Left out: the growth of slices, its wait for all."""
    return _retransmit(
        "udpcast-like",
        channel,
        symbols,
        SLICE,
        lambda lost, number: channel.receivers if number == 0 else len(np.unique(lost[0])),
    )


def uftp(channel: Channel, symbols: int) -> Outcome:
    """UFTP: a STATUS bitmap for each section of 11264 blocks from each client that lacks something there; what anybody
    lacks comes in the next pass. Left out: group members that proxies speak for, the wait at the end of a pass."""
    return _retransmit("UFTP-like", channel, symbols, SECTION, lambda lost, _: len(np.unique(lost[0])))


def wds(channel: Channel, symbols: int) -> Outcome:
    """WDS: the master client acknowledges each packet; the others send NACKs of ranges, as much as they lost in 1 ms in
    one, and nobody holds back for another's. Left out: its limit of 200 clients, thinned acknowledgements, demotion."""
    outcome = _retransmit("WDS-like", channel, symbols, 32 * BLOCK, lambda lost, _: _pairs(lost, WDS_NACK))
    outcome.feedback += outcome.sent
    return outcome


def _pairs(lost: Losses, block: int) -> int:
    """How many (receiver, block) there are with something lost."""
    receivers, positions = lost
    return len(np.unique(receivers << 32 | positions // block))


def _retransmit(scheme: str, channel: Channel, symbols: int, unit: int, answers: Answers) -> Outcome:
    """The file in units, each sent again in rounds until nobody lacks a symbol of it."""
    outcome = Outcome(scheme, channel.receivers)
    while outcome.symbols < symbols:
        outcome.symbols += unit
        outcome.sent += unit
        outcome.units += 1
        lost = channel.lose(unit)
        for number in count():
            outcome.feedback += answers(lost, number)
            if not len(lost[0]):
                break
            outcome.rounds += 1
            again = np.unique(lost[1])
            outcome.sent += len(again)
            lost = _still_lost(lost, again, channel.lose(len(again)))
    return outcome


def _still_lost(lost: Losses, again: Numbers, lost_again: Losses) -> Losses:
    """Those who lacked a symbol, and lost it again now that the symbols `again` came."""
    before = lost[0] << 32 | lost[1]
    now = lost_again[0] << 32 | again[lost_again[1]]
    both = np.intersect1d(before, now, assume_unique=True)
    return both >> 32, both & 0xFFFFFFFF


def norm(channel: Channel, symbols: int) -> Outcome:
    """NORM: Reed-Solomon over 64 consecutive symbols, parity on demand; NACKs after a truncated exponential back-off, held
    back by whoever heard at least as much asked for. Favoured: all 191 parity symbols of the 8 bit code, where it has 8 by
    default; rounds of 4096 symbols. Left out: its acknowledgements and congestion control."""
    outcome, blocks = Outcome("NORM-like, k=64", channel.receivers), 64
    rng = np.random.default_rng(channel.receivers)
    while outcome.symbols < symbols:
        outcome.symbols += blocks * NORM_K
        outcome.sent += blocks * NORM_K
        outcome.units += 1
        lacking = _per_block(channel, np.full(blocks, NORM_K))
        while len(members := np.flatnonzero(lacking.any(axis=1))):
            times = truncated_exponential(NORM_BACKOFF_S, channel.receivers, rng.random(len(members)))
            spoke = _speakers(lacking[members], times, NORM_HEARD_S)
            outcome.feedback += len(spoke)
            outcome.rounds += 1
            repairs = lacking[members[spoke]].max(axis=0)
            outcome.sent += int(repairs.sum())
            lacking = np.maximum(lacking - repairs + _per_block(channel, repairs), 0)
    return outcome


def _per_block(channel: Channel, sizes: Numbers) -> Numbers:
    """What each receiver loses of each of so many blocks, sent one after the other: int[receivers, blocks]."""
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    receivers, positions = channel.lose(len(block_of))
    keys = receivers * len(sizes) + block_of[positions]
    return np.bincount(keys, minlength=channel.receivers * len(sizes)).reshape(channel.receivers, len(sizes))


def _speakers(lacking: Numbers, times: Reals, heard_s: float) -> list[int]:
    """Who asks, though it hears the others: those whose time comes before they heard at least as much asked for."""
    spoke: list[int] = []
    heard, known = 0, np.zeros(lacking.shape[1], np.int64)
    for i in map(int, np.argsort(times)):
        while heard < len(spoke) and times[spoke[heard]] + heard_s <= times[i]:
            known = np.maximum(known, lacking[spoke[heard]])
            heard += 1
        if (lacking[i] > known).any():
            spoke.append(i)
    return spoke
