# SPDX-License-Identifier: Apache-2.0
"""Fetches a package by HTTP, checked by its manifest, and keeps it for a later step."""

from __future__ import annotations

from dpd.target.images import keeping
from dpd.target.work.size_text import shown
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work


def run(work: Work) -> str:
    return fetch(work, by_multicast=False)


def fetch(work: Work, *, by_multicast: bool) -> str:
    """Receive what the step names, and tell where it is."""
    package, version = work.text("package"), work.step.whole("version")
    description = work.content.describe(package, version)
    received = keeping.find(work, package, description.source_version)
    if received is None or not keeping.path_of(work, received).exists():
        volume = keeping.place_for(work, description, work.text("volume"))
        if volume is None:
            raise StepFailed(
                f"{description}: {shown(description.size_bytes)} have no room on any volume and none in memory; add a partition for "
                "content, or leave this step out: an image is then applied while it arrives"
            )
        received = keeping.keep(work, description, volume, by_multicast=by_multicast)
    path = keeping.path_of(work, received)
    if variable := work.step.text("variable"):
        work.set_variable(variable, str(path))
    return (
        f"{description}, {shown(description.size_bytes)}, {f'on {received.volume}' if received.volume else 'in memory'}"
    )
