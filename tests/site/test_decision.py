# SPDX-License-Identifier: Apache-2.0
"""What policy may answer."""

from __future__ import annotations

import pytest

from dpd.site.decision import Cause, Decision, Outcome


@pytest.mark.parametrize(
    ("outcome", "boots"),
    [
        (Outcome.BOOT, True),
        (Outcome.PROMPT, True),
        (Outcome.WAIT, True),
        (Outcome.ABORT, False),
        (Outcome.SILENT, False),
    ],
)
def test_what_gives_a_machine_something_to_run(outcome: Outcome, boots: bool) -> None:
    assert Decision(outcome, Cause.DEFAULT).boots is boots
