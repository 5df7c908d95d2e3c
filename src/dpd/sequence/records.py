# SPDX-License-Identifier: Apache-2.0
"""A task sequence as values: groups and steps in their order, the conditions on them, and what a machine is asked about.

A step's id is its place in the tree ("1", "2.1"), stable within a version. `line` is where the document has it, 0 once signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from dpd.errors import DpdError

MAX_NAME = 50
MAX_DESCRIPTION = 256
MAX_DEPTH = 8
MAX_STEPS = 1000
RUN_TIME_LIMIT_S = 7200  # Configuration Manager's maximum allowed run time
RETRY_DELAY_S = 15

Value: TypeAlias = "str | int | bool | tuple[str, ...] | tuple[int, ...] | tuple[Mapping[str, Value], ...]"


class SequenceError(DpdError):
    """A task sequence that cannot be read, published or found: what, where, and what was expected."""


class SequenceNotFound(SequenceError):
    """No such sequence, or not this version of it."""


class SequenceConflict(SequenceError):
    """It would contradict what is there: another text under a version that was published, or one that is deployed."""


@dataclass(frozen=True, slots=True)
class SequenceProblem:
    """What is wrong in one line of a document, counted from 1 (0 where it is of none), and where that is: a step and a key."""

    line: int
    place: str
    message: str


class StepKind(StrEnum):
    """What a step does; `catalogue.CATALOGUE` has each one's keys."""

    PARTITION_DISK = "partition_disk"
    DOWNLOAD_CONTENT = "download_content"
    JOIN_MULTICAST = "join_multicast"
    APPLY_OS_IMAGE = "apply_os_image"
    APPLY_DATA_IMAGE = "apply_data_image"
    APPLY_DRIVER_PACKAGE = "apply_driver_package"
    SET_VARIABLE = "set_variable"
    RUN_COMMAND_LINE = "run_command_line"
    RUN_SCRIPT = "run_script"
    WRITE_CONFIGURATION = "write_configuration"
    INSTALL_BOOT_LOADER = "install_boot_loader"
    CAPTURE_IMAGE = "capture_image"
    CHECK_READINESS = "check_readiness"
    RESTART = "restart"


class Architecture(StrEnum):
    """Of a machine's processor, in dpd's words."""

    X64 = "x64"
    ARM64 = "arm64"


class Firmware(StrEnum):
    """How the machine was started."""

    UEFI = "uefi"
    BIOS = "bios"


class Several(StrEnum):
    """How many of some conditions are to hold."""

    ALL = "all"
    ANY = "any"
    NONE = "none"


class Operator(StrEnum):
    """How a variable or a fact is compared with what the document says. Texts are compared in any case."""

    EXISTS = "exists"
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    LIKE = "like"  # a shell pattern


class HardwareFact(StrEnum):
    """What a hardware query may ask."""

    RAM_BYTES = "ram_bytes"
    DISK_BYTES = "disk_bytes"  # of the largest disk
    DISKS = "disks"
    CPUS = "cpus"
    FIRMWARE = "firmware"
    VENDOR = "vendor"
    MODEL = "model"
    SERIAL = "serial"
    MAC = "mac"  # any of its interfaces'
    GUID = "guid"


@dataclass(frozen=True, slots=True)
class Conditions:
    """All, any or none of some conditions."""

    rule: Several
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class VariableCondition:
    """A variable, compared. One that is not there equals nothing, and not_equals holds."""

    name: str
    operator: Operator
    value: str | int | bool


@dataclass(frozen=True, slots=True)
class PathCondition:
    """Whether a file or folder is there; `%NAME%` in the path is a variable."""

    path: str
    is_folder: bool
    exists: bool = True


@dataclass(frozen=True, slots=True)
class ArchitectureCondition:
    """One of these."""

    architectures: tuple[Architecture, ...]


@dataclass(frozen=True, slots=True)
class HardwareCondition:
    """A hardware query: a fact, compared. Of several values (mac) one is enough."""

    fact: HardwareFact
    operator: Operator
    value: str | int | bool


Condition: TypeAlias = "Conditions | VariableCondition | PathCondition | ArchitectureCondition | HardwareCondition"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that could take an operating system, by its device."""

    device: str
    size_bytes: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine is. `disks` are in the order in which steps count them, from 0. None: not known."""

    architecture: str
    firmware: str
    ram_bytes: int
    cpus: int = 1
    vendor: str = ""
    model: str = ""
    serial: str = ""
    guid: str = ""
    macs: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    is_wired: bool | None = None
    is_on_ac_power: bool | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `keys` has every key of its kind, those that the document leaves out with their defaults. A time limit of 0
    is none of its own; `retries` are tries after the first one. `line` and `lines`: of it and its keys in the document."""

    id: str
    name: str
    kind: StepKind
    keys: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    description: str = ""
    condition: Condition | None = None
    is_enabled: bool = True
    continue_on_error: bool = False
    retries: int = 0
    retry_delay_s: int = RETRY_DELAY_S
    time_limit_s: int = 0
    line: int = field(default=0, compare=False)
    lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    def text(self, key: str) -> str:
        """A key that is a text; variables in it are not yet put in."""
        return str(self.keys[key])

    def whole(self, key: str) -> int:
        """A key that is a whole number."""
        value = self.keys[key]
        assert isinstance(value, int), key
        return value

    def flag(self, key: str) -> bool:
        """A key that is true or false."""
        return self.keys[key] is True

    def texts(self, key: str) -> tuple[str, ...]:
        """A key that is a list of texts."""
        return tuple(str(each) for each in self._several(key))

    def wholes(self, key: str) -> tuple[int, ...]:
        """A key that is a list of whole numbers."""
        return tuple(each for each in self._several(key) if isinstance(each, int))

    def tables(self, key: str) -> tuple[Mapping[str, Value], ...]:
        """A key that is a list of tables, each with every key of its own."""
        return tuple(each for each in self._several(key) if isinstance(each, Mapping))

    def _several(self, key: str) -> tuple[object, ...]:
        value = self.keys[key]
        assert isinstance(value, tuple), key
        return value


@dataclass(frozen=True, slots=True)
class Group:
    """Steps and groups that are judged as one: the first that fails fails it, and with continue_on_error what is behind the group
    goes on."""

    id: str
    name: str
    members: tuple[Group | Step, ...]
    description: str = ""
    condition: Condition | None = None
    is_enabled: bool = True
    continue_on_error: bool = False
    line: int = field(default=0, compare=False)
    lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TaskSequence:
    """A whole one. `version` is 0 until it has been published; `variables` are what it begins with, below those of collections and
    computers. Without architectures or firmware it is for any."""

    name: str
    members: tuple[Group | Step, ...]
    description: str = ""
    version: int = 0
    time_limit_s: int = RUN_TIME_LIMIT_S
    architectures: tuple[Architecture, ...] = ()
    firmware: tuple[Firmware, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def walk(self) -> Iterator[Group | Step]:
        """Every group and step in the order of their turn, a group before its members."""
        yield from _walk(self.members)

    def steps(self) -> tuple[Step, ...]:
        """Every step, in the order of their turn."""
        return tuple(each for each in self.walk() if isinstance(each, Step))

    def enabled_steps(self) -> tuple[Step, ...]:
        """Those that may run, in the order of their turn."""
        return tuple(each for each in enabled(self.members) if isinstance(each, Step))

    def packages(self) -> tuple[str, ...]:
        """The IDs of content that its steps name, each once; those that only a variable will tell are not among them."""
        found = (each.text("package") for each in self.steps() if "package" in each.keys)
        return tuple(dict.fromkeys(each for each in found if each and "%" not in each))


def enabled(members: Sequence[Group | Step]) -> Iterator[Group | Step]:
    """Groups and steps that nobody has turned off, a group before its members."""
    for each in members:
        if each.is_enabled:
            yield each
            if isinstance(each, Group):
                yield from enabled(each.members)


def _walk(members: tuple[Group | Step, ...]) -> Iterator[Group | Step]:
    for each in members:
        yield each
        if isinstance(each, Group):
            yield from _walk(each.members)
