# SPDX-License-Identifier: Apache-2.0
"""Where an address is to fetch content, and why."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.site.boundaries import BoundaryMap
from dpd.site.records import Boundary, SiteError

MAP = BoundaryMap(
    [
        Boundary("10.0.0.0/8", ("hq", "spare")),
        Boundary("10.1.0.0/16", ("branch", "hq")),
        Boundary("10.1.2.0/24", ("room",)),
        Boundary("fd00::/8", ("six",)),
    ]
)


def test_the_narrowest_network_goes_first_then_wider_ones() -> None:
    assert MAP.points_for("10.1.2.3") == ("room", "branch", "hq", "spare")
    assert MAP.points_for("10.1.3.3") == ("branch", "hq", "spare")
    assert MAP.points_for("10.2.0.1") == ("hq", "spare")
    assert MAP.points_for("fd00::1%eth0") == ("six",)
    assert MAP.points_for("::ffff:10.2.0.1") == ("hq", "spare")
    assert MAP.points_for("192.0.2.1") == ()


def test_the_answer_says_why() -> None:
    answer = MAP.look_up(" 10.1.2.3 ")
    assert (answer.address, answer.boundaries) == ("10.1.2.3", ("10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8"))
    assert (
        answer.reason
        == "10.1.2.0/24 is the narrowest boundary that holds 10.1.2.3: room; then what wider ones name (10.1.0.0/16, 10.0.0.0/8)"
    )
    assert MAP.look_up("10.2.0.1").reason == "10.0.0.0/8 is the narrowest boundary that holds 10.2.0.1: hq, spare"
    assert MAP.look_up("192.0.2.1").reason == "no boundary holds 192.0.2.1; `dpd boundary list` shows those there are"


@pytest.mark.parametrize("text", ["", "10.1.2", "10.1.2.3/24", "branch"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SiteError, match="expected such as"):
        MAP.look_up(text)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=8), st.integers(0, 2**32 - 1))
def test_it_is_what_a_look_at_each_network_says(given: list[tuple[int, int]], address: int) -> None:
    networks = {ipaddress.ip_network((number, length), strict=False) for number, length in given}
    boundaries = {network: Boundary(str(network), (f"p{network}",)) for network in networks}
    host = ipaddress.ip_address(address)
    holding = sorted((n for n in networks if host in n), key=lambda n: -n.prefixlen)
    assert BoundaryMap(boundaries.values()).look_up(str(host)).boundaries == tuple(map(str, holding))
