# SPDX-License-Identifier: Apache-2.0
"""Sets a variable for the steps that follow."""

from __future__ import annotations

from dpd.sequence.variables import HIDDEN
from dpd.target.work.work import Work


def run(work: Work) -> str:
    name, value = work.step.text("variable"), work.text("value")
    is_secret = work.step.flag("secret") or work.variables.mask(value) != value
    work.set_variable(name, value, is_secret)
    return f"{name} is {HIDDEN if is_secret else repr(value)}"
