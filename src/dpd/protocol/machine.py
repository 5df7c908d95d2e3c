# SPDX-License-Identifier: Apache-2.0
"""The shape that every protocol machine shares.

A machine is pure: bytes and time go in, datagrams, facts and requests come out. It never reads a clock, a socket or
a disk. Its owner calls, after every input:

    while transmit := machine.poll_transmit(now): send(transmit)
    while event := machine.next_event(): ...
    sleep until machine.next_timeout() or the next datagram

`now` is monotonic seconds. A *fact* (Completed, PeerAborted, Ignored) is handled inline and in order. A *request*
(ExtentNeeded, DecodeNeeded, VerifyNeeded) goes to a worker and is answered by one of the machine's `provide_*` verbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as it arrived. `local` is the address it was sent to, `interface` the kernel's index (0: unknown).

    `answer_from` is our own address to answer with: `local`, or for a broadcast the one the kernel has on that interface.
    """

    payload: bytes
    source: Address
    local: str = ""
    interface: int = 0
    answer_from: str = ""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Datagrams to one peer. `pieces` are gathered in order; with `segment_size` > 0 the gathered bytes are a train:
    equal datagrams of that size, the last one perhaps shorter, for one system call by UDP_SEGMENT."""

    pieces: Sequence[Buffer]
    destination: Address
    segment_size: int = 0


class Machine(Protocol):
    """The verbs. `next_event` returns None when there is nothing more to tell."""

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None: ...

    def handle_timeout(self, now: float) -> None: ...

    def poll_transmit(self, now: float) -> Transmit | None: ...

    def next_event(self) -> object | None: ...

    def next_timeout(self) -> float | None: ...
