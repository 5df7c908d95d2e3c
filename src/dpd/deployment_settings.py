# SPDX-License-Identifier: Apache-2.0
"""The table [deployment]: what machines that run a task sequence may leave here."""

from __future__ import annotations

from dataclasses import dataclass

from dpd import setting_rules as rules


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """[deployment]: what machines that run a task sequence may leave here."""

    capture_quota_gib: int = rules.number(
        100, 0, 1 << 20, "GiB of captured images that may be on their way in at once; 0 means none is taken"
    )
