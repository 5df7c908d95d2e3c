# SPDX-License-Identifier: Apache-2.0
"""The Windows boot manager as a client of files: it starts, reads its BCD, and goes where that leads.

It knows nothing of dpd: names are asked for as the real one asks, the BCD is read by hivex, device elements by their
public layout.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.boot.hives import read_hive

from dpd.boot.registry import Key

BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
# Names that a boot manager asks for by itself; those that some media lack are no failure.
UEFI_NAMES = ("\\Boot\\Fonts\\wgl4_boot.ttf", "\\Boot\\Fonts\\segmono_boot.ttf", "\\EFI\\Microsoft\\Boot\\Fonts\\segoe_slboot.ttf",
              "\\Boot\\boot.stl", "\\EFI\\Microsoft\\Boot\\boot.stl", "\\Boot\\en-US\\bootmgfw.efi.mui", "\\Boot\\Resources\\bootres.dll",
              "\\EFI\\Microsoft\\Boot\\winsipolicy.p7b",
              "\\EFI\\Microsoft\\Boot\\CIPolicies\\Active\\{5DAC656C-21AD-4A02-AB49-649917162E70}.cip")  # fmt: skip
BIOS_NAMES = ("boot\\fonts\\wgl4_boot.ttf", "Boot\\fonts\\chs_boot.ttf", "\\Boot\\en-US\\bootmgr.exe.mui")
OPTIONAL_NAMES = ("\\EFI\\Microsoft\\Boot\\Policies\\SbcpFlightToken.p7b", "\\EFI\\Microsoft\\Boot\\SecureBootPolicy.p7b",
                  "\\EFI\\Microsoft\\Boot\\SiPolicy.p7b", "\\EFI\\Microsoft\\Boot\\SkuSiPolicy.p7b",
                  "\\EFI\\Microsoft\\Boot\\ATPSiPolicy.p7b", "\\Boot\\bootx64.efi.mui", "\\Boot\\fr-FR\\bootmgfw.efi.mui",
                  "\\Boot\\BCD.LOG", "\\hiberfil.sys", "\\Boot\\Fonts\\none.ttf")  # fmt: skip

Fetch = Callable[[str], bytes | None]


@dataclass
class BootManager:
    """`fetch(name)` gives the file's bytes, None where there is none."""

    fetch: Fetch
    folder: Path
    is_uefi: bool = True
    missed: list[str] = field(default_factory=list)
    sdi: bytes = b""
    wim: bytes = b""
    loader_path: str = ""
    block_size: int = 0
    window_size: int = 0

    def start(self, bcd_name: str = "\\Boot\\BCD") -> None:
        """As far as the RAM disk."""
        for name in UEFI_NAMES if self.is_uefi else BIOS_NAMES:
            self._get(name)
        for name in OPTIONAL_NAMES:
            if self.fetch(name) is not None:
                raise AssertionError(f"{name}: found, though no image has it")
        objects = _objects(read_hive(self._get(bcd_name), self.folder))
        loader = objects[_text(objects[BOOTMGR]["23000003"])]
        assert _text(objects[BOOTMGR]["24000001"]) == _text(objects[BOOTMGR]["23000003"]), "one entry, the default"
        options, path = _ramdisk(loader["11000001"])
        assert loader["11000001"] == loader["21000001"]
        assert (loader["26000022"], loader["26000010"]) == (b"\1", b"\1"), "winpe, detecthal"
        self.loader_path = _text(loader["12000002"])
        self.block_size, self.window_size = (
            int.from_bytes(objects[options].get(f"3500000{n}", b""), "little") for n in (7, 8)
        )
        assert struct.unpack_from("<I", objects[options]["31000003"], 16)[0] == 5, "the SDI comes from the boot device"
        self.sdi = self._get(_text(objects[options]["32000004"]))
        self.wim = self._get(path)

    def _get(self, name: str) -> bytes:
        found = self.fetch(name)
        if found is None:
            self.missed.append(name)
            return b""
        return found


def _objects(store: Key) -> dict[str, dict[str, bytes]]:
    (found,) = [key for key in store.keys if key.name == "Objects"]
    return {
        each.name: {
            element.name: element.values[0].content
            for part in each.keys
            if part.name == "Elements"
            for element in part.keys
        }
        for each in found.keys
    }


def _ramdisk(device: bytes) -> tuple[str, str]:
    """The object with its options, and the path on the boot device."""
    kind, flags, size, _, local = struct.unpack_from("<IIIII", device, 16)
    assert (kind, flags, size, local) == (0, 1, len(device) - 16, 3)
    version, length, path_kind, parent = struct.unpack_from("<IIII", device, 16 + 0x28)
    assert (version, length, path_kind, parent) == (1, size - 0x28, 5, 5)
    return f"{{{UUID(bytes_le=device[:16])}}}", _text(device[16 + 0x34 + 0x48 :])


def _text(content: bytes) -> str:
    return content.decode("utf-16-le").rstrip("\0")
