# SPDX-License-Identifier: Apache-2.0
"""Applies an image of a WIM to a freshly formatted partition: NTFS, ext4 or btrfs."""

from __future__ import annotations

from dpd.target.disks.formatting import make_file_system
from dpd.target.images.applying import Goal, apply
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work


def run(work: Work) -> str:
    volume = work.volumes.find(work.text("volume"))
    if volume.format not in ("ntfs", "ext4", "btrfs"):
        raise StepFailed(
            f"volume {volume.name!r}: is {volume.format or 'not formatted'}, expected ntfs, ext4 or btrfs for an operating system"
        )
    _clean(work, volume.name)
    if volume.format == "ntfs":
        goal = Goal(work.volumes.device(volume.name), is_folder=False, volume=volume.name, has_unix_metadata=False)
    else:
        goal = Goal(str(work.volumes.folder(volume.name)), is_folder=True, volume=volume.name, has_unix_metadata=True)
    said = apply(work, goal, work.text("package"))
    work.state.dirty.remove(volume.name)
    work.state.system_volume = volume.name
    return f"{said} to {volume.name}"


def _clean(work: Work, name: str) -> None:
    """What an earlier try left would be mixed with the image: made anew, unless the image itself is kept there."""
    state = work.state
    if name in state.dirty and not any(each.volume == name for each in state.received):
        work.volumes.device(name)  # unmounts it
        make_file_system(work.programs, work.volumes.find(name))
    if name not in state.dirty:
        state.dirty.append(name)
        work.keep()
