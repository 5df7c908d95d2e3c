# SPDX-License-Identifier: Apache-2.0
"""Does a multicast session at full speed keep booting machines waiting? A PXE client asks, with a session and without.

    python -m bench.responsiveness [--seconds 20] [--receivers 2] [--asks-per-s 50] [--quick]

One daemon on one LAN of namespaces. The client, in a namespace of its own, sends a DISCOVER as a relay would and waits for
the OFFER, some hundred times; meanwhile the lag of the daemon's event loop is read from /metrics. First on an idle daemon,
then while receivers fetch an image again and again at unlimited rate. On a machine with fewer cores than processes the
client waits for its turn as well: its own figure without a session, on the same machine, is beside it. Needs root.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import print_facts, table
from bench.netns import Lan, missing
from bench.transfer_arena import Arena
from bench.transfer_netns import SHM
from bench.transfer_results import Mode
from bench.transfer_systems import DPD_TOML, Dpd
from bench.transfer_watch import Watch

from dpd.protocol.pxe.client import PxeClient

ANSWER_LIMIT_S = 2.0
METRICS = "127.0.0.1:9467"
LAGS = ("dpd_control_loop_lag_seconds", "dpd_http_loop_lag_seconds")  # PXE and TFTP; content and joins
MAX_ANSWER_P99_S = 0.020
MAX_LAG_P99_S = 0.010
SAMPLE_S = 0.25  # the loop measures itself twice a second


class BootingDpd(Dpd):
    """The daemon with network boot and metrics."""

    settings = DPD_TOML.replace("[pxe]\nenabled = false", "[pxe]\nenabled = true").replace(
        '[metrics]\nlisten = ""', f'[metrics]\nlisten = "{METRICS}"'
    )


@dataclass(frozen=True, slots=True)
class Sitting:
    """What the client and the metrics saw while one thing went on. Seconds."""

    name: str
    answers: list[float]
    unanswered: int
    lags: list[float]
    sent_gbit_s: float


class Client:
    """One booting machine after the other, from one socket."""

    def __init__(self, lan: Lan) -> None:
        host = lan["client"]
        self._relay = host.address
        with host.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host.address, 0))
        self._socket.connect((lan["server"].address, 67))
        self._socket.settimeout(ANSWER_LIMIT_S)

    def ask(self, number: int) -> float | None:
        """Seconds from the DISCOVER to its OFFER; None where none came."""
        client = PxeClient(f"52:54:00:99:{number >> 8 & 255:02x}:{number & 255:02x}", relay=self._relay)
        asked = time.perf_counter()
        self._socket.send(client.discover(number))
        try:
            while client.read(self._socket.recv(2048), number) is None:
                continue
        except TimeoutError:
            return None
        return time.perf_counter() - asked

    def close(self) -> None:
        self._socket.close()


def read_lag(lan: Lan) -> float:
    """How late the later of the daemon's event loops ran its last timer, from /metrics; seconds."""
    with lan["server"].inside():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{METRICS}/metrics", timeout=5) as page:
            lines = page.read().decode("utf-8").splitlines()
    return max(float(line.split()[-1]) for line in lines if line.startswith(LAGS))


@contextmanager
def in_background(act: Callable[[threading.Event], None]) -> Iterator[None]:
    """`act` goes on beside what is inside, until told by the event."""
    stop = threading.Event()
    thread = threading.Thread(target=act, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Bench:
    """The LAN, the daemon, and an image to keep a session busy with."""

    def __init__(self, lan: Lan, home: Path, options: argparse.Namespace) -> None:
        self._lan, self._options = lan, options
        self._arena = Arena(lan, home, start_delay_s=0.1)
        self._mode = Mode("whole", options.receivers)
        self._arena.arrange(self._mode)
        boot_files = home / "state"
        boot_files.mkdir()
        (boot_files / "ipxe.efi").write_bytes(bytes(4096))
        self._dpd = BootingDpd(self._arena.stage)
        self._image = self._arena.image(options.size_mib)
        self._dpd.prepare(self._mode, self._image)
        self._client = Client(lan)

    def close(self) -> None:
        self._client.close()
        self._arena.stage.wire.close()

    def sit(self, name: str) -> Sitting:
        """Ask for the given time, whatever else goes on."""
        answers: list[float] = []
        lags: list[float] = []
        unanswered, number = 0, 1
        wire, began = self._arena.stage.wire, time.monotonic()
        sent = wire.sent_bytes()
        sample_at = began
        while (now := time.monotonic()) - began < self._options.seconds:
            answer = self._client.ask(number)
            number += 1
            if answer is None:
                unanswered += 1
            else:
                answers.append(answer)
            if now >= sample_at:
                lags.append(read_lag(self._lan))
                sample_at = now + SAMPLE_S
            time.sleep(max(0.0, now + 1 / self._options.asks_per_s - time.monotonic()))
        seconds = time.monotonic() - began
        return Sitting(name, answers, unanswered, lags, (wire.sent_bytes() - sent) * 8e-9 / seconds)

    def transfer_again_and_again(self, stop: threading.Event) -> None:
        """One transfer to all receivers after the other."""
        while not stop.is_set():
            outputs = self._arena.outputs(self._image, self._options.receivers)
            Watch(self._dpd.launch(self._mode, self._image, outputs), self._arena.stage.wire, 60).finish()


def quantile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def row(sitting: Sitting) -> dict[str, str]:
    """One line of the table; times in ms."""

    def ms(samples: Sequence[float], share: float) -> str:
        return f"{quantile(samples, share) * 1000:.2f}"

    return {
        "meanwhile": sitting.name,
        "Gbit/s sent": f"{sitting.sent_gbit_s:.2f}",
        "OFFERs": str(len(sitting.answers)),
        "unanswered": str(sitting.unanswered),
        "p50 ms": ms(sitting.answers, 0.5),
        "p99 ms": ms(sitting.answers, 0.99),
        "longest ms": ms(sitting.answers, 1.0),
        "loop lag p50 ms": ms(sitting.lags, 0.5),
        "p99 ms ": ms(sitting.lags, 0.99),
        "longest ms ": ms(sitting.lags, 1.0),
    }


def verdicts(sitting: Sitting) -> Iterator[str]:
    """The targets, for the sitting with a session."""
    answer, lag = quantile(sitting.answers, 0.99), quantile(sitting.lags, 0.99)
    for what, found, most in (
        ("OFFER p99", answer, MAX_ANSWER_P99_S),
        ("event-loop lag p99", lag, MAX_LAG_P99_S),
    ):
        verdict = "met   " if found <= most else "MISSED"
        yield f"{verdict}  {sitting.name}: {what} {found * 1000:.1f} ms, at most {most * 1000:.0f} ms"


def measure(options: argparse.Namespace) -> list[Sitting]:
    """Idle, then with the session."""
    names = ["server", "client", *(f"r{i}" for i in range(options.receivers))]
    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="dpd-bench-") as directory,
        Lan(*names, checksum_offload=True) as lan,
    ):
        bench = Bench(lan, Path(directory), options)
        try:
            idle = bench.sit("nothing else")
            with in_background(bench.transfer_again_and_again):
                time.sleep(1.0)
                busy = bench.sit(f"a session to {options.receivers}")
            return [idle, busy]
        finally:
            bench.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--receivers", type=int, default=2)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--asks-per-s", type=float, default=50)
    parser.add_argument("--quick", action="store_true", help="5 seconds each")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 5
    absent = missing("nft", "curl", "cc")
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    sittings = measure(options)
    print("\n" + table([row(sitting) for sitting in sittings]))
    print("", *verdicts(sittings[-1]), sep="\n")
    return int(any(sitting.unanswered for sitting in sittings))


if __name__ == "__main__":
    sys.exit(main())
