# SPDX-License-Identifier: Apache-2.0
"""The names on the bus."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.bus.subjects import Subjects, chunk_key, point_of, run_key, run_of_key

KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")  # what a NATS bucket takes
MACHINES = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", fullmatch=True),
)


def test_each_site_has_names_of_its_own() -> None:
    one, other = Subjects("north"), Subjects("south")
    assert (one.ask("p1"), one.hello("*"), one.notice) == ("dpd.north.ask.p1", "dpd.north.hello.*", "dpd.north.notice")
    assert one.buckets == ("dpd_north_policy", "dpd_north_runs", "dpd_north_desired")
    assert not {*one.buckets, one.status_stream} & {*other.buckets, other.status_stream}


def test_a_point_behind_a_leaf_sends_where_the_hub_does_not_listen() -> None:
    subjects = Subjects("lab")
    here, edge = subjects.status("p1"), subjects.status("p1", behind_leaf=True)
    assert (here, edge) == ("dpd.lab.status.p1", "dpd.lab.edge.p1")
    assert point_of(here) == point_of(edge) == "p1"


@given(st.integers(1, 2**40), MACHINES)
def test_the_key_of_a_run_is_one_of_a_bucket_and_tells_the_run(deployment: int, machine: str) -> None:
    key = run_key(deployment, machine)
    assert KEY.fullmatch(key)
    assert run_of_key(key) == (deployment, machine)


def test_a_name_with_dots_and_a_mac_have_keys_of_their_own() -> None:
    assert run_key(3, "pc.") == "3.pc=2E"
    assert run_key(3, "52:54:00:00:00:01") != run_key(3, "52-54-00-00-00-01")


@pytest.mark.parametrize("key", ["", "7", "7.", "x.pc"])
def test_what_is_no_key_of_a_run_is_told(key: str) -> None:
    with pytest.raises(ValueError):
        run_of_key(key)


def test_a_policy_has_two_slots_for_its_chunks() -> None:
    assert (chunk_key(0, 3), chunk_key(1, 0)) == ("chunk.0.3", "chunk.1.0")
