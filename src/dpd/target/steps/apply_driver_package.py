# SPDX-License-Identifier: Apache-2.0
"""Copies a package's drivers into the new system, for its first start to find."""

from __future__ import annotations

from dpd.target.size_text import shown
from dpd.target.volumes import inside
from dpd.target.work import Work


def run(work: Work) -> str:
    package = work.text("package")
    description = work.content.describe(package, work.step.whole("version"))
    place = inside(work.volumes.folder(work.text("volume")), work.text("folder")) / package
    place.mkdir(parents=True, exist_ok=True)
    work.content.fetch_folder(description, place, work.watch_bytes)
    return f"{description}: {len(description.files)} files, {shown(description.size_bytes)}"
