# SPDX-License-Identifier: Apache-2.0
"""Captures a partition to a WIM and hands it to the distribution point as a new version of a package.

The upload is resumed where it was: the point tells how much it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from dpd.content.signatures.document import PACKAGE_ID
from dpd.errors import DpdError
from dpd.sequence.exchange import CaptureWish
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.distribution_point.patience import Patience
from dpd.target.images import keeping
from dpd.target.images.applying import images_of
from dpd.target.images.wimlib import progress_of
from dpd.target.work.size_text import shown
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work

PIECE_BYTES = 4 << 20
PATIENCE_S = 600.0
# What belongs to this start of the machine, and not to the system. wimlib's own defaults leave out Windows' paging files.
EXCLUDED = (
    f"/{keeping.FOLDER}",
    "/lost+found",
    "/var/lib/dpd-target",
    "/proc/*",
    "/sys/*",
    "/dev/*",
    "/run/*",
    "/tmp/*",
)
EXCLUDED_ON_WINDOWS = (
    "/$ntfs.log",
    "/hiberfil.sys",
    "/pagefile.sys",
    "/swapfile.sys",
    "/System Volume Information",
    "/RECYCLER",
    "/$RECYCLE.BIN",
    "/Windows/CSC",
)


def run(work: Work) -> str:
    package = work.text("package_id")
    if not PACKAGE_ID.fullmatch(package):
        raise StepFailed(f"package_id {package!r}: expected 1 to 64 of [A-Za-z0-9._-]")
    if work.desk is None:
        raise StepFailed("there is no distribution point to hand the image to")
    volume = work.volumes.find(work.text("volume"))
    place = _place(work, volume.name, volume.format)
    wim = place / f"{package}.capture.wim"
    try:
        _capture(work, volume.name, volume.format, wim)
        (image,) = images_of(wim)
        size_bytes = wim.stat().st_size
        captured = _hand_over(work, package, wim, size_bytes)
    finally:
        wim.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is kept there
            place.rmdir()
    return f"{captured}: {shown(image.size_bytes)} in {image.file_count} files, as a WIM of {shown(size_bytes)}"


def _place(work: Work, name: str, format: str) -> Path:
    """Where the WIM is written, with room for the worst: an image that compresses not at all."""
    if format not in ("ntfs", "ext4", "btrfs"):
        raise StepFailed(f"volume {name!r}: is {format or 'not formatted'}, expected ntfs, ext4 or btrfs to capture")
    needed = shutil.disk_usage(work.volumes.folder(name)).used
    itself = name if format == "ntfs" else ""  # which wimlib reads as a device
    volume = keeping.choose(work, needed, unless=itself)
    if volume is None:
        raise StepFailed(
            f"volume {name!r}: its {shown(needed)} have no room on any volume and none in memory; add a disk or a partition for the image"
        )
    place = (work.volumes.folder(volume) if volume else work.room) / keeping.FOLDER
    place.mkdir(parents=True, exist_ok=True)
    return place


def _capture(work: Work, name: str, format: str, wim: Path) -> None:
    def watch(line: str) -> None:
        if found := progress_of(line):
            work.progress(*found, "captured")

    excluded = EXCLUDED_ON_WINDOWS if format == "ntfs" else EXCLUDED
    work.room.mkdir(parents=True, exist_ok=True)
    settings = work.room / "capture.ini"
    settings.write_text("[ExclusionList]\n" + "\n".join(excluded) + "\n", "utf-8")
    if format == "ntfs":
        source, options = work.volumes.device(name), []
    else:
        source, options = str(work.volumes.folder(name)), ["--unix-data"]
    title = work.text("image_name") or work.text("package_id")
    # wimlib takes description and name as they are, also when they begin with dashes
    options += [f"--compress={work.step.text('compression')}", "--check", f"--config={settings}"]
    wim.unlink(missing_ok=True)
    work.programs.run(
        "wimlib-imagex", "capture", source, wim, title, work.text("image_description"), *options, on_line=watch
    )


def _hand_over(work: Work, package: str, wim: Path, size_bytes: int) -> str:
    desk = work.desk
    assert desk is not None
    digest = _sha256(work, wim)
    patience = Patience(PATIENCE_S)
    place = None
    offset = 0
    with wim.open("rb") as file:
        while True:
            work.check()
            try:
                if place is None:
                    place = desk.begin_capture(CaptureWish(work.state.execution, package, size_bytes))
                    offset = place.offset
                if offset >= size_bytes:
                    captured = desk.finish_capture(place.capture, digest)
                    return f"{captured.package_id} version {captured.source_version}"
                file.seek(offset)
                before, offset = offset, desk.put_capture(place.capture, file.read(PIECE_BYTES), offset, size_bytes)
            except Unreachable as error:
                work.log.write(f"  waiting: {error}")
                place = None  # which tells how much is there
                patience.wait(error)
                continue
            if not 0 <= offset <= size_bytes:
                raise DpdError(f"the distribution point has {offset} bytes of an image of {size_bytes}")
            if offset > before:
                patience.reset()
            work.progress(offset, size_bytes, "handed over")


def _sha256(work: Work, wim: Path) -> str:
    digest = hashlib.sha256()
    with wim.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            work.check()
            digest.update(piece)
    return digest.hexdigest()
