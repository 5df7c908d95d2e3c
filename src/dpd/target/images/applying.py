# SPDX-License-Identifier: Apache-2.0
"""An image of a WIM onto a volume: from the verified file that an earlier step received, from one that is received now, or while it
arrives. wimlib writes it; NTFS volumes as a whole, so that streams, descriptors and links are what they were.

    received before ─────────────────────────▶ applied from its file
    room for a local copy, multicast ────────▶ applied from the file that grows; without FUSE received whole, then applied
    room for a local copy, HTTP ─────────────▶ received whole, then applied
    no room ─────────────────────────────────▶ a pipable WIM from the stream of its slabs
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dpd.content.description import Description
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES, MAGIC, PIPABLE_MAGIC
from dpd.content.wim.xml import ImageSummary, read_images
from dpd.errors import ContentCorrupt
from dpd.target.images import keeping
from dpd.target.images.arriving import Arrival
from dpd.target.images.served_file import NotServable
from dpd.target.images.wimlib import progress_of
from dpd.target.work.program import ProgramFailed, Programs
from dpd.target.work.size_text import shown
from dpd.target.work.state import Received
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work

MAX_XML_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Goal:
    """Where an image goes: the device of a volume as a whole, or a folder of a mounted one."""

    place: str
    is_folder: bool
    volume: str
    has_unix_metadata: bool


def apply(work: Work, goal: Goal, package: str) -> str:
    """Apply the image that the step names. Returns what there is to say."""
    version, index = work.step.whole("version"), work.step.whole("index")
    received = keeping.find(work, package, version)
    if received is None:
        description = work.content.describe(package, version)
        check_image(work, str(description), description.images, index, goal)
        volume = _place(work, description, goal)
        if volume is None:
            _apply_stream(work, description, index, goal)
            return f"image {index} of {description}, while it arrived"
        if _apply_arriving(work, description, index, goal, volume):
            return f"image {index} of {description}, while it arrived"
        received = keeping.keep(work, description, volume, by_multicast=work.step.flag("multicast"))
    path = keeping.path_of(work, received)
    told = f"{received.package} version {received.version}"
    images = images_of(path)
    check_image(work, told, images, index, goal)
    if received.volume == goal.volume and not goal.is_folder:
        raise StepFailed(
            f"{told} lies on volume {received.volume!r}, which is to be written as a whole; keep it elsewhere: another partition as volume "
            "of the step that receives it, or no such step: an image is then applied while it arrives"
        )
    _wimlib(
        work.programs,
        [str(path), str(index)],
        goal,
        on_progress=lambda done, total: work.progress(done, total, "applied"),
    )
    _drop(work, received)
    return f"image {index} of {told}"


def images_of(path: Path) -> tuple[ImageSummary, ...]:
    """The images that a WIM here has. Raises StepFailed, ContentCorrupt."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
        if not start.startswith((MAGIC, PIPABLE_MAGIC)):
            raise StepFailed(f"{path.name}: is no WIM; an image to apply is published from a WIM file")
        data = WimFile(file.fileno()).read_header().xml_data  # of a pipable WIM the first one is empty
        if data.original_size > MAX_XML_BYTES:
            raise ContentCorrupt(f"{path.name}: XML of {data.original_size} bytes")
        file.seek(data.offset)
        return read_images(file.read(data.original_size))


def check_image(work: Work, told: str, images: tuple[ImageSummary, ...], index: int, goal: Goal) -> None:
    """Whether the image is there, for this machine, and has room. Raises StepFailed."""
    if not images:
        raise StepFailed(f"{told}: is no WIM with images; an image to apply is published from a WIM file")
    image = next((each for each in images if each.index == index), None)
    if image is None:
        there = ", ".join(f"{each.index} ({each.name})" for each in images[:10])
        raise StepFailed(f"{told}: has no image {index}; there are {there}")
    if image.architecture and image.architecture != work.facts.architecture and not goal.is_folder:
        raise StepFailed(
            f"{told}: image {index} is for {image.architecture}, this machine is {work.facts.architecture}; deploy one for it"
        )
    needed = image.size_bytes - image.hard_link_bytes
    if goal.is_folder:
        room = shutil.disk_usage(goal.place).free
    else:
        room = work.volumes.find(goal.volume).size_bytes
    if needed > room:
        raise StepFailed(
            f"{told}: image {index} has {shown(needed)}, volume {goal.volume!r} has room for {shown(room)}; make it larger in partition_disk"
        )


def _drop(work: Work, received: Received) -> None:
    if not work.step.flag("keep"):
        keeping.drop(work, received)


def _place(work: Work, description: Description, goal: Goal) -> str | None:
    """The volume for a local copy, "" for memory; None where there is to be none, or no room for it."""
    wish = work.step.text("stream")
    if wish == "always":
        return None
    if not description.is_one_file:
        raise StepFailed(
            f"{description}: is a {description.content_format}, expected a WIM in one file; export it with `dpd content export-image`"
        )
    wished = work.text("content_volume")
    if wished and not goal.is_folder and work.volumes.find(wished).name == goal.volume:
        raise StepFailed(
            f"content_volume {wished!r}: is to be written as a whole; name another partition, or none: an image is then kept where there "
            "is room"
        )
    volume = keeping.place_for(work, description, wished, unless="" if goal.is_folder else goal.volume)
    if volume is not None and goal.is_folder and volume == goal.volume:
        unpacked = sum(
            image.size_bytes - image.hard_link_bytes
            for image in description.images
            if image.index == work.step.whole("index")
        )
        if shutil.disk_usage(goal.place).free < description.size_bytes + unpacked:
            volume = None  # no room for both
    if volume is None and wish == "never":
        raise StepFailed(
            f"{description}: {shown(description.size_bytes)} have no room beside the image, and stream is never; add a partition, or set stream to auto"
        )
    return volume


def _apply_arriving(work: Work, description: Description, index: int, goal: Goal, volume: str) -> bool:
    """Apply what is verified while the rest comes by multicast. False: it is to be here before."""
    if not work.step.flag("multicast") or keeping.place_of(work, description, volume).is_file():
        return False
    try:
        arrival = Arrival(work, description, volume)
    except NotServable as error:
        work.log.write(f"  it is received whole, then applied, since nobody can read it here while it arrives: {error}")
        return False
    with arrival:
        try:
            programs = Programs(work.log, arrival.check)
            _wimlib(programs, [str(arrival.path), str(index)], goal, on_progress=arrival.note_applied)
        except ProgramFailed:
            arrival.check()  # where the reception failed, wimlib's I/O error says nothing
            raise
        arrival.finish()  # other images of the WIM may be behind this one, and the site counts who has all of it
    _drop(work, keeping.remember(work, description, volume))
    return True


def _apply_stream(work: Work, description: Description, index: int, goal: Goal) -> None:
    stream: Iterator[memoryview] = work.content.stream(
        description.package_id, description.source_version, work.watch_bytes
    )
    first = next(stream, memoryview(b""))
    start = bytes(first[:8])
    if start == MAGIC:
        raise StepFailed(
            f"{description}: there is no room for a local copy of {shown(description.size_bytes)}, and this WIM cannot be applied while it "
            "arrives; publish one made with `wimlib-imagex export … --pipable`, or give the machine a partition for content"
        )
    if start != PIPABLE_MAGIC:
        raise StepFailed(f"{description}: is no WIM; an image to apply is published from a WIM file")
    _wimlib(work.programs, ["-", str(index)], goal, feed=itertools.chain([first], stream))


def _wimlib(
    programs: Programs,
    source: list[str],
    goal: Goal,
    *,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    feed: Iterator[memoryview] | None = None,
) -> None:
    def watch(line: str) -> None:
        if found := progress_of(line):
            on_progress(*found)

    options = ["--unix-data"] if goal.has_unix_metadata else []
    programs.run("wimlib-imagex", "apply", *source, goal.place, *options, feed=feed, on_line=watch)
