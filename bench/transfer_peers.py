# SPDX-License-Identifier: Apache-2.0
"""The multicast peers of `transfer_netns`, each with the options that were fastest of those tried; see bench/README.md."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bench.compiler import compile_program
from bench.machine import version_of
from bench.netns import DEVICE
from bench.transfer_results import Mode
from bench.transfer_systems import Stage, start_into, start_logged
from bench.transfer_watch import Race, Watch

UDPCAST_LINGER_S = 0.5  # udp-receiver stays this long after its file is complete; not counted
READY_S = 0.3  # for standing receivers to listen; not counted
NORM_TRIAL_BYTES = 32 << 20  # more than sockets hold: a rate that is too high has to show
NORM_TRIAL_LIMIT_S = 10.0
NORM_TRIALS = (0.4, 0.6, 0.8, 1.1)  # of what two cores carried in single datagrams to N receivers together
NORM_BIT_S = 1.6e9
SHARE_OF_LINE = 0.95  # for those who have to be told a rate


class Udpcast:
    """udp-sender and udp-receiver."""

    name = "udpcast"
    programs: tuple[str, ...] = ("udp-sender", "udp-receiver")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def version(self) -> str:
        return _package_version("udpcast")

    def sender_pids(self) -> list[int]:
        return []

    def prepare(self, mode: Mode, image: Path) -> None:
        """It fits itself to the network."""

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race:
        common = ("--interface", DEVICE, "--nokbd", "--no-progress", "--start-timeout", "30")
        send = ("--file", image, "--full-duplex", "--slice-size", "1024", "--rexmit-hello-interval", "100")
        group = ("--min-receivers", str(len(outputs)), "--max-wait", "10")
        receive = ("--rcvbuf", "8388608", "--exit-wait", "500", "--receive-timeout", "20", "--nosync")
        hosts = self._stage.receivers(len(outputs))
        started = time.monotonic()
        log = self._stage.home / "udp-sender.log"
        sender = start_logged(self._stage.lan["server"], log, "udp-sender", *common, *send, *group)
        receivers = [
            start_into(host, output, "udp-receiver", *common, *receive)
            for host, output in zip(hosts, outputs, strict=True)
        ]
        return Race(started, receivers, [sender], UDPCAST_LINGER_S)


class Uftp:
    """uftp, and one uftpd for each receiver, which stand ready before the clock starts."""

    name = "uftp"
    programs: tuple[str, ...] = ("uftp", "uftpd")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def version(self) -> str:
        return _package_version("uftp")

    def sender_pids(self) -> list[int]:
        return []

    def prepare(self, mode: Mode, image: Path) -> None:
        """It is told the rate of a line, and else sends as fast as its device takes it."""

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race:
        hosts = self._stage.receivers(len(outputs))
        folders = [_fresh_folder(output, "uftp") for output in outputs]
        receive = ("-d", "-q", "-t", "-I", DEVICE, "-B", "8388608", "-c", "1048576", "-x", "1")
        receivers = [
            start_logged(host, Path(f"{output}.log"), "uftpd", *receive, "-D", folder)
            for host, output, folder in zip(hosts, outputs, folders, strict=True)
        ]
        time.sleep(READY_S)
        names = ",".join(f"0x{_number(host.address):08X}" for host in hosts)
        rate = (
            f"{SHARE_OF_LINE * mode.line_mbit_s * 1000:.0f}" if mode.line_mbit_s else "-1"
        )  # kbit/s; as fast as it can
        send = ("-R", rate, "-b", "1440", "-B", "8388608", "-Y", "none", "-C", "none", "-I", DEVICE)
        timing = ("-r", "0.05:0.01:1.0", "-s", "20", "-x", "2", "-D", "image", "-H", names)
        started = time.monotonic()
        log = self._stage.home / "uftp.log"
        sender = start_logged(self._stage.lan["server"], log, "uftp", *send, *timing, image)
        return Race(started, receivers, [sender], arrivals=[folder / "image" for folder in folders])


class Norm:
    """NORM by bench/norm_peer.cc. It needs a rate that fits; `prepare` finds the best of four by sending a small file."""

    name = "norm"
    programs: tuple[str, ...] = ("c++",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._program = compile_program("norm_peer.cc", stage.home, "norm")
        self._bit_s: dict[Mode, float] = {}

    def version(self) -> str:
        return _package_version("libnorm-dev")

    def sender_pids(self) -> list[int]:
        return []

    def prepare(self, mode: Mode, image: Path) -> None:
        if mode in self._bit_s:
            return
        if mode.line_mbit_s:
            self._bit_s[mode] = SHARE_OF_LINE * mode.line_mbit_s * 1e6
            return
        trial = self._stage.home / "norm-trial"
        with image.open("rb") as source:
            trial.write_bytes(source.read(NORM_TRIAL_BYTES))
        rates = [share * NORM_BIT_S / mode.receivers for share in NORM_TRIALS]
        self._bit_s[mode] = min(rates, key=lambda rate: self._try(mode, trial, rate))
        trial.unlink()

    def _try(self, mode: Mode, trial: Path, bit_s: float) -> float:
        """Seconds that the small file takes at this rate."""
        outputs = [self._stage.home / f"norm-trial{i}" for i in range(mode.receivers)]
        self._bit_s[mode] = bit_s
        finish = Watch(self.launch(mode, trial, outputs), self._stage.wire, NORM_TRIAL_LIMIT_S).finish()
        for output in outputs:
            shutil.rmtree(f"{output}.norm")
        return NORM_TRIAL_LIMIT_S if finish.failed else finish.seconds

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race:
        hosts = self._stage.receivers(len(outputs))
        folders = [_fresh_folder(output, "norm") for output in outputs]
        nodes = [str(_number(host.address) & 0xFFFF) for host in hosts]
        receivers = [
            start_logged(host, Path(f"{folder}.log"), self._program, "recv", DEVICE, folder / "image", node)
            for host, folder, node in zip(hosts, folders, nodes, strict=True)
        ]
        time.sleep(READY_S)
        parity = "0" if not mode.loss_percent else "4" if mode.loss_percent <= 2 else "8"
        started = time.monotonic()
        command: tuple[str | Path, ...] = (
            self._program,
            "send",
            DEVICE,
            image,
            f"{self._bit_s[mode]:.0f}",
            parity,
            *nodes,
        )
        sender = start_logged(self._stage.lan["server"], self._stage.home / "norm.log", *command)
        return Race(started, receivers, [sender], arrivals=[folder / "image" for folder in folders])


def _fresh_folder(output: Path, name: str) -> Path:
    """An empty folder for a receiver that makes its file itself."""
    folder = Path(f"{output}.{name}")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "image.norm").mkdir(parents=True)
    return folder


def _number(address: str) -> int:
    return int.from_bytes(bytes(map(int, address.split("."))), "big")


def _package_version(package: str) -> str:
    return version_of("dpkg-query", "-W", "-f", "${Version}", package)
