# SPDX-License-Identifier: Apache-2.0
"""Records what firmware says when it boots from the network: python -m tests.interop.record_captures [NAME …], as root.

Each machine of CASES boots in QEMU beside dnsmasq and dpd, and what it sends by UDP goes into tests/data/captures/NAME.pcap:
every DHCP and DHCPv6 message, every TFTP request and the first packet of each transfer. See the README there.
"""

from __future__ import annotations

import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.guest import OVMF_CODE, OVMF_VARIABLES, Guest
from tests.interop.linux import IPXE_EFI

CAPTURES = Path(__file__).resolve().parent.parent / "data" / "captures"
AAVMF_CODE, AAVMF_VARIABLES = Path("/usr/share/AAVMF/AAVMF_CODE.fd"), Path("/usr/share/AAVMF/AAVMF_VARS.fd")
MARK = "DPD-CAPTURED"
SCRIPT = f"#!ipxe\necho {MARK}\nsleep 600\n"
BOOT_PORTS = {67, 68, 69, 546, 547, 4011}
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)  # microseconds, Ethernet
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, UDP = 3, 0x0800, 0x86DD, 17


@dataclass(frozen=True)
class Case:
    """One firmware, and when enough is recorded: `until` on its serial line, or after `limit_s`."""

    mac: str
    make: Callable[[Lan, str, Path], Guest]
    limit_s: float
    until: str = MARK


def flash(mac: str, directory: Path, code: Path, variables: Path) -> list[str]:
    """Firmware with a variable store of its own, and a virtio card without iPXE's ROM."""
    own = Path(shutil.copy(variables, directory / f"{mac.replace(':', '')}.fd"))
    unit = "if=pflash,format=raw,unit={},file={},readonly={}"
    card = f"virtio-net-pci,netdev=lan,mac={mac},bootindex=0,romfile="
    return ["-drive", unit.format(0, code, "on"), "-drive", unit.format(1, own, "off"), "-device", card]


def ovmf(*without: str) -> Callable[[Lan, str, Path], Guest]:
    """OVMF, with some boot methods switched off; what is left is tried in the order PXE 4, PXE 6, HTTP 4, HTTP 6."""
    switches = [word for name in without for word in ("-fw_cfg", f"name=opt/org.tianocore/{name},string=n")]
    return lambda lan, mac, where: Guest(
        lan, mac, "-M", "q35", *flash(mac, where, OVMF_CODE, OVMF_VARIABLES), *switches
    )


def aavmf(lan: Lan, mac: str, where: Path) -> Guest:
    """AAVMF on a Cortex-A57."""
    machine = ("-M", "virt", "-cpu", "cortex-a57")
    return Guest(lan, mac, *machine, *flash(mac, where, AAVMF_CODE, AAVMF_VARIABLES), program="qemu-system-aarch64")


CASES = {
    "seabios-ipxe-virtio": Case("52:54:00:c0:00:01", lambda lan, mac, _: Guest.bios(lan, mac), 60),
    "seabios-ipxe-e1000": Case("52:54:00:c0:00:02", lambda lan, mac, _: Guest.bios(lan, mac, "e1000"), 60),
    "ovmf-pxe4": Case("52:54:00:c0:00:03", ovmf("IPv6PXESupport"), 90),
    "ovmf-http4": Case("52:54:00:c0:00:04", ovmf("IPv4PXESupport", "IPv6PXESupport"), 90),
    "ovmf-pxe6": Case("52:54:00:c0:00:05", ovmf("IPv4PXESupport"), 50, until=""),
    "ovmf-http6": Case("52:54:00:c0:00:06", ovmf("IPv4PXESupport", "IPv6PXESupport"), 150, until=""),
    "aavmf-pxe4": Case("52:54:00:c0:00:07", aavmf, 90, until=""),
}


class Recorder:
    """A context manager: inside it, `frames` grows by what leaves the machine."""

    def __init__(self, lan: Lan, guest: Guest, mac: str) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self._source = bytes.fromhex(mac.replace(":", ""))
        with lan.switch.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((guest.tap, ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        transfers: set[bytes] = set()
        while not self._stop.is_set():
            try:
                frame = self._socket.recv(2048)
            except TimeoutError:
                continue
            if frame[6:12] == self._source and is_worth_keeping(frame, transfers):
                self.frames.append((time.time(), frame))


def is_worth_keeping(frame: bytes, transfers: set[bytes]) -> bool:
    """UDP of network boot; of a transfer, whose ports nobody else has, the first packet."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETH_P_IP and frame[23] == UDP:
        start = 14 + 4 * (frame[14] & 15)
    elif kind == ETH_P_IPV6 and frame[20] == UDP:
        start = 54
    else:
        return False
    if BOOT_PORTS & set(struct.unpack_from("!HH", frame, start)):
        return True
    ports = frame[start : start + 4]
    return not (ports in transfers or transfers.add(ports))  # type: ignore[func-returns-value]


def write_pcap(path: Path, frames: list[tuple[float, bytes]]) -> None:
    began = frames[0][0] if frames else 0.0  # from zero on, so that a capture made anew differs only where it matters
    with path.open("wb") as file:
        file.write(PCAP_HEADER)
        for at, frame in frames:
            microseconds = round((at - began) * 1e6)
            file.write(struct.pack("<IIII", *divmod(microseconds, 1_000_000), len(frame), len(frame)) + frame)


def start_lease_server(lan: Lan, *, ipv6: bool) -> None:
    """Leases, and an IPv6 router. With `ipv6` DHCPv6 as well, which names a boot file since no proxy could; iPXE would take
    that one also when it boots by IPv4."""
    second = ("--dhcp-range=fd77::100,fd77::1ff,64,1h", "--dhcp-option=option6:59,tftp://[fd77::2]/ipxe.efi")
    lan["lease"].run("ip", "-6", "address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    lan["lease"].start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
        *("--interface=eth0", "--bind-interfaces", "--no-ping", "--pid-file=", "--enable-ra"),
        "--dhcp-range=10.77.1.1,10.77.1.200,255.255.0.0,1h",
        *(second if ipv6 else ("--dhcp-range=fd77::,ra-only",)),
    )


def record(name: str) -> None:
    """Boot one machine and keep what it said."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as directory, Lan("lease", "dpd", ipv6=True) as lan:
        where = Path(directory)
        start_lease_server(lan, ipv6=name.endswith("6"))
        lan["dpd"].run("ip", "-6", "address", "add", "fd77::2/64", "dev", "eth0", "nodad")
        boot = where / "boot"
        boot.mkdir()
        shutil.copy(IPXE_EFI, boot / "ipxe.efi")
        (boot / "boot.ipxe").write_text(SCRIPT, encoding="ascii")
        guest = case.make(lan, case.mac, where)
        silent = "[pxe]\nrespond = false\n" if name.endswith("6") else ""  # else OVMF boots by IPv4 as long as it can
        with (
            Daemon(where, f'{silent}[boot]\ndirectory = "{boot}"\n', lan["dpd"]),
            Recorder(lan, guest, case.mac) as recorder,
            guest,
            suppress(AssertionError),
        ):
            guest.wait_for(case.until or "never", case.limit_s)
        CAPTURES.mkdir(exist_ok=True)
        write_pcap(CAPTURES / f"{name}.pcap", recorder.frames)
        print(f"{name}: {len(recorder.frames)} packets; the serial line ends: {guest.console[-200:]!r}", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        record(name)
