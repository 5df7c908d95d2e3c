# SPDX-License-Identifier: Apache-2.0
"""A restart is asked for, and told before."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import Stage

from dpd.target.steps import restart
from dpd.target.work.work import RestartAsked


def test_it_asks_for_what_the_step_says(tmp_path: Path) -> None:
    stage = Stage(tmp_path, variables={"Name": "PC-1"})
    with pytest.raises(RestartAsked) as asked:
        restart.run(stage.work('do = "restart"\nmessage = "%Name% restarts"\nresume_volume = "root"'))
    assert (asked.value.to, asked.value.resume_volume) == ("disk", "root")
    assert stage.shown == ["PC-1 restarts"]
