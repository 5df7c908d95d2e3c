# SPDX-License-Identifier: Apache-2.0
"""What the settings say of policy."""

from __future__ import annotations

import pytest

from dpd.settings import parse_settings
from dpd.site.stance import read_stance, unknown_computers_at
from dpd.site.subnets import Subnets

TEXT = """
[pxe]
unknown_computers = "deny"
[[pxe.subnet]]
network = "10.1.0.0/16"
unknown_computers = "pending"
[[pxe.subnet]]
network = "10.1.2.0/24"
max_blksize = 1024
"""


@pytest.mark.parametrize(
    ("address", "expected"), [("10.1.9.1", "pending"), ("10.1.2.1", "deny"), ("192.0.2.1", "deny")]
)
def test_a_subnet_may_have_its_own_stance_on_unknown_computers(address: str, expected: str) -> None:
    stance = read_stance(parse_settings(TEXT, "t"))
    assert unknown_computers_at(stance, Subnets(stance.tables), address) == expected


def test_settings_that_say_the_same_are_the_same_stance() -> None:
    one, other = (read_stance(parse_settings(text, "t")) for text in (TEXT, TEXT + "[tftp]\nmax_blksize = 1024\n"))
    assert one == other
    assert one != read_stance(parse_settings("", "t"))
