# SPDX-License-Identifier: Apache-2.0
"""A machine in QEMU that boots from the network: real firmware, its serial line to read.

Software emulation only: KVM is rarely there in CI, and where it was, OVMF died in its first instructions. Nothing is on
the disk, there is none; so whatever starts came over the LAN.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.netns import Lan

QEMU = "qemu-system-x86_64"
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SECURE_OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd")  # with the authorities of Microsoft enrolled
SECURE_OVMF_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
QEMU_ARM64 = "qemu-system-aarch64"
AAVMF_CODE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
AAVMF_VARIABLES = Path("/usr/share/AAVMF/AAVMF_VARS.fd")
IPXE_ROM = Path("/usr/lib/ipxe/qemu/efi-virtio.rom")  # what QEMU puts on a virtio card: BIOS and UEFI in one
E1000_ROM = Path("/usr/lib/ipxe/qemu/efi-e1000.rom")
CONTROL = re.compile(rb"\x1b(\[[0-9;?=]*)?[A-Za-z]|[\x00\r\x08]")  # firmware paints its serial line like a terminal

_run_numbers = itertools.count(1)


class Guest:
    """A context manager: inside it the machine runs; `wait_for` reads its serial line."""

    def __init__(
        self,
        lan: Lan,
        mac: str,
        *firmware: str | Path,
        program: str = QEMU,
        disk: Path | None = None,
        second_disk: Path | None = None,
        disk_first: bool = False,
        restarts: bool = False,
    ) -> None:
        """`disk`: a raw image, which firmware tries behind the network, or before it where that is `disk_first`; never the second
        one. `restarts`: a machine that restarts does so; else that ends it."""
        self._mac = mac
        self.tap = lan.add_tap(
            f"tap{next(_run_numbers)}-{mac.replace(':', '')[-6:]}"
        )  # its port of the switch in this run
        self._command = [
            *(program, "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-nographic"),
            *(() if restarts else ("-no-reboot",)),
            *("-serial", "stdio", "-device", "virtio-rng-pci"),  # newer EDK2 boots no network without a random source
            *("-uuid", str(uuid.uuid5(uuid.NAMESPACE_OID, mac))),  # without it option 97 is all zeros
            *("-netdev", f"tap,id=lan,ifname={self.tap},script=no,downscript=no"),
            *map(str, firmware),
            *_disk("disk", disk, f",bootindex={0 if disk_first else 2}"),
            *_disk("second", second_disk),
        ]
        self._switch = lan.switch
        self._received = bytearray()
        self._has_ended = False
        self._more = threading.Condition()

    @classmethod
    def bios(
        cls, lan: Lan, mac: str, card: str = "virtio-net-pci", *, disk: Path | None = None, restarts: bool = False
    ) -> Guest:
        """SeaBIOS, and the network card's boot ROM, which is iPXE; `graphics=off` brings both to the serial line."""
        network = f"{card},netdev=lan,mac={mac},bootindex=1"
        return cls(lan, mac, "-M", "pc,graphics=off", "-device", network, disk=disk, restarts=restarts)

    @classmethod
    def uefi(
        cls,
        lan: Lan,
        mac: str,
        directory: Path,
        *options: str,
        http: bool = False,
        disk: Path | None = None,
        second_disk: Path | None = None,
        disk_first: bool = False,
    ) -> Guest:
        """OVMF with EDK2's own network driver and PXE client (an empty romfile takes iPXE's ROM off the card), or its
        HTTP boot, which is what is left when PXE is switched off in the firmware."""
        switched_off = ("IPv4PXESupport", "IPv6PXESupport") if http else ("IPv6PXESupport",)
        switches = [word for name in switched_off for word in ("-fw_cfg", f"name=opt/org.tianocore/{name},string=n")]
        firmware = _edk2(mac, directory, OVMF_CODE, OVMF_VARIABLES)
        command = ("-M", "q35", *firmware, *switches, *options)
        return cls(lan, mac, *command, disk=disk, second_disk=second_disk, disk_first=disk_first)

    @classmethod
    def uefi_ipv6(cls, lan: Lan, mac: str, directory: Path, *options: str, http: bool = False) -> Guest:
        """OVMF by PXE over IPv6 alone; or by HTTP boot, which it tries over IPv4 first, for 60 s where no DHCPv4 server is. Its
        switch IPv4Support does not help: without IPv4 OVMF 2022.11 stands still in HTTP boot, and sends nothing."""
        switched_off = ("IPv4PXESupport", "IPv6PXESupport") if http else ("IPv4PXESupport",)
        switches = [word for name in switched_off for word in ("-fw_cfg", f"name=opt/org.tianocore/{name},string=n")]
        return cls(lan, mac, "-M", "q35", *_edk2(mac, directory, OVMF_CODE, OVMF_VARIABLES), *switches, *options)

    @classmethod
    def secure_uefi(cls, lan: Lan, mac: str, directory: Path, variables: Path = SECURE_OVMF_VARIABLES) -> Guest:
        """The same with Secure Boot on, by PXE: the flash can be written in system management mode alone."""
        switches = ("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
        guarded = ("-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
        flash = _edk2(mac, directory, SECURE_OVMF_CODE, variables)
        return cls(lan, mac, "-M", "q35,smm=on", *guarded, *flash, *switches)

    @classmethod
    def arm64(cls, lan: Lan, mac: str, directory: Path) -> Guest:
        """QEMU's board for 64-bit ARM with EDK2's firmware, by PXE."""
        switches = ("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
        machine = ("-M", "virt", "-cpu", "cortex-a57")  # QEMU takes the last -cpu; "max" doubles the time to the loader
        return cls(
            lan, mac, *machine, *_edk2(mac, directory, AAVMF_CODE, AAVMF_VARIABLES), *switches, program=QEMU_ARM64
        )

    def __enter__(self) -> Self:
        self._process = self._switch.start(*self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._listen, name=f"serial line of {self._mac}")
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _listen(self) -> None:
        """As long as the machine is there: it would stand still where nobody takes what it says."""
        stream = self._process.stdout
        assert stream is not None
        with stream:
            while piece := stream.read1():  # type: ignore[attr-defined]
                with self._more:
                    self._received += piece
                    self._more.notify_all()
        with self._more:
            self._has_ended = True
            self._more.notify_all()

    @property
    def console(self) -> str:
        """All that came over the serial line, without the terminal's control sequences."""
        with self._more:
            received = bytes(self._received)
        return CONTROL.sub(b"", received).decode("utf-8", "replace")

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Until `text` is on the serial line. Raises AssertionError with the last lines when time is over or the machine ends."""
        deadline, heard = time.monotonic() + timeout_s, 0
        while text not in self.console:
            before, heard = heard, self._wait_beyond(heard, deadline)
            assert heard > before, (
                f"{text!r} not on the serial line of {self._mac} "
                f"(limit {timeout_s:.0f} s, QEMU status {self._process.poll()}); it ends:\n{self.console[-1500:]}"
            )

    def wait_for_end(self, timeout_s: float) -> None:
        """Until the machine ends. Raises AssertionError with the last lines when time is over."""
        ended = self._wait_for_end(timeout_s)
        assert ended, f"{self._mac} still runs (limit {timeout_s:.0f} s):\n{self.console[-1500:]}"

    def watch(self, duration_s: float) -> str:
        """What comes on the serial line in that time, or until the machine ends."""
        before = len(self.console)
        self._wait_for_end(duration_s)
        return self.console[before:]

    def _wait_beyond(self, heard: int, deadline: float) -> int:
        """How many bytes came so far: more than `heard`, unless time is over or the machine has ended."""
        with self._more:
            self._more.wait_for(
                lambda: len(self._received) > heard or self._has_ended, max(deadline - time.monotonic(), 0)
            )
            return len(self._received)

    def _wait_for_end(self, timeout_s: float) -> bool:
        with self._more:
            return self._more.wait_for(lambda: self._has_ended, timeout_s)


def _disk(name: str, image: Path | None, option: str = "") -> tuple[str, ...]:
    if image is None:
        return ()
    drive = f"if=none,id={name},format=raw,cache=unsafe,file={image}"
    return "-drive", drive, "-device", f"virtio-blk-pci,drive={name}{option}"


def _edk2(mac: str, directory: Path, code: Path, variables: Path) -> list[str]:
    """The firmware with a variable store of its own, and a network card that it drives itself."""
    own = Path(shutil.copy(variables, directory / f"vars-{mac.replace(':', '')}.fd"))
    flash = "if=pflash,format=raw,unit={},file={},readonly={}"
    card = f"virtio-net-pci,netdev=lan,mac={mac},bootindex=1,romfile="
    return ["-drive", flash.format(0, code, "on"), "-drive", flash.format(1, own, "off"), "-device", card]
