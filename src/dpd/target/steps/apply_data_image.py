# SPDX-License-Identifier: Apache-2.0
"""Applies an image of a WIM to a folder of a partition that may hold something already."""

from __future__ import annotations

from dpd.target.disks.ntfs_protection import make_folders, protect_new
from dpd.target.images.applying import Goal, apply
from dpd.target.work.volumes import inside
from dpd.target.work.work import Work


def run(work: Work) -> str:
    volume = work.volumes.find(work.text("volume"))
    folder = inside(work.volumes.folder(volume.name), work.text("folder"))
    make_folders(volume, folder)
    goal = Goal(str(folder), is_folder=True, volume=volume.name, has_unix_metadata=volume.format in ("ext4", "btrfs"))
    said = apply(work, goal, work.text("package"))
    protect_new(volume, folder)
    return f"{said} to {volume.name}:/{work.text('folder').strip('/')}"
