# SPDX-License-Identifier: Apache-2.0
"""Which of a machine's deployments counts at a moment, or why none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dpd.site.decision import Cause
from dpd.site.records import ALL_COMPUTERS, Audience, Deployment, Purpose

_REASONS = (
    Cause.NOTHING_DEPLOYED,
    Cause.NOT_FOR_PXE,
    Cause.EXPIRED,
    Cause.NOT_YET,
    Cause.NO_IMAGE_FOR_ARCH,
    Cause.ALREADY_RUN,
)  # the last counts
# Under names of their own: each PXE answer comes this way, and see `protocol.pxe.rules` for what the others cost.
_EXPIRED, _REQUIRED, _AVAILABLE, _CLIENTS = Cause.EXPIRED, Cause.REQUIRED, Purpose.AVAILABLE, Audience.CLIENTS


@dataclass(slots=True)
class Choice:
    """A deployment, or none and why."""

    cause: Cause
    deployment: Deployment | None = None


def choose(
    deployments: Sequence[Deployment],
    at: float,
    *,
    has_run: Callable[[Deployment], bool],
    fits: Callable[[Deployment], bool],
) -> Choice:
    """The deployment that counts: the first of these, in the order of `ranked`, against which nothing stands.

    `has_run` tells whether the machine has run a required one so that it is not to run it again, `fits` whether its boot image has the machine's architecture.
    """
    cause = Cause.NOTHING_DEPLOYED
    for each in deployments:
        why = _EXPIRED if each.has_ended(at) else None if each.has_begun(at) else Cause.NOT_YET
        if each.audience is _CLIENTS:
            why = Cause.NOT_FOR_PXE
        if why is None and not fits(each):
            why = Cause.NO_IMAGE_FOR_ARCH
        if why is None and each.purpose is _AVAILABLE:
            return Choice(Cause.AVAILABLE, each)
        if why is None and not has_run(each):
            return Choice(_REQUIRED, each)
        cause = max(cause, why or Cause.ALREADY_RUN, key=_REASONS.index)
    return Choice(cause)


def ranked(deployments: Iterable[Deployment]) -> tuple[Deployment, ...]:
    """Higher priority first, then what names the computer itself, then what names a collection of it, then what is for all;
    then required, then the newer one."""
    return tuple(sorted(deployments, key=_rank))


def _rank(deployment: Deployment) -> tuple[int, int, bool, int]:
    width = 2 if deployment.target == ALL_COMPUTERS else 1 if deployment.collection else 0
    return -deployment.priority, width, deployment.purpose is not Purpose.REQUIRED, -deployment.id
