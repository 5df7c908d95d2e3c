# SPDX-License-Identifier: Apache-2.0
"""Receives a package by multicast, together with others; by HTTP where multicast does not get through."""

from __future__ import annotations

import copy

from dpd.target.steps import download_content
from dpd.target.work.work import Work


def run(work: Work) -> str:
    work.content = copy.copy(work.content)  # what this step says is not for those behind it
    work.content.patience_s = float(work.step.whole("patience_s"))
    work.content.may_be_unicast = work.step.flag("fall_back")
    return download_content.fetch(work, by_multicast=True)
