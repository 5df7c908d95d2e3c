# SPDX-License-Identifier: Apache-2.0
"""The test datagrams: their format, the plan of a run, and what is made of what arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.probe import (
    IP_UDP_BYTES,
    NEEDED_BYTES,
    PACED_DATAGRAMS,
    PACED_INTERVAL_S,
    PACKET_BYTES,
    PROBE_BYTES,
    SIZE_COPIES,
    Probe,
    ProbeTally,
    Stream,
    StreamTally,
    decode,
    packet_bytes,
    plan_run,
)

probes = st.builds(
    Probe,
    st.sampled_from(Stream),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 255),
)


@given(probes, st.integers(0, 9000))
def test_what_is_encoded_is_decoded_whatever_its_size(probe: Probe, size_bytes: int) -> None:
    data = probe.encode(size_bytes)
    assert len(data) == max(size_bytes, PROBE_BYTES)
    assert decode(data) == probe


def test_the_format_is_the_written_one() -> None:
    probe = Probe(Stream.PACED, 0x1122334455667788, 5, 1_000_000, ttl=4)
    assert probe.encode(30).hex() == "647064540102040011223344556677880000000500000000000f42400000"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"dpdT", "length"),
        (b"xxxx" + bytes(24), "magic"),
        (b"dpdT\x02" + bytes(23), "magic"),
        (b"dpdT\x01\x09" + bytes(22), "stream"),
    ],
)
def test_what_is_wrong_has_a_name(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(data)
    assert caught.value.reason == reason


class TestRun:
    @pytest.mark.parametrize("ip_version", [4, 6])
    def test_every_size_is_sent_as_often_and_is_what_the_receiver_takes_it_for(self, ip_version: int) -> None:
        shots = [shot for shot in plan_run(ip_version) if shot.stream is Stream.SIZE]
        packets = [shot.size_bytes + IP_UDP_BYTES[ip_version] for shot in shots]
        assert packets == [packet_bytes(shot.number) for shot in shots]
        assert sorted(packets) == sorted(PACKET_BYTES * SIZE_COPIES)

    def test_the_sizes_include_those_of_our_own_datagrams(self) -> None:
        assert {size + 28 for size in NEEDED_BYTES} <= set(PACKET_BYTES)

    def test_it_is_short_and_cannot_flood(self) -> None:
        shots = list(plan_run(4))
        assert shots == sorted(shots, key=lambda shot: shot.at_s)
        assert shots[-1].at_s < 3
        assert sum(shot.size_bytes for shot in shots) < 6_000_000

    def test_the_paced_part_is_slow_and_the_bursts_are_bursts(self) -> None:
        shots = list(plan_run(4))
        paced = [shot.at_s for shot in shots if shot.stream is Stream.PACED]
        assert len(paced) == PACED_DATAGRAMS
        assert (paced[-1] - paced[0]) / (len(paced) - 1) == pytest.approx(PACED_INTERVAL_S)
        assert len({shot.at_s for shot in shots if shot.stream is Stream.BURST}) == 4


class TestTally:
    def test_each_number_counts_once(self) -> None:
        tally = StreamTally()
        for number in (0, 1, 3, 3, 2, 5, 4, 5):
            tally.note(number, 0, 0.0)
        assert (tally.received, tally.duplicates, tally.reordered, tally.highest) == (6, 2, 2, 5)

    def test_an_even_stream_has_no_jitter_and_clocks_need_not_agree(self) -> None:
        tally = StreamTally()
        for number in range(100):
            tally.note(number, 7_000_000_000 + number * 750, 5.0 + number * 0.00075)
        assert tally.jitter_s == pytest.approx(0, abs=1e-6)

    def test_jitter_is_the_mean_difference_of_transit_times(self) -> None:
        rng = random.Random(1)
        tally = StreamTally()
        for number in range(5000):
            tally.note(number, number * 1000, number / 1000 + rng.random() * 0.003)
        assert tally.jitter_s == pytest.approx(0.001, rel=0.5)  # |a - b| of two uniform numbers is a third on average

    def test_what_arrived_is_known_by_stream_size_and_ttl(self) -> None:
        tally = ProbeTally()
        tally.note(Probe(Stream.SIZE, 1, 0, 0, 4), 1.0, 3)
        tally.note(Probe(Stream.SIZE, 1, len(PACKET_BYTES), 0, 4), 1.0, 3)
        tally.note(Probe(Stream.PACED, 1, 0, 0, 4), 1.0, 3)
        assert tally.sizes == {PACKET_BYTES[0]: 2}
        assert (tally.ttls, tally.sent_ttl, tally.received) == ({3: 3}, 4, 3)

    def test_the_group_passes_while_beats_come(self) -> None:
        tally = ProbeTally()
        for number in range(80):
            tally.note(Probe(Stream.BEAT, 1, number, 0), 100 + number / 4, 1)
        assert tally.passes_at(101)
        assert tally.passes_at(121)
        assert not tally.passes_at(123)
        assert not tally.passes_at(99)
