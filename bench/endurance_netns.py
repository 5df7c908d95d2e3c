# SPDX-License-Identifier: Apache-2.0
"""A hundred transfers over lossy networks of changing size: not one may hang or fail. Exit code 1 where one does.

    python -m bench.endurance_netns [--runs 100] [--size-mib 16] [--seed 1] [--peer udpcast] [--quick]

Each run draws its number of receivers (4 to 8) and its loss (1 to 5 %, per datagram, for each receiver for itself) from the
seed, with trains cut at the sender's port; `--peer` sends the same file over the same network right after dpd. A run hangs
when a receiver is not done after `--limit` seconds. Every file is compared. Needs root.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import print_facts, table
from bench.netns import Lan, missing
from bench.transfer_arena import Arena
from bench.transfer_netns import RECEIVE_BUFFER_BYTES, SHM, SYSTEMS, receive_buffers_allowed
from bench.transfer_results import Mode, Run
from bench.transfer_systems import System

RECEIVERS = range(4, 9)
LOSS_PERCENT = (1, 2, 3, 4, 5)
SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One transfer, by its number in the series."""

    number: int
    run: Run


def draw_modes(runs: int, seed: int) -> Iterator[Mode]:
    """The same networks for everybody who starts with the same seed."""
    source = random.Random(seed)
    for _ in range(runs):
        yield Mode("wire", source.choice(RECEIVERS), float(source.choice(LOSS_PERCENT)))


def endure(options: argparse.Namespace) -> list[Attempt]:
    """All transfers, in order; each that fails is told at once, with what its receivers said last."""
    names = [system for system in ("dpd", options.peer) if system]
    attempts: list[Attempt] = []
    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="dpd-bench-") as directory,
        Lan("server", *(f"r{i}" for i in range(max(RECEIVERS))), checksum_offload=True) as lan,
        receive_buffers_allowed(RECEIVE_BUFFER_BYTES),
    ):
        arena = Arena(lan, Path(directory), start_delay_s=0.5, limit_s=options.limit, waits_for_quiet=False)
        systems: list[System] = [SYSTEMS[name](arena.stage) for name in names]
        for number, mode in enumerate(draw_modes(options.runs, options.seed)):
            arena.arrange(mode)
            for system in systems:
                attempts.append(Attempt(number, arena.run(mode, system, options.size_mib)))
                print(f"# {number}: {attempts[-1].run}", file=sys.stderr, flush=True)
        arena.stage.wire.close()
    return attempts


def summary(attempts: Sequence[Attempt]) -> Iterator[dict[str, str]]:
    """One row for each system: how often it failed, and how its times are spread."""
    for name in dict.fromkeys(attempt.run.system for attempt in attempts):
        runs = [attempt.run for attempt in attempts if attempt.run.system == name]
        good = sorted(run.seconds for run in runs if not run.failed)
        times = {f"p{share * 100:g} s": _quantile(good, share) for share in SHARES}
        sent = sorted(run.sent_ratio for run in runs if not run.failed)
        yield {
            "system": name,
            "runs": str(len(runs)),
            "failed runs": str(len(runs) - len(good)),
            "failed receivers": f"{sum(run.failed for run in runs)}/{sum(run.mode.receivers for run in runs)}",
            **times,
            "sent / size": _quantile(sent, 0.5),
            "at most": _quantile(sent, 1.0),
        }


def _quantile(ordered: Sequence[float], share: float) -> str:
    return f"{ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.3g}" if ordered else "-"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--size-mib", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run counts as hung")
    parser.add_argument("--peer", choices=[name for name in SYSTEMS if name != "dpd"], help="beside dpd, as many runs")
    parser.add_argument("--quick", action="store_true", help="10 runs")
    options = parser.parse_args()
    if options.quick:
        options.runs = 10
    return options


def main() -> int:
    options = parse_arguments()
    absent = missing("nft", "curl", "cc", *(SYSTEMS[options.peer].programs if options.peer else ()))
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    attempts = endure(options)
    print(f"\n{options.runs} runs of {options.size_mib} MiB, N = 4 to 8, loss 1 to 5 %, seed {options.seed}\n")
    print(table(list(summary(attempts))))
    return int(any(attempt.run.failed for attempt in attempts if attempt.run.system == "dpd"))


if __name__ == "__main__":
    sys.exit(main())
