# SPDX-License-Identifier: Apache-2.0
"""The place of a comparison: the LAN set as a lab, the files, and one measured transfer."""

from __future__ import annotations

import os
import random
import sys
from dataclasses import replace
from pathlib import Path

from bench.netns import DEVICE, Lan
from bench.pump import Flow, Pump
from bench.transfer_results import Mode, Run
from bench.transfer_systems import Stage, System
from bench.transfer_watch import Watch, Wire, cpu_s, softirq_s, wait_for_quiet

LIMIT_S = 30.0  # udpcast hangs now and then where there is loss
MIB = 1 << 20
SPLITTING = ("tx-udp-segmentation", "tso", "gso")


class Arena:
    """One sender and its receivers, the files, and the places where they are to arrive."""

    def __init__(
        self, lan: Lan, home: Path, *, start_delay_s: float, limit_s: float = LIMIT_S, waits_for_quiet: bool = True
    ) -> None:
        self._limit_s, self._waits_for_quiet = limit_s, waits_for_quiet
        self.stage = Stage(lan, home, Wire(lan), start_delay_s)
        self._lan, self._home = lan, home
        self._receivers = [name for name in lan.hosts if name.startswith("r")]
        self._pump = Pump(lan, home)
        self._flows: dict[Mode, Flow] = {}

    def image(self, mib: int) -> Path:
        """A file of this size that does not compress; smaller ones are the beginning of larger ones."""
        path = self._home / f"image-{mib}.bin"
        if not path.exists():
            with path.open("wb") as file:
                for number in range(mib):
                    file.write(_noise(number))
        return path

    def arrange(self, mode: Mode) -> None:
        """Set trains, loss, GRO and the line for all runs until the next call."""
        state = "on" if mode.lab == "whole" else "off"
        self._lan["server"].run("ethtool", "-K", DEVICE, *(word for name in SPLITTING for word in (name, state)))
        self._lan.send_unlimited("server")
        if mode.line_mbit_s:
            self._lan.limit_sending("server", mode.line_mbit_s)
        for name in self._receivers:
            self._lan.lose_nothing(name)
            if mode.loss_percent:
                self._lan.lose(name, mode.loss_percent / 100)
            self._lan.offload_receiving(name, on=mode.gro)

    def pump(self, mode: Mode) -> Run:
        """The lab's own limit, as if it were a transfer: without loss, which would hide what the receivers lose themselves."""
        lossless = replace(mode, loss_percent=0.0)
        if lossless not in self._flows:
            self.arrange(lossless)
            wait_for_quiet()
            self._flows[lossless] = self._pump.find_limit(self._receivers[: mode.receivers])
        flow = self._flows[lossless]
        return Run(
            mode=mode,
            system="pump",
            size_bytes=flow.received_bytes,
            seconds=flow.seconds,
            data_seconds=flow.seconds,
            sent_ratio=1.0,
            sender_cpu_s=flow.sender_cpu_s,
            receivers_cpu_s=flow.receivers_cpu_s,
            softirq_s=0.0,
            failed=0,
        )

    def run(self, mode: Mode, system: System, mib: int) -> Run:
        """One transfer, measured, and then each file compared."""
        image = self.image(mib)
        outputs = self.outputs(image, mode.receivers)
        system.prepare(mode, image)
        if self._waits_for_quiet:
            wait_for_quiet()
        wire = self.stage.wire
        sent, softirq, standing = wire.sent_bytes(), softirq_s(), cpu_s(system.sender_pids())
        race = system.launch(mode, image, outputs)
        finish = Watch(race, wire, self._limit_s + (_line_s(mode, mib) if mode.line_mbit_s else 0)).finish()
        sender = finish.sender_cpu_s + cpu_s(system.sender_pids()) - standing
        softirq, sent = softirq_s() - softirq, wire.sent_bytes() - sent
        arrived = race.arrivals or outputs
        wrong = {i for i, path in enumerate(arrived) if not self.is_equal(path, image)}
        for path in race.arrivals:
            path.unlink(missing_ok=True)
        run = Run(
            mode=mode,
            system=system.name,
            size_bytes=image.stat().st_size,
            seconds=finish.seconds,
            data_seconds=finish.data_seconds,
            sent_ratio=sent / image.stat().st_size,
            sender_cpu_s=sender,
            receivers_cpu_s=finish.receivers_cpu_s,
            softirq_s=softirq,
            failed=len(finish.failed | wrong),
        )
        if run.failed:
            self._tell_failure(run)
        return run

    def _tell_failure(self, run: Run) -> None:
        """The last lines of every log, while they are there."""
        print(f"FAILED  {run}", file=sys.stderr)
        for log in sorted(self._home.glob("*.log")):
            for line in log.read_text(errors="replace").splitlines()[-3:]:
                print(f"    {log.name}: {line[:300]}", file=sys.stderr)

    def outputs(self, image: Path, count: int) -> list[Path]:
        """Files for the first receivers: each exists in touched pages, as long as the image, and holds nothing of an earlier run."""
        outputs = [self._home / f"received{i}" for i in range(count)]
        blank, size = bytes(MIB), image.stat().st_size
        for output in outputs:
            for suffix in (".part", ".journal"):
                Path(f"{output}{suffix}").unlink(missing_ok=True)
            with open(os.open(output, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                for _ in range(size // MIB):
                    file.write(blank)
                file.truncate()
        return outputs

    def is_equal(self, path: Path, image: Path) -> bool:
        """Whether the file is there and is the image, byte by byte, at the speed of memory."""
        if not path.exists() or path.stat().st_size != image.stat().st_size:
            return False
        with path.open("rb") as ours, image.open("rb") as theirs:
            while piece := ours.read(MIB):
                if piece != theirs.read(MIB):
                    return False
        return True


def _line_s(mode: Mode, mib: int) -> float:
    """What unicast to all receivers takes on the line."""
    return 2 * mode.receivers * mib * MIB * 8 / (mode.line_mbit_s * 1e6)


def _noise(number: int) -> bytes:
    """The n-th MiB of every image."""
    return random.Random(number).randbytes(MIB)
