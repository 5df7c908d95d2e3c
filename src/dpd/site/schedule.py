# SPDX-License-Identifier: Apache-2.0
"""Which of a machine's deployments counts at a moment, or why none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dpd.site.decision import Cause
from dpd.site.records import ALL_COMPUTERS, Deployment, Purpose


@dataclass(slots=True)
class Choice:
    """A deployment, or none and why."""

    cause: Cause
    deployment: Deployment | None = None


def choose(
    deployments: Iterable[Deployment],
    at: float,
    *,
    has_run: Callable[[Deployment], bool],
    fits: Callable[[Deployment], bool],
) -> Choice:
    """The deployment that counts. Higher priority first, then what names the computer itself, then required, then the newer one.

    `has_run` tells whether the machine has run a required one, `fits` whether its boot image has the machine's architecture.
    """
    aimed = list(deployments)
    if len(aimed) > 1:
        aimed.sort(key=_rank)
    if not aimed:
        return Choice(Cause.NOTHING_DEPLOYED)
    current = [each for each in aimed if each.has_begun(at) and not each.has_ended(at)]
    if not current:
        begins_later = any(not each.has_begun(at) and not each.has_ended(at) for each in aimed)
        return Choice(Cause.NOT_YET if begins_later else Cause.EXPIRED)
    fitting = [each for each in current if fits(each)]
    if not fitting:
        return Choice(Cause.NO_IMAGE_FOR_ARCH)
    for each in fitting:
        if each.purpose is Purpose.AVAILABLE:
            return Choice(Cause.AVAILABLE, each)
        if not has_run(each):
            return Choice(Cause.REQUIRED, each)
    return Choice(Cause.ALREADY_RUN)


def _rank(deployment: Deployment) -> tuple[int, bool, bool, int]:
    names_all = deployment.target == ALL_COMPUTERS
    return -deployment.priority, names_all, deployment.purpose is not Purpose.REQUIRED, -deployment.id
