# SPDX-License-Identifier: Apache-2.0
"""The volumes of a run by their names: mounted when a step needs their files, unmounted when one writes them as a whole."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from dpd.target.work.file_system import existing_volume
from dpd.target.work.program import ProgramFailed, Programs
from dpd.target.work.state import State, Volume
from dpd.target.work.step_failure import StepFailed

BY_PARTITION = Path("/dev/disk/by-partuuid")
MOUNTABLE = ("ext4", "btrfs", "fat32", "ntfs")
_KERNEL_TYPE = {"fat32": "vfat"}
INTO_SYSTEM = ("proc", "sys", "dev", "run")  # what a program inside the new system expects


class Volumes:
    """Mounts below `home`; what the state says is there."""

    def __init__(self, state: State, programs: Programs, home: Path) -> None:
        self._state = state
        self._programs = programs
        self._home = home
        self._mounted: dict[str, Path] = {}  # in the order of mounting
        self._bound: dict[str, list[Path]] = {}

    @property
    def all(self) -> tuple[Volume, ...]:
        return tuple(self._state.volumes)

    def find(self, name: str) -> Volume:
        """By its name, or an existing partition by its device. Raises StepFailed."""
        for volume in self._state.volumes:
            if volume.name.lower() == name.lower():
                return volume
        if name.startswith("/dev/"):
            volume = existing_volume(name)
            self._state.volumes.append(volume)
            return volume
        known = (
            ", ".join(volume.name for volume in self._state.volumes) or "none: is there a partition_disk step before?"
        )
        raise StepFailed(f"volume {name!r}: no step made a partition of this name; there are: {known}")

    def replace(self, disk: str, volumes: list[Volume]) -> None:
        """A disk was partitioned: what it had is gone, with all that was received there."""
        gone = {each.name for each in self._state.volumes if each.disk == disk}
        kept = [each for each in self._state.volumes if each.disk != disk]
        for volume in volumes:
            if any(each.name.lower() == volume.name.lower() for each in kept):
                raise StepFailed(
                    f"volume {volume.name!r}: another disk has a partition of this name; names are for all disks"
                )
        self._state.volumes[:] = kept + volumes
        self._state.dirty[:] = [name for name in self._state.dirty if name not in gone]
        self._state.received[:] = [each for each in self._state.received if not each.volume or each.volume not in gone]

    def folder(self, name: str) -> Path:
        """Where the files of a volume are; mounts it. Raises StepFailed, ProgramFailed."""
        volume = self.find(name)
        if volume.name == self._state.root_volume:
            return Path("/")
        if volume.name in self._mounted:
            return self._mounted[volume.name]
        if volume.format not in MOUNTABLE:
            raise StepFailed(f"volume {volume.name!r}: is {volume.format or 'not formatted'}, which has no files")
        place = self._home / volume.name.replace("/", "-").lstrip("-")
        place.mkdir(parents=True, exist_ok=True)
        device = device_of(volume)
        if volume.format == "ntfs":
            self._programs.run("ntfs-3g", device, place)
        else:
            self._programs.run("mount", "-t", _KERNEL_TYPE.get(volume.format, volume.format), device, place)
        self._mounted[volume.name] = place
        return place

    def device(self, name: str) -> str:
        """The device of a volume that nothing holds any more, to be written as a whole. Raises StepFailed, ProgramFailed."""
        volume = self.find(name)
        self.release(volume.name)
        return device_of(volume)

    def system(self, name: str) -> Path:
        """The folder of a system that programs can run in: with /proc, /sys, /dev and /run in it."""
        root = self.folder(name)
        volume = self.find(name)
        if root == Path("/") or volume.name in self._bound:
            return root
        self._bound[volume.name] = bound = []
        for part in INTO_SYSTEM:
            inside = root / part
            inside.mkdir(exist_ok=True)
            self._programs.run("mount", "-o", "bind", f"/{part}", inside)
            bound.append(inside)
        return root

    def bind(self, name: str, source: Path, inside: str) -> None:
        """Show a folder at a place within a system, until the volume is released."""
        place = self.system(name) / inside.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        self._programs.run("mount", "-o", "bind", source, place)
        self._bound[self.find(name).name].append(place)

    def release(self, name: str) -> None:
        """Unmount one, written to the disk. Raises ProgramFailed where something still uses it."""
        for inside in reversed(self._bound.pop(name, [])):
            self._unmount(inside)
        if place := self._mounted.pop(name, None):
            self._unmount(place)

    def release_all(self) -> None:
        """Unmount everything; what cannot be is told in the log and left."""
        for name in [*self._bound, *reversed(self._mounted)]:
            with contextlib.suppress(ProgramFailed):
                self.release(name)
        os.sync()

    def release_left(self) -> None:
        """Unmount what a killed predecessor left, the innermost first: what is mounted is neither mounted again nor made anew."""
        home = f"{self._home.resolve()}/"
        told = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        places = [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[1]) for line in told]
        for place in reversed(places):
            if place.startswith(home):
                self._unmount(Path(place))

    def _unmount(self, place: Path) -> None:
        try:
            self._programs.run("umount", place)
        except ProgramFailed:
            os.sync()
            self._programs.run("umount", "-l", place)


def device_of(volume: Volume) -> str:
    """Its device now: after a restart disks may have changed their names. Raises StepFailed."""
    by_uuid = BY_PARTITION / volume.partition_uuid.lower()
    if volume.partition_uuid and by_uuid.exists():
        return str(by_uuid.resolve())
    if not os.path.exists(volume.device):
        raise StepFailed(
            f"volume {volume.name!r}: its device {volume.device} is not there; is the disk still connected?"
        )
    return volume.device


def inside(root: Path, path: str) -> Path:
    """A path within a folder, and not beside it. Raises StepFailed."""
    if not path.strip("/"):
        return root
    place = root / path.lstrip("/")
    parent = Path(os.path.realpath(place.parent))
    real_root = Path(os.path.realpath(root))
    leads_out = place.is_dir() and not Path(os.path.realpath(place)).is_relative_to(real_root)
    if ".." in place.relative_to(root).parts or not parent.is_relative_to(real_root) or leads_out:
        raise StepFailed(
            f"{path}: leads out of its volume; expected a path below the volume's root, through no link to elsewhere"
        )
    return place
