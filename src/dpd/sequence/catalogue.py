# SPDX-License-Identifier: Apache-2.0
"""Every kind of step: what it does and which keys it takes, in words that errors and the manual use alike.

A default never changes: what is signed leaves it out, and a target may be of another release than its point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dpd.sequence.records import Architecture, Firmware, StepKind, Value


class KeyType(StrEnum):
    """What a key holds. In every text but a script `%NAME%` is a variable when the step runs."""

    TEXT = "a text"
    LINES = "a text of several lines"
    SCRIPT = "a text of several lines, in which nothing is replaced"
    CHOICE = "a word"
    PACKAGE = "the ID of a package"
    SIZE = "a size"
    SHARE = "a size, a share or the rest"
    VARIABLE = "the name of a variable"
    WHOLE = "a whole number"
    FLAG = "true or false"
    TEXTS = "a list of texts"
    WHOLES = "a list of whole numbers"
    TABLES = "a list of tables"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Without a default it must be there. `choices` are the words it may be, or that each of its list may be."""

    name: str
    type: KeyType
    words: str
    default: Value | None = None
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 2**31 - 1
    keys: tuple[Key, ...] = ()
    most_characters: int = 4000

    @property
    def is_required(self) -> bool:
        return self.default is None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of step. `example` is what a step of this kind may look like beside its name and `do`."""

    words: str
    keys: tuple[Key, ...]
    example: str

    def key(self, name: str) -> Key | None:
        """The key of this name."""
        return next((each for each in self.keys if each.name == name), None)


COMPRESSIONS = ("xpress", "lzx", "none")
FORMATS = ("fat32", "ext4", "btrfs", "ntfs", "swap", "none")
PARTITION_KINDS = ("esp", "bios-boot", "msr", "linux", "swap", "windows", "recovery", "data")
CONFIGURATIONS = ("unattend", "cloud-init", "preseed", "file")
INTERPRETERS = ("sh", "bash", "python3", "cmd", "powershell")

_TEXT, _LINES, _FLAG, _WHOLE = KeyType.TEXT, KeyType.LINES, KeyType.FLAG, KeyType.WHOLE

_PACKAGE = Key("package", KeyType.PACKAGE, "the content")
_VERSION = Key("version", _WHOLE, "its source version; 0 is the newest", 0)
_VOLUME = Key("volume", _TEXT, "a partition, by the name that partition_disk gave it")
_INDEX = Key("index", _WHOLE, "which image of the WIM", 1, low=1, high=65535)
_KEEP = Key("keep", _FLAG, "keep the local copy of the WIM after it was applied", False)
_STREAM = Key(
    "stream",
    KeyType.CHOICE,
    "whether the image is applied while it arrives, without a local copy; auto does so where there is no room for both",
    "auto",
    ("auto", "always", "never"),
)
_MULTICAST = Key(
    "multicast",
    _FLAG,
    "receive it by multicast together with others, and apply what is verified while the rest arrives; by HTTP where multicast does not get through",
    False,
)
_CONTENT_VOLUME = Key(
    "content_volume", _TEXT, "the partition for the local copy; without it, one with room or memory", ""
)
_HOW = (_KEEP, _MULTICAST, _CONTENT_VOLUME, _STREAM)
_WHERE = (
    Key("volume", _TEXT, "the partition to keep it on; without it, one with room or memory", ""),
    Key("variable", KeyType.VARIABLE, "this variable gets the path", ""),
)
_CHROOT = Key("volume", _TEXT, "run inside the system on this partition; without it, in the deployment environment", "")
_SUCCESS = Key("success_codes", KeyType.WHOLES, "exit codes that mean success", (0,), high=2**32 - 1)
_OUTPUT = Key("output_variable", KeyType.VARIABLE, "this variable gets what is written to standard output", "")
_FILE = Key("file", _TEXT, "the file's path inside the package", "")

_PARTITION = (
    Key("name", _TEXT, "by which later steps call it"),
    Key("size", KeyType.SHARE, 'such as "512MiB", "40%" of the disk, or "rest" for what the others leave'),
    Key("kind", KeyType.CHOICE, "what it is for", "linux", PARTITION_KINDS),
    Key("format", KeyType.CHOICE, "the file system that is made on it", "none", FORMATS),
    Key("label", _TEXT, "of the file system", ""),
)

_PARTITION_DISK = Kind(
    "Makes a new partition table and file systems; everything on the disk is lost.",
    (
        Key("disk", _TEXT, 'first, largest, a number from 0, or a device such as "/dev/sda"', "first"),
        Key("table", KeyType.CHOICE, "auto is gpt on UEFI and mbr on BIOS", "auto", ("auto", "gpt", "mbr")),
        Key("partitions", KeyType.TABLES, "in their order on the disk", keys=_PARTITION),
    ),
    'partitions = [{ name = "root", size = "rest", format = "ext4" }]',
)
_DOWNLOAD_CONTENT = Kind(
    "Fetches a package by HTTP, checked by its manifest.", (_PACKAGE, _VERSION, *_WHERE), 'package = "LAB00001"'
)
_JOIN_MULTICAST = Kind(
    "Receives a package by multicast together with others, checked by its manifest; by HTTP where multicast does not get through.",
    (
        _PACKAGE,
        _VERSION,
        *_WHERE,
        Key("patience_s", _WHOLE, "how long to wait for the session before HTTP is taken", 600, high=86400),
        Key("fall_back", _FLAG, "whether HTTP is taken at all", True),
    ),
    'package = "LAB00001"',
)
_APPLY_OS_IMAGE = Kind(
    "Applies an image of a WIM to a formatted partition (NTFS, ext4, btrfs).",
    (_PACKAGE, _VERSION, _INDEX, _VOLUME, *_HOW),
    'package = "LAB00001"\nvolume = "root"',
)
_APPLY_DATA_IMAGE = Kind(
    "Applies an image of a WIM to a folder of a partition that may hold something already.",
    (_PACKAGE, _VERSION, _INDEX, _VOLUME, Key("folder", _TEXT, "below the partition's root", ""), *_HOW),
    'package = "LAB00001"\nvolume = "root"\nfolder = "srv/data"',
)
_APPLY_DRIVER_PACKAGE = Kind(
    "Copies a package's drivers into the new system, for its first start to find; Windows needs an answer file that names them.",
    (_PACKAGE, _VERSION, _VOLUME, Key("folder", _TEXT, "below the partition's root", "drivers")),
    'package = "LAB00001"\nvolume = "root"',
)
_SET_VARIABLE = Kind(
    "Sets a variable for the steps that follow.",
    (
        Key("variable", KeyType.VARIABLE, "its name; those that begin with _ are read-only"),
        Key("value", _LINES, "what it is to hold"),
        Key("secret", _FLAG, "never shown in logs and reports", False),
    ),
    'variable = "OSDComputerName"\nvalue = "PC-%_DPDSerial%"',
)
_RUN_COMMAND_LINE = Kind(
    "Runs a command line with the shell; variables are in its environment, too.",
    (
        Key("command", _TEXT, "the command line"),
        _CHROOT,
        Key("folder", _TEXT, "the folder that it runs in", ""),
        _SUCCESS,
        _OUTPUT,
    ),
    'command = "systemctl enable ssh"\nvolume = "root"',
)
_RUN_SCRIPT = Kind(
    "Runs a script from the document or from a package; variables are in its environment.",
    (
        Key("script", KeyType.SCRIPT, "the script itself", ""),
        Key("package", KeyType.PACKAGE, "or a package that has it", ""),
        _VERSION,
        _FILE,
        Key("interpreter", KeyType.CHOICE, "what runs it", "sh", INTERPRETERS),
        Key("arguments", KeyType.TEXTS, "what it is given", ()),
        _CHROOT,
        _SUCCESS,
        _OUTPUT,
    ),
    "script = '''\ndate +%Y%m%d\n'''",
)
_WRITE_CONFIGURATION = Kind(
    "Writes what the new system configures itself by at its first start, variables put in: unattend.xml, cloud-init (NoCloud), a preseed file, or any file.",
    (
        Key("format", KeyType.CHOICE, "which one", None, CONFIGURATIONS),
        _VOLUME,
        Key("path", _TEXT, "below the partition's root; each format but file has its own", ""),
        Key("text", _LINES, "what is written (unattend, preseed, file)", ""),
        Key("user_data", _LINES, "cloud-init's user-data", ""),
        Key("meta_data", _LINES, "cloud-init's meta-data", ""),
        Key("network_config", _LINES, "cloud-init's network-config", ""),
        Key("mode", _TEXT, "the file's permissions in octal digits", "0600"),
    ),
    'format = "file"\nvolume = "root"\npath = "etc/hostname"\ntext = "%OSDComputerName%\\n"\nmode = "0644"',
)
_INSTALL_BOOT_LOADER = Kind(
    "Makes the disk start by itself: Windows' boot manager with its configuration, GRUB from the new system, or a copied EFI loader.",
    (
        _VOLUME,
        Key("esp", _TEXT, "the EFI system partition, by its name; needed on UEFI", ""),
        Key(
            "method",
            KeyType.CHOICE,
            "auto is copy with a source, Windows' own where the volume has a Windows, and else grub-install",
            "auto",
            ("auto", "grub-install", "copy"),
        ),
        Key("source", _TEXT, "for copy: the EFI loader, below the partition's root", ""),
        Key("options", _TEXT, "more for the kernel's command line", ""),
    ),
    'volume = "root"\nesp = "esp"',
)
_CAPTURE_IMAGE = Kind(
    "Captures a partition to a WIM and hands it to the distribution point as a new version of a package.",
    (
        _VOLUME,
        Key("package_id", KeyType.PACKAGE, "the package that gets the version; it need not be there yet"),
        Key("image_name", _TEXT, "the name of the image in the WIM", ""),
        Key("image_description", _TEXT, "its description there", ""),
        Key("compression", KeyType.CHOICE, "of the WIM", "lzx", COMPRESSIONS),
    ),
    'volume = "root"\npackage_id = "CAP00001"',
)
_CHECK_READINESS = Kind(
    "Fails unless the machine is as asked; every check is made and each failure told.",
    (
        Key("minimum_ram", KeyType.SIZE, 'such as "2GiB"', ""),
        Key("minimum_disk", KeyType.SIZE, "of the largest disk", ""),
        Key("minimum_cpus", _WHOLE, "how many processors", 0, high=65535),
        Key("architectures", KeyType.TEXTS, "any of these", (), tuple(Architecture)),
        Key("firmware", KeyType.CHOICE, "how it was started; empty is any", "", ("", *Firmware)),
        Key("is_wired", _FLAG, "the network is to be a wired one", False),
        Key("on_ac_power", _FLAG, "it is not to run on its battery", False),
    ),
    'minimum_ram = "2GiB"\nminimum_disk = "20GB"',
)
_RESTART = Kind(
    "Starts the machine again: as the last step, or to go on at the next one in the new system (resume_volume).",
    (
        Key(
            "to",
            KeyType.CHOICE,
            "its disk, or the network; a run goes on from its disk alone",
            "disk",
            ("disk", "network"),
        ),
        Key("message", _TEXT, "shown before", ""),
        Key("resume_volume", _TEXT, "the partition whose system runs the steps that follow", ""),
    ),
    'to = "disk"',
)

CATALOGUE: Final[Mapping[StepKind, Kind]] = MappingProxyType(
    {
        StepKind.PARTITION_DISK: _PARTITION_DISK,
        StepKind.DOWNLOAD_CONTENT: _DOWNLOAD_CONTENT,
        StepKind.JOIN_MULTICAST: _JOIN_MULTICAST,
        StepKind.APPLY_OS_IMAGE: _APPLY_OS_IMAGE,
        StepKind.APPLY_DATA_IMAGE: _APPLY_DATA_IMAGE,
        StepKind.APPLY_DRIVER_PACKAGE: _APPLY_DRIVER_PACKAGE,
        StepKind.SET_VARIABLE: _SET_VARIABLE,
        StepKind.RUN_COMMAND_LINE: _RUN_COMMAND_LINE,
        StepKind.RUN_SCRIPT: _RUN_SCRIPT,
        StepKind.WRITE_CONFIGURATION: _WRITE_CONFIGURATION,
        StepKind.INSTALL_BOOT_LOADER: _INSTALL_BOOT_LOADER,
        StepKind.CAPTURE_IMAGE: _CAPTURE_IMAGE,
        StepKind.CHECK_READINESS: _CHECK_READINESS,
        StepKind.RESTART: _RESTART,
    }
)


def defaults_of(keys: tuple[Key, ...]) -> dict[str, Value]:
    """What a table without these keys says."""
    return {each.name: each.default for each in keys if each.default is not None}
