# SPDX-License-Identifier: Apache-2.0
"""Steps as JSON lines, timed from the first."""

from __future__ import annotations

import json
import time

import pytest

from dpd_probe.steps import Account


def test_each_step_is_a_line_with_its_time(capfd: pytest.CaptureFixture[str]) -> None:
    account = Account()
    account.tell("discover", mac="a\nb")
    time.sleep(0.02)
    account.tell("offer")
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first == {"step": "discover", "at_s": 0.0, "mac": "a\nb"}
    assert second["at_s"] >= 0.015
