# SPDX-License-Identifier: Apache-2.0
"""Copies a package's drivers into the new system, for its first start to find."""

from __future__ import annotations

from dpd.target.disks.ntfs_protection import make_folders, protect
from dpd.target.work.size_text import shown
from dpd.target.work.volumes import inside
from dpd.target.work.work import Work


def run(work: Work) -> str:
    package = work.text("package")
    description = work.content.describe(package, work.step.whole("version"))
    volume = work.volumes.find(work.text("volume"))
    place = inside(work.volumes.folder(volume.name), work.text("folder")) / package
    make_folders(volume, place)
    work.content.fetch_folder(description, place, work.watch_bytes)
    protect(volume, place, is_readable=True)
    return f"{description}: {len(description.files)} files, {shown(description.size_bytes)}"
