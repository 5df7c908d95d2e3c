# SPDX-License-Identifier: Apache-2.0
"""Do some receivers hold up the others? Eight on one line: one is stopped for 5 s, one writes 20 MB/s, one is killed.

    python -m bench.stall_netns [--line 300] [--size-mib 256] [--runs 3] [--quick]

Each round sends the file twice: to the five others alone, then to all eight with the disturbances. The result is the time
of the last of the five beside their time alone, and whether the stopped and the slow one complete. The line is slower than
the processors, so that eight receivers cost the five no more than a real network would. Needs root.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.machine import print_facts, spread, table
from bench.netns import Host, Lan, missing
from bench.transfer_arena import Arena
from bench.transfer_netns import SHM
from bench.transfer_results import Mode
from bench.transfer_systems import Dpd, package_of
from bench.transfer_watch import Process, Race, Watch

OTHERS = 5
STOPPED, SLOW, KILLED = 5, 6, 7  # receivers by number
STOP_S = 5.0
SLOW_BYTES_S = 20e6
LIMIT_S = 120.0
MAX_RATIO = 1.10


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds until the last of the five was done, alone and beside the disturbed; and those that failed and should not."""

    alone_s: float
    disturbed_s: float
    stopped_s: float
    slow_s: float
    failed: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.disturbed_s / self.alone_s


class Stage:
    """The LAN with its distribution point and one image."""

    def __init__(self, arena: Arena, size_mib: int, line_mbit_s: float) -> None:
        self._arena = arena
        self._mode = Mode("wire", OTHERS + 3, 0.0, line_mbit_s)
        self._pass_s = size_mib * (8 << 20) / (line_mbit_s * 1e6)
        self._image = arena.image(size_mib)
        self._dpd = Dpd(arena.stage)
        arena.arrange(self._mode)
        self._dpd.prepare(self._mode, self._image)

    def play(self) -> Round:
        """One round."""
        alone, failed_alone = self._send(OTHERS)
        disturbed, failed = self._send(OTHERS + 3)
        return Round(
            alone_s=max(alone[:OTHERS]),
            disturbed_s=max(disturbed[:OTHERS]),
            stopped_s=disturbed[STOPPED],
            slow_s=disturbed[SLOW],
            failed=tuple(f"r{i} alone" for i in failed_alone) + tuple(f"r{i}" for i in failed if i != KILLED),
        )

    def _send(self, count: int) -> tuple[tuple[float, ...], list[int]]:
        """When each of the first `count` receivers ended, and the numbers of those whose file is not the image."""
        outputs = self._arena.outputs(self._image, count)
        race = self._dpd.launch(self._mode, self._image, outputs[:SLOW])
        hosts = self._arena.stage.receivers(count)
        if count > SLOW:
            race.receivers.extend(
                [self._receive_slowly(hosts[SLOW], outputs[SLOW]), self._receive(hosts[KILLED], outputs)]
            )
        with self._disturbing(race):
            finish = Watch(race, self._arena.stage.wire, LIMIT_S).finish()
        return finish.ended_s, [i for i, path in enumerate(outputs) if not self._arena.is_equal(path, self._image)]

    def _receive(self, host: Host, outputs: list[Path]) -> Process:
        return self._dpd.receive(host, outputs[KILLED], package_of(self._image))

    def _receive_slowly(self, host: Host, output: Path) -> Process:
        command = (sys.executable, "-m", "bench.slow_disk", str(SLOW_BYTES_S))
        return self._dpd.receive(host, output, package_of(self._image), command)

    @contextmanager
    def _disturbing(self, race: Race) -> Iterator[None]:
        """At a quarter of the pass one is stopped, at a third one is killed."""
        timers = []
        if len(race.receivers) > STOPPED:
            stopped, killed = race.receivers[STOPPED].pid, race.receivers[KILLED].pid
            timers = [
                threading.Timer(self._pass_s / 4, _signal, (stopped, signal.SIGSTOP)),
                threading.Timer(self._pass_s / 4 + STOP_S, _signal, (stopped, signal.SIGCONT)),
                threading.Timer(self._pass_s / 3, _signal, (killed, signal.SIGKILL)),
            ]
        for timer in timers:
            timer.start()
        try:
            yield
        finally:
            for timer in timers:
                timer.join()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def play(options: argparse.Namespace) -> list[Round]:
    """All rounds on one LAN."""
    names = [f"r{i}" for i in range(OTHERS + 3)]
    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="dpd-bench-") as directory,
        Lan("server", *names, checksum_offload=True) as lan,
    ):
        arena = Arena(lan, Path(directory), start_delay_s=0.5)
        stage = Stage(arena, options.size_mib, options.line)
        rounds = []
        for _ in range(options.runs):
            rounds.append(stage.play())
            print(f"# {rounds[-1]}", file=sys.stderr, flush=True)
        arena.stage.wire.close()
    return rounds


def report(rounds: list[Round]) -> int:
    """The table and the verdict; 1 where a receiver failed that should not."""
    ratio = spread(each.ratio for each in rounds)
    failed = sorted({name for each in rounds for name in each.failed})
    row = {
        "the five alone, s": spread(each.alone_s for each in rounds),
        "beside the three, s": spread(each.disturbed_s for each in rounds),
        "ratio": ratio,
        "stopped 5 s, s": spread(each.stopped_s for each in rounds),
        "20 MB/s, s": spread(each.slow_s for each in rounds),
        "failed": " ".join(failed) or "none",
    }
    print(table([row]))
    verdict = "met   " if ratio.median <= MAX_RATIO else "MISSED"
    print(f"\n{verdict}  the five beside the three ÷ alone: {ratio.median:.2f}, at most {MAX_RATIO:.2f}")
    return int(bool(failed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", type=float, default=300, metavar="MBIT")
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    if options.quick:
        options.runs = 1
    absent = missing("nft", "tc", "curl", "cc")
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    return report(play(options))


if __name__ == "__main__":
    sys.exit(main())
