# SPDX-License-Identifier: Apache-2.0
"""The verbs of distribution, where there is none and while dpd ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dpd.control.operations.job import JobOperations
from dpd.distribution.jobs.job import JobKind, JobOrder
from dpd.errors import Unavailable


async def at_once(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


async def test_without_distribution_every_verb_says_so_and_content_goes_on() -> None:
    verbs = JobOperations(None, at_once, lambda: None)
    with pytest.raises(Unavailable, match="runs without distribution"):
        await verbs.submit(JobOrder(JobKind.GC))
    with pytest.raises(Unavailable):
        await verbs.open_jobs()
    verbs.refuse_new_content()
    await verbs.before_removal("A", 1)
    await verbs.changed("A")


async def test_no_job_begins_while_dpd_ends() -> None:
    def refuse() -> None:
        raise Unavailable("dpd is shutting down")

    verbs = JobOperations(None, at_once, refuse)
    for verb in (verbs.submit(JobOrder(JobKind.GC)), verbs.retry(1, "alice")):
        with pytest.raises(Unavailable, match="shutting down"):
            await verb
