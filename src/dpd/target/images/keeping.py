# SPDX-License-Identifier: Apache-2.0
"""Where content is kept until it is applied: on a volume with room, else in memory; and what is known to be there."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpd.content.description import Description
from dpd.errors import DpdError
from dpd.target.work.facts import memory
from dpd.target.work.state import Received
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import MOUNTABLE
from dpd.target.work.work import Work

FOLDER = ".dpd-content"  # at the root of a volume; a capture leaves it out
SPARE_BYTES = 64 << 20  # left free beside what is kept
MEMORY_SHARE = 0.6  # of what is available: programs need the rest, and a machine without swap does not forgive


def find(work: Work, package: str, version: int) -> Received | None:
    """What an earlier step received; version 0 is whichever it took."""
    for each in work.state.received:
        if each.package == package and version in (0, each.version):
            return each
    return None


def path_of(work: Work, received: Received) -> Path:
    """Where it is now. Mounts its volume."""
    base = work.volumes.folder(received.volume) if received.volume else work.room
    return base / received.path


def choose(work: Work, size_bytes: int, volume: str = "", unless: str = "") -> str | None:
    """The volume to keep so much on, "" for memory, None where there is no room. `volume` is the one that is wished, `unless` one
    that is written as a whole. Raises StepFailed where the wished one has no room."""
    if volume:
        free = _free_bytes(work, volume)
        if free < size_bytes:
            raise StepFailed(
                f"volume {volume!r}: {free} bytes are free, {size_bytes} are needed; make it larger in partition_disk, or leave out "
                "volume so that another place is taken"
            )
        return work.volumes.find(volume).name
    candidates = []
    for each in work.volumes.all:
        if each.format in MOUNTABLE and each.name != unless:
            free = _free_bytes(work, each.name)
            if free >= size_bytes and not (each.format == "fat32" and size_bytes >= 1 << 32):
                candidates.append((each.format != "ntfs", free, each.name))
    for is_plain, _, name in sorted(candidates, reverse=True):
        if is_plain:  # an NTFS volume is the likeliest to be written as a whole
            return name
    if size_bytes <= memory()["MemAvailable"] * MEMORY_SHARE and size_bytes <= _room_bytes(work.room):
        return ""
    return candidates[0][2] if candidates else None


def place_for(work: Work, description: Description, volume: str = "", unless: str = "") -> str | None:
    """As `choose`, for a package; where an earlier try began, its space is taken already."""
    names = [volume] if volume else [each.name for each in work.volumes.all if each.format in MOUNTABLE] + [""]
    for name in names:
        if name != unless or not name:
            try:
                place = place_of(work, description, name)
            except (OSError, DpdError):  # cannot keep content; `choose` tells why
                continue
            if place.exists() or place.with_name(place.name + ".part").exists():
                return work.volumes.find(name).name if name else ""
    return choose(work, description.size_bytes, volume, unless)


def keep(work: Work, description: Description, volume: str, *, by_multicast: bool) -> Received:
    """Receive a package into a place that `choose` told, unless it is there."""
    package, version = description.package_id, description.source_version
    place = place_of(work, description, volume)
    place.parent.mkdir(parents=True, exist_ok=True)
    watch = work.watch_bytes
    if description.is_one_file:
        if not place.is_file():
            work.content.receive(package, version, place, watch, by_multicast=by_multicast)
    else:
        work.content.fetch_folder(description, place, watch)
    return remember(work, description, volume)


def place_of(work: Work, description: Description, volume: str) -> Path:
    """Where a package is to be kept. Mounts its volume."""
    base = work.volumes.folder(volume) if volume else work.room
    return base / FOLDER / _name(description)


def remember(work: Work, description: Description, volume: str) -> Received:
    """It is there, verified."""
    name = f"{FOLDER}/{_name(description)}"
    received = Received(description.package_id, description.source_version, name, volume)
    work.state.received[:] = [each for each in work.state.received if each != received] + [received]
    return received


def _name(description: Description) -> str:
    return f"{description.package_id}-{description.source_version}" + (".wim" if description.images else "")


def drop(work: Work, received: Received) -> None:
    """It was applied, and is not wanted any more."""
    place = path_of(work, received)
    shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
    work.state.received[:] = [each for each in work.state.received if each != received]
    try:
        place.parent.rmdir()
    except OSError:
        return  # something else is kept there


def _free_bytes(work: Work, name: str) -> int:
    try:
        free_bytes = shutil.disk_usage(work.volumes.folder(name)).free
    except (OSError, DpdError) as error:
        work.log.write(f"  volume {name}: cannot keep content: {error}")
        return 0
    return max(0, free_bytes - SPARE_BYTES)


def _room_bytes(room: Path) -> int:
    room.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(room).free
