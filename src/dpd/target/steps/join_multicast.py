# SPDX-License-Identifier: Apache-2.0
"""Receives a package by multicast, together with others; by HTTP where multicast does not get through."""

from __future__ import annotations

from dpd.errors import ContentError, DpdError
from dpd.target.reception import Kicked
from dpd.target.step_failure import StepFailed
from dpd.target.steps import download_content
from dpd.target.work import RunEnded, Work


def run(work: Work) -> str:
    may_fall_back = work.step.flag("fall_back")
    work.content.patience_s = float(work.step.whole("patience_s"))
    work.content.may_be_unicast = may_fall_back
    try:
        return download_content.fetch(work, by_multicast=True)
    except (RunEnded, ContentError, StepFailed, Kicked):  # where HTTP is no help
        raise
    except DpdError as error:
        if not may_fall_back:
            raise
        work.log.write(f"  multicast failed, HTTP is taken: {error}")
        return download_content.fetch(work, by_multicast=False)
