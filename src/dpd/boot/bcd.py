# SPDX-License-Identifier: Apache-2.0
"""The boot configuration that the Windows boot manager reads first, made for one machine: boot this WIM as a RAM disk.

A BCD store is a registry hive: \\Objects\\{guid} with Description (the object's type) and one key below Elements for each
element. An element's number says what it is: the class in the top four bits, the format in the next four, as Microsoft
documents them (BcdElementType). The layout of device elements is not documented; public readers agree on it, and stores
that bcdedit wrote have these very bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias
from uuid import UUID

from dpd.boot.registry import Key, Value, binary, dword, string, strings, write_hive

BOOT_MANAGER = UUID("9dea862c-5cdd-4e70-acc1-f32b344d4795")  # {bootmgr}
RAMDISK_OPTIONS = UUID("7619dcc8-fafe-11d9-b411-000476eba25f")  # {ramdiskoptions}
LOADER = UUID("7619dcc9-fafe-11d9-b411-000476eba25f")  # the loader's entry on Windows' own media
NO_OBJECT = UUID(int=0)


class ObjectType(IntEnum):
    """What an object describes."""

    BOOT_MANAGER = 0x10100002
    OS_LOADER = 0x10200003
    DEVICE = 0x30000000


class Element(IntEnum):
    """The elements that a network boot of WinPE needs, by the names of bcdedit."""

    DEVICE = 0x11000001
    PATH = 0x12000002
    DESCRIPTION = 0x12000004
    LOCALE = 0x12000005
    LOADOPTIONS = 0x12000030
    OSDEVICE = 0x21000001
    SYSTEMROOT = 0x22000002
    DEFAULT = 0x23000003
    DISPLAYORDER = 0x24000001
    TIMEOUT = 0x25000004
    DETECTHAL = 0x26000010
    DISPLAYBOOTMENU = 0x26000020
    WINPE = 0x26000022
    EMS = 0x260000B0
    BOOTMENUPOLICY = 0x250000C2
    RAMDISKSDIDEVICE = 0x31000003
    RAMDISKSDIPATH = 0x32000004
    RAMDISKTFTPBLOCKSIZE = 0x35000007
    RAMDISKTFTPWINDOWSIZE = 0x35000008
    RAMDISKMCENABLED = 0x36000009
    RAMDISKMCTFTPFALLBACK = 0x3600000A
    RAMDISKTFTPVARWINDOW = 0x3600000B


class _Format(IntEnum):
    """The second digit of an element's number."""

    DEVICE = 1
    STRING = 2
    OBJECT = 3
    OBJECT_LIST = 4
    INTEGER = 5
    BOOLEAN = 6


_DEVICE_BYTES = 0x48  # the descriptor of a device that needs no path
_BOOT_DEVICE, _LOCAL_DEVICE = 5, 0
_HAS_PARENT = 1  # flag of a descriptor
_RAM_DISK = 3
_PATH_AND_DEVICE = 5
_LEGACY_MENU = 0

ElementValue: TypeAlias = str | int | bool | bytes | UUID | tuple[UUID, ...]


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
        _object(BOOT_MANAGER, ObjectType.BOOT_MANAGER, _boot_manager(boot)),
        _object(RAMDISK_OPTIONS, ObjectType.DEVICE, _ramdisk_options(boot)),
        _object(LOADER, ObjectType.OS_LOADER, _loader(boot)),
    )
    description = Key("Description", (string("KeyName", "BCD00000000"),))
    return write_hive(Key("NewStoreRoot", (), (description, Key("Objects", (), objects))), "\\Boot\\BCD")


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


def boot_device() -> bytes:
    """bcdedit's `boot`: wherever the boot manager came from, which is us."""
    return NO_OBJECT.bytes_le + _boot_descriptor()


def ramdisk_device(path: str, options: UUID) -> bytes:
    """bcdedit's `ramdisk=[boot]path,{options}`: a local device of the kind RAM disk; its source is the boot device and a path.

    The descriptor: type, flags, size, a pad; the kind; base, size and offset of the image, which the loader fills in; then
    a source: version, length, "path and device", the parent's descriptor, the path in UTF-16 with its zero."""
    source = _boot_descriptor() + path.encode("utf-16-le") + b"\0\0"
    tail = struct.pack("<III", 1, 12 + len(source), _PATH_AND_DEVICE) + source
    kind = struct.pack("<IQQI", _RAM_DISK, 0, 0, 0)
    size = 16 + len(kind) + len(tail)
    return options.bytes_le + struct.pack("<IIII", _LOCAL_DEVICE, _HAS_PARENT, size, 0) + kind + tail


def _boot_descriptor() -> bytes:
    return struct.pack("<IIII", _BOOT_DEVICE, 0, _DEVICE_BYTES, 0).ljust(_DEVICE_BYTES, b"\0")


def _object(guid: UUID, kind: ObjectType, elements: Mapping[Element, ElementValue]) -> Key:
    values = tuple(Key(f"{number:08x}", (_value(number, value),)) for number, value in elements.items())
    return Key(_braced(guid), (), (Key("Description", (dword("Type", kind),)), Key("Elements", (), values)))


def _value(number: Element, value: ElementValue) -> Value:
    """An element's value in the form that its number demands."""
    match _Format(number >> 24 & 0xF), value:
        case _Format.DEVICE, bytes():
            return binary("Element", value)
        case _Format.STRING, str():
            return string("Element", value)
        case _Format.OBJECT, UUID():
            return string("Element", _braced(value))
        case _Format.OBJECT_LIST, tuple():
            return strings("Element", [_braced(each) for each in value])
        case _Format.BOOLEAN, bool():
            return binary("Element", struct.pack("<B", value))
        case _Format.INTEGER, int():
            return binary("Element", struct.pack("<Q", value))
    raise ValueError(f"element {number:#010x}: a {type(value).__name__} does not fit its format")


def _braced(guid: UUID) -> str:
    return f"{{{guid}}}"
