# SPDX-License-Identifier: Apache-2.0
"""How a step says that it cannot."""

from __future__ import annotations

from dpd.errors import DpdError


class StepFailed(DpdError):
    """A step cannot do what it is there for: what, where, and the next thing to try."""


class RunEnded(DpdError):
    """The run is over, whatever the step has left to do: cancelled, or out of time."""
