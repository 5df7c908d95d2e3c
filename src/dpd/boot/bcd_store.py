# SPDX-License-Identifier: Apache-2.0
"""A store of boot configuration data, which the Windows boot manager reads first: objects, their elements, and devices.

A BCD store is a registry hive: \\Objects\\{guid} with Description (the object's type) and one key below Elements for each
element. An element's number says what it is: the class in the top four bits, the format in the next four, as Microsoft
documents them (BcdElementType; a longer list is Geoff Chappell's "BCD Elements"). The layout of device elements is not
documented. Public readers agree on it (`struct bcd_disk_info` of ntloader, `update_device.sh` of BCD-SYS, ReactOS' boot
library), and stores that Windows wrote, which people have published with their EFI system partitions, have these very bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeAlias
from uuid import UUID

from dpd.boot.registry import Key, Value, binary, dword, string, strings, write_hive

BOOT_MANAGER = UUID("9dea862c-5cdd-4e70-acc1-f32b344d4795")  # {bootmgr}
NO_OBJECT = UUID(int=0)


class ObjectType(IntEnum):
    """What an object describes."""

    BOOT_MANAGER = 0x10100002
    OS_LOADER = 0x10200003
    RESUME_LOADER = 0x10200004
    MEMORY_TEST = 0x10200005
    INHERITED_BY_ALL = 0x20100000
    INHERITED_BY_OS_LOADERS = 0x20200003
    INHERITED_BY_RESUME_LOADERS = 0x20200004
    DEVICE = 0x30000000


class Element(IntEnum):
    """The elements that stores of ours have, by the names of bcdedit. A number may have several: what it means is the
    object's to say."""

    DEVICE = 0x11000001
    PATH = 0x12000002
    DESCRIPTION = 0x12000004
    LOCALE = 0x12000005
    LOADOPTIONS = 0x12000030
    INHERIT = 0x14000006
    DEBUGTYPE = 0x15000011
    BADMEMORYACCESS = 0x1600000B
    BOOTEMS = 0x16000020
    ISOLATEDCONTEXT = 0x16000060
    ALLOWEDINMEMORYSETTINGS = 0x17000077
    OSDEVICE = 0x21000001
    FILEDEVICE = 0x21000001
    SYSTEMROOT = 0x22000002
    FILEPATH = 0x22000002
    DEFAULT = 0x23000003
    RESUMEOBJECT = 0x23000003  # of a loader
    MANAGER_RESUMEOBJECT = 0x23000006
    DISPLAYORDER = 0x24000001
    TOOLSDISPLAYORDER = 0x24000010
    TIMEOUT = 0x25000004
    RESUME_MENU_POLICY = 0x25000008
    NX = 0x25000020
    DEBUGOPTIONENABLED = 0x26000006
    DETECTHAL = 0x26000010
    DISPLAYBOOTMENU = 0x26000020
    WINPE = 0x26000022
    EMS = 0x260000B0
    BOOTMENUPOLICY = 0x250000C2
    HYPERVISORDEBUGTYPE = 0x250000F3
    HYPERVISORDEBUGPORT = 0x250000F4
    HYPERVISORBAUDRATE = 0x250000F5
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
    INTEGER_LIST = 7


_DEVICE_BYTES = 0x48  # the descriptor of a device that needs no path
_BOOT_DEVICE, _PARTITION_DEVICE, _LOCAL_DEVICE = 5, 6, 0
_GPT, _MBR = 0, 1
_HAS_PARENT = 1  # flag of a descriptor
_RAM_DISK = 3
_PATH_AND_DEVICE = 5

ElementValue: TypeAlias = str | int | bool | bytes | UUID | tuple[UUID, ...] | tuple[int, ...]


def write_store(objects: tuple[Key, ...], file_name: str, *, is_system: bool = False) -> bytes:
    """The hive. `is_system`: the store that the running Windows takes for its own. Raises ValueError for a text that a hive cannot hold."""
    marks = (dword("System", 1), dword("TreatAsSystem", 1)) if is_system else ()
    description = Key("Description", (string("KeyName", "BCD00000000"), *marks))
    return write_hive(Key("NewStoreRoot", (), (description, Key("Objects", (), objects))), file_name)


def store_object(guid: UUID, kind: ObjectType, elements: Mapping[Element, ElementValue]) -> Key:
    """An object with its elements. Raises ValueError for a value in the form of another element."""
    values = tuple(Key(f"{number:08x}", (_value(number, value),)) for number, value in elements.items())
    return Key(_braced(guid), (), (Key("Description", (dword("Type", kind),)), Key("Elements", (), values)))


def boot_device() -> bytes:
    """bcdedit's `boot`: wherever the boot manager came from."""
    return NO_OBJECT.bytes_le + _boot_descriptor()


def gpt_partition(disk: UUID, partition: UUID) -> bytes:
    """bcdedit's `partition=`, of a GPT by the identities of disk and partition."""
    return _partition(partition.bytes_le, _GPT, disk.bytes_le)


def mbr_partition(disk_signature: int, offset_bytes: int) -> bytes:
    """bcdedit's `partition=`, of an MBR by the disk's signature and where the partition begins."""
    return _partition(struct.pack("<QQ", offset_bytes, 0), _MBR, struct.pack("<IIQ", disk_signature, 0, 0))


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


def _partition(partition: bytes, table: int, disk: bytes) -> bytes:
    """No options; type, flags, size, a pad; the partition, a pad, the kind of table, the disk, a pad."""
    head = struct.pack("<IIII", _PARTITION_DEVICE, 0, _DEVICE_BYTES, 0)
    descriptor = head + partition + struct.pack("<II", 0, table) + disk
    return NO_OBJECT.bytes_le + descriptor.ljust(_DEVICE_BYTES, b"\0")


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
        case _Format.INTEGER_LIST, tuple():
            return binary("Element", struct.pack(f"<{len(value)}Q", *value))
    raise ValueError(f"element {number:#010x}: a {type(value).__name__} does not fit its format")


def _braced(guid: UUID | int) -> str:
    return f"{{{guid}}}"
