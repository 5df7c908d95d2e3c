# SPDX-License-Identifier: Apache-2.0
"""The boot configuration of a Windows on a disk, as `bcdboot` makes it from Windows' own template: the boot manager with one
entry, what brings a hibernated Windows back, the memory test, and the settings that those inherit.

The recovery environment's entry is not there: Windows makes it itself (`reagentc /enable`), and the firmware's boot entries
are added by Windows when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_OID, UUID, uuid5

from dpd.boot.bcd_store import BOOT_MANAGER, Element, ElementValue, ObjectType, store_object, write_store
from dpd.boot.registry import Key

MEMORY_TEST = UUID("b2721d73-1db4-4c62-bf78-c548a880142d")  # {memdiag}
GLOBAL_SETTINGS = UUID("7ea2e1ac-2e61-4728-aaa3-896d9d0a9f0e")  # {globalsettings}
LOADER_SETTINGS = UUID("6efb52bf-1766-41db-a6b3-0ee5eff72bd7")  # {bootloadersettings}
RESUME_SETTINGS = UUID("1afa9c49-16ab-4a5c-901b-212802da9460")  # {resumeloadersettings}
HYPERVISOR_SETTINGS = UUID("7ff607e0-4395-11db-b0de-0800200c9a66")  # {hypervisorsettings}
DEBUGGER_SETTINGS = UUID("4636856e-540f-4170-a130-a84776f4c654")  # {dbgsettings}
EMS_SETTINGS = UUID("0ce4991b-e6b3-4b16-b23c-5e0d9250e5d9")  # {emssettings}
BAD_MEMORY = UUID("5189b25c-5558-4bf2-bca4-289b11bd29e2")  # {badmemory}

TIMEOUT_S = 30  # of a menu, which one entry alone does not show
_STANDARD_MENU = 1
_OPT_IN = 0  # of NX
_LOCAL_DEBUGGER = 4
_HYPERVISOR_BAUD = 115200
_IN_MEMORY_SETTING = 0x15000075


@dataclass(frozen=True, slots=True)
class DiskBoot:
    """`system` and `windows` are device elements: the partition of the boot manager, and that of Windows."""

    is_uefi: bool
    system: bytes
    windows: bytes
    description: str = "Windows"
    locale: str = "en-US"
    has_memory_test: bool = True

    @property
    def loader(self) -> UUID:
        """Windows' entry: the same for the same partition."""
        return uuid5(NAMESPACE_OID, f"loader {self.windows.hex()}")

    @property
    def resume(self) -> UUID:
        return uuid5(NAMESPACE_OID, f"resume {self.windows.hex()}")


def make_disk_bcd(boot: DiskBoot) -> bytes:
    """The store. The same boot gives the same bytes. Raises ValueError for a text that a hive cannot hold."""
    objects = [
        store_object(BOOT_MANAGER, ObjectType.BOOT_MANAGER, _boot_manager(boot)),
        store_object(boot.loader, ObjectType.OS_LOADER, _loader(boot)),
        store_object(boot.resume, ObjectType.RESUME_LOADER, _resume(boot)),
        *_settings(),
    ]
    if boot.has_memory_test:
        objects.append(store_object(MEMORY_TEST, ObjectType.MEMORY_TEST, _memory_test(boot)))
    name = "\\EFI\\Microsoft\\Boot\\BCD" if boot.is_uefi else "\\Boot\\BCD"
    return write_store(tuple(objects), name, is_system=True)


def _boot_manager(boot: DiskBoot) -> dict[Element, ElementValue]:
    """On BIOS the boot manager is always /bootmgr."""
    return {
        Element.DEVICE: boot.system,
        **({Element.PATH: "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"} if boot.is_uefi else {}),
        Element.DESCRIPTION: "Windows Boot Manager",
        Element.LOCALE: boot.locale,
        Element.INHERIT: (GLOBAL_SETTINGS,),
        Element.DEFAULT: boot.loader,
        Element.MANAGER_RESUMEOBJECT: boot.resume,
        Element.DISPLAYORDER: (boot.loader,),
        **({Element.TOOLSDISPLAYORDER: (MEMORY_TEST,)} if boot.has_memory_test else {}),
        Element.TIMEOUT: TIMEOUT_S,
    }


def _loader(boot: DiskBoot) -> dict[Element, ElementValue]:
    return {
        Element.DEVICE: boot.windows,
        Element.PATH: "\\Windows\\system32\\winload." + _suffix(boot),
        Element.DESCRIPTION: boot.description,
        Element.LOCALE: boot.locale,
        Element.INHERIT: (LOADER_SETTINGS,),
        Element.ISOLATEDCONTEXT: True,
        Element.ALLOWEDINMEMORYSETTINGS: (_IN_MEMORY_SETTING,),
        Element.OSDEVICE: boot.windows,
        Element.SYSTEMROOT: "\\Windows",
        Element.RESUMEOBJECT: boot.resume,
        Element.NX: _OPT_IN,
        Element.BOOTMENUPOLICY: _STANDARD_MENU,
    }


def _resume(boot: DiskBoot) -> dict[Element, ElementValue]:
    return {
        Element.DEVICE: boot.windows,
        Element.PATH: "\\Windows\\system32\\winresume." + _suffix(boot),
        Element.DESCRIPTION: "Windows Resume Application",
        Element.LOCALE: boot.locale,
        Element.INHERIT: (RESUME_SETTINGS,),
        Element.ISOLATEDCONTEXT: True,
        Element.ALLOWEDINMEMORYSETTINGS: (_IN_MEMORY_SETTING,),
        Element.FILEDEVICE: boot.windows,
        Element.FILEPATH: "\\hiberfil.sys",
        Element.RESUME_MENU_POLICY: _STANDARD_MENU,
        Element.DEBUGOPTIONENABLED: False,
    }


def _memory_test(boot: DiskBoot) -> dict[Element, ElementValue]:
    return {
        Element.DEVICE: boot.system,
        Element.PATH: "\\EFI\\Microsoft\\Boot\\memtest.efi" if boot.is_uefi else "\\Boot\\memtest.exe",
        Element.DESCRIPTION: "Windows Memory Diagnostic",
        Element.LOCALE: boot.locale,
        Element.INHERIT: (GLOBAL_SETTINGS,),
        Element.BADMEMORYACCESS: True,
    }


def _settings() -> tuple[Key, ...]:
    """What the others inherit; every Windows has these."""
    return (
        store_object(
            GLOBAL_SETTINGS,
            ObjectType.INHERITED_BY_ALL,
            {Element.INHERIT: (DEBUGGER_SETTINGS, EMS_SETTINGS, BAD_MEMORY)},
        ),
        store_object(
            LOADER_SETTINGS,
            ObjectType.INHERITED_BY_OS_LOADERS,
            {Element.INHERIT: (GLOBAL_SETTINGS, HYPERVISOR_SETTINGS)},
        ),
        store_object(RESUME_SETTINGS, ObjectType.INHERITED_BY_RESUME_LOADERS, {Element.INHERIT: (GLOBAL_SETTINGS,)}),
        store_object(
            HYPERVISOR_SETTINGS,
            ObjectType.INHERITED_BY_OS_LOADERS,
            {
                Element.HYPERVISORDEBUGTYPE: 0,
                Element.HYPERVISORDEBUGPORT: 1,
                Element.HYPERVISORBAUDRATE: _HYPERVISOR_BAUD,
            },
        ),
        store_object(DEBUGGER_SETTINGS, ObjectType.INHERITED_BY_ALL, {Element.DEBUGTYPE: _LOCAL_DEBUGGER}),
        store_object(EMS_SETTINGS, ObjectType.INHERITED_BY_ALL, {Element.BOOTEMS: False}),
        store_object(BAD_MEMORY, ObjectType.INHERITED_BY_ALL, {}),
    )


def _suffix(boot: DiskBoot) -> str:
    return "efi" if boot.is_uefi else "exe"
