# SPDX-License-Identifier: Apache-2.0
"""Whether a BEAT or a CONTROL is the sender's, and a BEAT not an old one said again.

A replayed BEAT would turn a receiver back: to an old position, an old group size, a sender that has long gone. So each
must be at least as young as the newest believed. The sender's clock wraps after 71 minutes; which turn of it is meant
follows from the time that has passed here, so only half a turn of silence, 35 minutes, makes the order unknown. An order
in a CONTROL names its members by ids that no later join gets again, and END is final: neither need be new.
"""

from __future__ import annotations

from collections.abc import Callable

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.message import SIGNATURE_BYTES, Beat, Control

_TURN_US = 1 << 32

Verify = Callable[[bytes, bytes], bool]  # what was signed, and its signature


class Authenticity:
    """`verify` None: no signature is asked for, old BEATs are still refused."""

    def __init__(self, verify: Verify | None) -> None:
        self._verify = verify
        self._newest: int | None = None
        self._newest_at = 0.0

    def refusal(self, message: Beat | Control, datagram: Buffer, now: float) -> str | None:
        """Why not to believe it, "replayed" or "forged"; None: it is the sender's."""
        is_beat = isinstance(message, Beat)
        tx_time = message.header.tx_time
        if is_beat and self._is_older(tx_time, now):  # first, since it costs nothing
            return "replayed"
        if self._verify is not None:
            body = bytes(datagram)
            if not self._verify(body[:-SIGNATURE_BYTES], body[-SIGNATURE_BYTES:]):
                return "forged"
        if is_beat:
            self._newest, self._newest_at = tx_time, now
        return None

    def _is_older(self, tx_time: int, now: float) -> bool:
        if self._newest is None:
            return False
        passed_us = int((now - self._newest_at) * 1e6)
        # How far the sender's clock has gone on: the one of all possible numbers that is next to what has passed here.
        difference = (tx_time - self._newest - passed_us + _TURN_US // 2) % _TURN_US - _TURN_US // 2
        return passed_us + difference < 0
