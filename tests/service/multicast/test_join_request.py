# SPDX-License-Identifier: Apache-2.0
"""What receivers may say, and what is told to those who say something else."""

from __future__ import annotations

from typing import Any

import pytest

from dpd.errors import MalformedMessage
from dpd.service.multicast.join_request import JoinRequest, read_join, read_member, read_verified


def test_a_whole_request_is_read() -> None:
    request = {
        "wire": [1, 7],
        "verified": "05",
        "credit": 2000,
        "slots": 4,
        "name": "pc\n1",
        "member": "00000000000000ff",
        "ciphers": ["aes-128-gcm"],
        "of a later version": 1,
    }
    assert read_join(request, 3) == JoinRequest(0b101, 2000, 4, "pc1", 255, ("aes-128-gcm",))


def test_what_is_left_out_has_defaults() -> None:
    assert read_join({}, 3) == JoinRequest()
    assert read_join({"member": "", "verified": ""}, 3) == JoinRequest()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"wire": [2]}, "wire: this distribution point speaks version 1, the receiver offers [2]"),
        ({"wire": 1}, "wire: "),
        ({"verified": "ff"}, "verified: expected a slab set as hex digits: a set of 3 slabs takes 1 bytes"),
        ({"verified": "no"}, "verified: expected a slab set as hex digits: non-hexadecimal"),
        ({"verified": 7}, "verified: "),
        ({"credit": 0}, "credit: expected a whole number from 1 to 1048576, got 0"),
        ({"credit": True}, "credit: expected"),
        ({"slots": "many"}, "slots: expected a whole number from 1 to 1024, got 'many'"),
        ({"name": 5}, "name: expected the receiver's host name, got int"),
        ({"member": "xyz"}, "member: expected the 16 hex digits that the join answered"),
        ({"ciphers": "aes-128-gcm"}, "ciphers: expected a list"),
        ({"ciphers": [1]}, "ciphers: expected a list"),
    ],
)
def test_a_join_that_makes_no_sense_names_the_field(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_join(request_, 3)
    assert message in str(caught.value)


def test_names_are_cut() -> None:
    assert len(read_join({"name": "x" * 500}, 3).name) == 64


def test_members_and_slab_sets_are_read_alone_too() -> None:
    assert read_member({"member": "ff"}) == 255
    assert read_verified({"verified": "04"}, 3) == 0b100
    with pytest.raises(MalformedMessage):
        read_member({})
