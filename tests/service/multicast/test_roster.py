# SPDX-License-Identifier: Apache-2.0
"""Places: one for each receiver, and what stays when it goes."""

from __future__ import annotations

from typing import Any

import pytest

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.geometry import SLAB_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import Tally
from dpd.protocol.multicast.pacing import Credit, Standing
from dpd.service.multicast import roster
from dpd.service.multicast.roster import Roster, describe, keep_counts, read_statistics, short, totals

SIZE = 3 * SLAB_BYTES


def member(tally: Tally, *, nacks: int = 0, blame: int = 0) -> Member:
    return Member(
        1, Credit(500, 0), Standing(), 4, 0b011, False, 0.0, tally=tally, nacks=nacks, blame=blame
    )  # fmt: skip


def test_ids_are_unique_in_the_half_that_control_names_them_by(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([0x1_0000_0007, 0x2_0000_0007, 0x3_0000_0000, 0x2_0000_0008])
    monkeypatch.setattr("dpd.service.multicast.roster.secrets.randbits", lambda _: next(numbers))
    places = Roster()
    assert [short(places.seat("192.0.2.1", "").member) for _ in range(2)] == [7, 8]


def test_a_receiver_that_comes_again_keeps_its_class_and_its_time() -> None:
    places = Roster()
    first = places.seat("192.0.2.1", "pc1")
    first.speed_class, first.class_moves, first.stays_unicast = 1, 2, True
    again = places.seat("192.0.2.9", "pc1", first)
    assert again.member != first.member
    assert (again.joined_at, again.speed_class, again.class_moves) == (first.joined_at, 1, 2)
    assert again.stays_unicast


def test_who_was_kicked_is_known_by_its_id_and_by_its_name_at_its_address() -> None:
    places = Roster()
    named, nameless = places.seat("192.0.2.1", "pc1"), places.seat("192.0.2.2", "")
    places.bar(named)
    places.bar(nameless)
    assert places.is_barred(named.member, "198.51.100.1", "")
    assert places.is_barred(0, "192.0.2.1", "pc1")
    assert places.is_barred(nameless.member, "", "")
    assert not places.is_barred(0, "192.0.2.1", "pc2"), "another machine behind the same address"
    assert not places.is_barred(0, "192.0.2.2", "")


def test_what_was_counted_in_one_stream_is_added_to_the_next() -> None:
    place = Roster().seat("192.0.2.1", "pc1")
    keep_counts(place, member(Tally(received=100, repairs=10, lost=3, drain_kib_s=900), nacks=2, blame=5))
    shown = describe(place, member(Tally(received=50, repairs=1, lost=4, drain_kib_s=70), nacks=1, blame=1), SIZE)
    assert (shown.received, shown.repairs, shown.lost, shown.nacks, shown.blame) == (150, 11, 7, 3, 6)
    assert shown.drain_kib_s == 70, "a speed is not a sum"
    assert (shown.bytes_first_sent, shown.bytes_repair) == (139 * SYMBOL_BYTES, 11 * SYMBOL_BYTES)
    assert (shown.window, shown.free_slabs, shown.verified_slabs) == (500, 4, 2)


@pytest.mark.parametrize(
    ("is_multicast", "next_class", "known", "state", "mode"),
    [
        (True, None, True, "receiving", "multicast"),
        (True, None, False, "waiting", "multicast"),
        (True, 1, True, "moving", "multicast"),
        (False, None, False, "receiving", "unicast"),
    ],
)
def test_the_state_of_a_receiver(
    is_multicast: bool, next_class: int | None, known: bool, state: str, mode: str
) -> None:
    place = Roster().seat("192.0.2.1", "pc1")
    place.is_multicast, place.next_class = is_multicast, next_class
    shown = describe(place, member(Tally()) if known else None, SIZE)
    assert (shown.state, shown.mode) == (state, mode)


def test_one_that_says_nothing_and_one_that_has_all_are_told_apart() -> None:
    place = Roster().seat("192.0.2.1", "pc1")
    silent, complete = member(Tally()), member(Tally())
    silent.is_live, complete.is_complete = False, True
    assert [describe(place, each, SIZE).state for each in (silent, complete)] == ["silent", "complete"]


def test_its_last_word_counts_more_than_its_last_report() -> None:
    place = Roster().seat("192.0.2.1", "pc1")
    keep_counts(place, member(Tally(received=100, unicast_slabs=1)))
    place.counted.update(read_statistics({"statistics": {"received": 128, "unicast_bytes": 77, "seconds": 2.5}}))
    shown = describe(place, None, SIZE, state="complete", finished_at=1.0)
    assert (shown.received, shown.bytes_unicast, shown.state) == (128, 77, "complete")
    assert totals(shown)["received"] == 128


def test_without_its_word_slabs_by_http_are_counted_whole_but_not_beyond_the_image() -> None:
    place = Roster().seat("192.0.2.1", "pc1")
    assert describe(place, member(Tally(unicast_slabs=2)), SIZE).bytes_unicast == 2 * SLAB_BYTES
    assert describe(place, member(Tally(unicast_slabs=3)), SIZE - 99).bytes_unicast == SIZE - 99


@pytest.mark.parametrize("wrong", [True, "7", None, -1, float("nan"), float("inf"), [1], 1e300])
def test_statistics_are_numbers(wrong: Any) -> None:
    with pytest.raises(MalformedMessage, match=r"statistics.lost: expected a number from 0"):
        read_statistics({"statistics": {"lost": wrong}})


def test_unknown_statistics_are_left_out_and_none_at_all_is_fine() -> None:
    assert read_statistics({"statistics": {"lost": 1, "colour": 7}}) == {"lost": 1}
    assert read_statistics({}) == {}
    with pytest.raises(MalformedMessage, match="statistics: expected an object"):
        read_statistics({"statistics": 5})


def test_only_the_last_who_left_are_kept() -> None:
    places = Roster()
    for _ in range(roster.FINISHED_KEPT + 5):
        places.finished.append(describe(places.seat("192.0.2.1", ""), None, SIZE))
    assert len(places.finished) == roster.FINISHED_KEPT
