# SPDX-License-Identifier: Apache-2.0
"""A process that orders and works off jobs until it is killed (tests.prepared).

It prints a line for what it has been told is so: `ordered ID` when the desk has answered, `over ID STATE` when a job has
ended. With 0 seconds it orders nothing, works off what is open, and ends by itself. The other place has one version more
at each run, so that updates bring one and take others out.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.distribution.contents import OtherPlace

from dpd.content.library import Library
from dpd.content_settings import DistributionSettings
from dpd.distribution.database import open_database
from dpd.distribution.distribution import Distribution, Means
from dpd.distribution.jobs.job import JobKind, JobOrder, Priority
from dpd.errors import JobError
from dpd.settings import Settings
from dpd.telemetry.events import Value

KINDS = (JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REMOVE, JobKind.REDISTRIBUTE)
PACKAGES = tuple(f"P{number}" for number in range(6))


def say(*words: object) -> None:
    """A line, whole: several threads say something."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def tell(event: str, fields: Mapping[str, Value]) -> None:
    if event in ("job.done", "job.failed", "job.cancelled"):
        say("over", fields["job"], fields["state"])


def main(place_of_all: str, number: str, seconds: str) -> None:
    folder, rng = Path(place_of_all), random.Random(int(number))
    with Library(folder / "library", slab_bytes=1 << 20) as library:
        place = OtherPlace(library, folder)
        versions = range(1, int(number) + 2)
        place.has = {
            package: {each: b"%d" % each + package.encode() * 1000 for each in versions} for package in PACKAGES
        }
        settings = Settings(distribution=DistributionSettings(concurrent_jobs=3, attempts=1000))
        means = Means(place, place, {}, tell)
        distribution = Distribution(settings, library, open_database(folder / "d.db"), means)
        distribution.start()
        say("begun")
        ends_at = time.monotonic() + float(seconds)
        while time.monotonic() < ends_at:
            act(distribution, rng)
        while distribution.desk.open_jobs():
            time.sleep(0.01)
        distribution.stop()


def act(distribution: Distribution, rng: random.Random) -> None:
    if rng.randrange(4) == 0 and (jobs := distribution.desk.open_jobs()):
        with suppress(JobError):  # it has ended meanwhile
            distribution.desk.cancel(rng.choice(jobs).id)
        return
    order = JobOrder(rng.choice(KINDS), rng.choice(PACKAGES), None, rng.choice(tuple(Priority)))
    say("ordered", distribution.desk.submit(order).id)
