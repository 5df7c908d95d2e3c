# SPDX-License-Identifier: Apache-2.0
"""Other servers' part in a boot that failed."""

from __future__ import annotations

import pytest
from tests.explain.stories import (
    discover,
    foreign_offer,
    lease_request,
    offer,
    told,
)

from dpd.explain.findings import BootCause

ANSWERED = (discover(), offer(), lease_request())


@pytest.mark.parametrize(
    ("at", "words"), [(0.001, "answered first"), (0.5, "answered too, after dpd")], ids=["before", "after"]
)
def test_another_proxy_is_told_with_its_turn(at: float, words: str) -> None:
    events = sorted([*ANSWERED, foreign_offer("proxy", at)], key=lambda each: each.at)
    story = told(*events)
    assert story.cause is BootCause.SECOND_PROXY
    assert words in story.sentence


def test_a_file_of_the_lease_server_is_named() -> None:
    story = told(
        discover(), foreign_offer("lease file", server="10.0.0.2", loader="pxelinux.0"), offer(), lease_request()
    )
    assert story.cause is BootCause.LEASE_SERVER_SETS_FILE
    assert "10.0.0.2 names a boot file itself (pxelinux.0)" in story.sentence
    assert "dpd pxe options" in story.next_step
