# SPDX-License-Identifier: Apache-2.0
"""What the lab itself can carry: bench/pump.c at the highest rate at which the worst receiver loses less than 0.1 %.

No protocol, no disk, no look at the content: trains by UDP_SEGMENT, taken in by UDP_GRO and recvmmsg. A bench that says how
near a protocol comes to this says what the protocol costs, whatever the machine is.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.compiler import compile_program
from bench.netns import Lan

GROUP, PORT = "239.192.77.2", "6004"
PAYLOAD_BYTES = 1436  # a datagram of dpd
SEGMENTS = 45  # the most that fit 64 KiB
MAX_LOSS = 0.001
STEP_S = 1.0
STEPS = 7
DRAIN_S = 0.05  # with nothing coming any more, a flow is over


@dataclass(frozen=True, slots=True)
class Flow:
    """What one burst of pumping did. `bit_s` is at the worst receiver, from the first send to its last receipt."""

    bit_s: float
    offered_bit_s: float
    loss: float
    seconds: float
    received_bytes: int
    sender_cpu_s: float
    receivers_cpu_s: float


class Pump:
    """The pump on one LAN, to any of its receivers."""

    def __init__(self, lan: Lan, folder: Path) -> None:
        self._lan = lan
        self._program = compile_program("pump.c", folder)

    def find_limit(self, names: list[str]) -> Flow:
        """The fastest paced flow that all of these receivers keep up with."""
        receivers = [self._start(name) for name in names]
        try:
            self._pump(receivers, 0.0, STEP_S / 4)  # the switch learns, pages are touched
            best = free = self._pump(receivers, 0.0, STEP_S)
            low, high = free.bit_s / 2, free.offered_bit_s
            for _ in range(STEPS if free.loss >= MAX_LOSS else 0):
                middle = (low * high) ** 0.5
                flow = self._pump(receivers, middle, STEP_S)
                if flow.loss < MAX_LOSS:
                    low, best = middle, flow if best is free or flow.bit_s > best.bit_s else best
                else:
                    high = middle
            return best if best.loss < MAX_LOSS else self._pump(receivers, low, STEP_S)
        finally:
            for receiver in receivers:
                receiver.kill()
                receiver.wait()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        host = self._lan[name]
        command = host.command(self._program, "recv", GROUP, PORT, host.address, str(PAYLOAD_BYTES))
        receiver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        host.processes.append(receiver)
        assert _read_line(receiver) == ["ready"]
        return receiver

    def _pump(self, receivers: list[subprocess.Popen[bytes]], bit_s: float, seconds: float) -> Flow:
        server = self._lan["server"]
        size = (str(PAYLOAD_BYTES), str(SEGMENTS), f"{bit_s:.0f}", str(seconds))
        sent, began, ended, cpu = map(
            float, server.run(self._program, "send", GROUP, PORT, server.address, *size).split()
        )
        told = [_drained(receiver) for receiver in receivers]
        worst = min(datagrams for datagrams, _, _ in told)
        taken_s = max(ended, *(last for _, last, _ in told)) - began
        return Flow(
            bit_s=worst * PAYLOAD_BYTES * 8 / taken_s,
            offered_bit_s=sent * PAYLOAD_BYTES * 8 / (ended - began),
            loss=1 - worst / sent,
            seconds=taken_s,
            received_bytes=int(worst) * PAYLOAD_BYTES,
            sender_cpu_s=cpu,
            receivers_cpu_s=sum(used for _, _, used in told),
        )


def _drained(receiver: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Datagrams, time of the last, CPU seconds: everything of one flow, whatever queue it was in."""
    total, last, cpu = 0.0, 0.0, 0.0
    while True:
        time.sleep(DRAIN_S)
        datagrams, at, used = _ask(receiver)
        cpu += used
        if not datagrams:
            return total, last, cpu
        total, last = total + datagrams, at


def _ask(receiver: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    assert receiver.stdin is not None
    receiver.stdin.write(b"\n")
    receiver.stdin.flush()
    datagrams, last, cpu = map(float, _read_line(receiver))
    return datagrams, last, cpu


def _read_line(receiver: subprocess.Popen[bytes]) -> list[str]:
    assert receiver.stdout is not None
    return receiver.stdout.readline().decode("ascii").split()
