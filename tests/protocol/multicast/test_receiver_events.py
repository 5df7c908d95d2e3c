# SPDX-License-Identifier: Apache-2.0
"""What an order of the sender means to one member."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.message import Control, ControlCode, Header, MessageType
from dpd.protocol.multicast.receiver_events import Ignored, SessionFact, event_of

MEMBER = 0xABCD_0000_0009


def control(code: int, *members: int) -> Control:
    return Control(Header(MessageType.CONTROL, 1, 1, row=code), 0, members)


@pytest.mark.parametrize("code", [ControlCode.MOVE, ControlCode.FALL_BACK, ControlCode.KICK])
def test_members_are_named_by_the_low_half_of_their_ids(code: ControlCode) -> None:
    expected = {
        ControlCode.MOVE: SessionFact.MOVED,
        ControlCode.FALL_BACK: SessionFact.FALL_BACK,
        ControlCode.KICK: SessionFact.KICKED,
    }
    assert event_of(control(code, 1, 9), MEMBER) is expected[code]
    assert event_of(control(code, 1, 8), MEMBER) is None
    assert event_of(control(code), MEMBER) is None


def test_the_end_names_nobody_and_is_for_all() -> None:
    assert event_of(control(ControlCode.END), MEMBER) is SessionFact.ENDED


@pytest.mark.parametrize("code", [0, 5, 254])
def test_codes_of_later_versions_are_ignored_by_name(code: int) -> None:
    assert event_of(control(code, 9), MEMBER) == Ignored("unknown_order")
