# SPDX-License-Identifier: Apache-2.0
"""What a probe tells: one JSON object for each step, and how it ended.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

import json
import sys
import time
from enum import IntEnum


class Ending(IntEnum):
    """Exit codes."""

    BOOTED = 0  # the loader was fetched as a whole
    FAILED = 1  # it was told and could not be had
    USAGE = 2
    NO_ANSWER = 3
    NOT_TO_BOOT = 4  # the answer sends the machine to its next boot device
    NO_SCAPY = 5


class ProbeError(Exception):
    """The boot ends here. `reason` is one word for programs."""

    def __init__(self, ending: Ending, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.ending, self.reason = ending, reason


class Account:
    """Writes the steps as they come."""

    def __init__(self) -> None:
        self._began_at: float | None = None

    def tell(self, step: str, **fields: object) -> None:
        """One line; times are seconds since the first one."""
        if self._began_at is None:
            self._began_at = time.monotonic()
        told = {"step": step, "at_s": round(time.monotonic() - self._began_at, 3), **fields}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
