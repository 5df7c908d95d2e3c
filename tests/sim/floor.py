# SPDX-License-Identifier: Apache-2.0
"""What repair must send at the least, by formula: independent loss at each of N receivers, perfect feedback."""

from __future__ import annotations

import math

from dpd.protocol.multicast.geometry import ROWS


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
