# SPDX-License-Identifier: Apache-2.0
"""The boot configuration that the Windows boot manager reads first, made for one machine: boot this WIM as a RAM disk."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from dpd.boot.bcd_store import (
    BOOT_MANAGER,
    Element,
    ElementValue,
    ObjectType,
    boot_device,
    ramdisk_device,
    store_object,
    write_store,
)

RAMDISK_OPTIONS = UUID("7619dcc8-fafe-11d9-b411-000476eba25f")  # {ramdiskoptions}
LOADER = UUID("7619dcc9-fafe-11d9-b411-000476eba25f")  # the loader's entry on Windows' own media
_LEGACY_MENU = 0


@dataclass(frozen=True, slots=True)
class RamdiskBoot:
    """What to boot. Sizes of 0 leave the loader its own; `variable_window` lets the server open and close the window."""

    is_uefi: bool
    description: str = "Windows PE"
    wim_path: str = "\\sources\\boot.wim"
    sdi_path: str = "\\Boot\\boot.sdi"
    block_size: int = 0
    window_size: int = 0
    variable_window: bool = True
    locale: str = "en-US"
    timeout_s: int = 0
    load_options: str = ""  # Windows keeps them in Control\\SystemStartOptions, where what runs in it finds them

    @property
    def loader_path(self) -> str:
        """The program within the WIM; each firmware has its own."""
        return "\\Windows\\System32\\boot\\winload." + ("efi" if self.is_uefi else "exe")


def make_bcd(boot: RamdiskBoot) -> bytes:
    """The store. The same boot gives the same bytes. Raises ValueError for a text that a hive cannot hold."""
    objects = (
        store_object(BOOT_MANAGER, ObjectType.BOOT_MANAGER, _boot_manager(boot)),
        store_object(RAMDISK_OPTIONS, ObjectType.DEVICE, _ramdisk_options(boot)),
        store_object(LOADER, ObjectType.OS_LOADER, _loader(boot)),
    )
    return write_store(objects, "\\Boot\\BCD")


def _boot_manager(boot: RamdiskBoot) -> dict[Element, ElementValue]:
    """One entry, which is the default: no menu is shown."""
    return {
        Element.DEVICE: boot_device(),
        Element.DESCRIPTION: "Windows Boot Manager",
        Element.LOCALE: boot.locale,
        Element.DEFAULT: LOADER,
        Element.DISPLAYORDER: (LOADER,),
        Element.TIMEOUT: boot.timeout_s,
        Element.DISPLAYBOOTMENU: False,
    }


def _ramdisk_options(boot: RamdiskBoot) -> dict[Element, ElementValue]:
    """The multicast of these elements is WDS's own protocol, which dpd does not speak."""
    sizes = {Element.RAMDISKTFTPBLOCKSIZE: boot.block_size, Element.RAMDISKTFTPWINDOWSIZE: boot.window_size}
    return {
        Element.DESCRIPTION: "Ramdisk options",
        Element.RAMDISKSDIDEVICE: boot_device(),
        Element.RAMDISKSDIPATH: boot.sdi_path,
        **{element: size for element, size in sizes.items() if size},
        Element.RAMDISKMCENABLED: False,
        Element.RAMDISKMCTFTPFALLBACK: True,
        Element.RAMDISKTFTPVARWINDOW: boot.variable_window,
    }


def _loader(boot: RamdiskBoot) -> dict[Element, ElementValue]:
    device = ramdisk_device(boot.wim_path, RAMDISK_OPTIONS)
    return {
        Element.DEVICE: device,
        Element.PATH: boot.loader_path,
        Element.DESCRIPTION: boot.description,
        Element.LOCALE: boot.locale,
        **({Element.LOADOPTIONS: boot.load_options} if boot.load_options else {}),
        Element.OSDEVICE: device,
        Element.SYSTEMROOT: "\\Windows",
        Element.DETECTHAL: True,
        Element.WINPE: True,
        Element.EMS: False,
        Element.BOOTMENUPOLICY: _LEGACY_MENU,
    }
