# SPDX-License-Identifier: Apache-2.0
"""Waits between tries: longer each time, reset by progress, never beyond the limit."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest

from dpd.errors import DpdError
from dpd.target.distribution_point.patience import Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in one entry; sleeping moves it."""
    now = [100.0]

    def sleep(wait_s: float) -> None:
        now[0] += wait_s

    monkeypatch.setattr(
        "dpd.target.distribution_point.patience.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    )
    return now


def test_waits_grow_until_patience_is_over(clock: list[float]) -> None:
    patience = Patience(60.0)
    times = [clock[0]]

    def try_for_ever() -> None:
        while True:
            patience.wait(DpdError("the last reason"))
            times.append(clock[0])

    with pytest.raises(DpdError, match="the last reason"):
        try_for_ever()
    waits = [after - before for before, after in pairwise(times)]
    assert all(0.25 <= wait <= 10.0 for wait in waits)
    assert sum(waits) <= 60.0
    assert min(waits[-3:]) > max(waits[:2])


def test_progress_begins_it_anew(clock: list[float]) -> None:
    patience = Patience(1.0)
    clock[0] += 2.0
    assert patience.is_over
    patience.reset()
    assert not patience.is_over
    patience.wait(DpdError("not raised"))
