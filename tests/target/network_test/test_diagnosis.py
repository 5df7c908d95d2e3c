# SPDX-License-Identifier: Apache-2.0
"""What is said about a network, from what was measured: one fault at a time, and none invented."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpd.protocol.multicast.probe import PACKET_BYTES, SIZE_COPIES, Probe, ProbeTally, Stream
from dpd.target.network_test.diagnosis import Finding, Observation, Verdict, diagnose, is_fit, moment_text

SIZES = len(PACKET_BYTES) * SIZE_COPIES
SENT = {"beat": 120, "size": SIZES, "paced": 2000, "burst": 2048}


def tally(paced: int = 2000, burst: int = 2048, largest: int = 1500, ttl: int = 1) -> ProbeTally:
    """What arrived: so many of each stream, sizes up to the largest."""
    found = ProbeTally()
    for number in range(120):
        found.note(Probe(Stream.BEAT, 1, number, 0, 1), 1000 + number / 4, ttl)
    for number in range(SIZES):
        if PACKET_BYTES[number % len(PACKET_BYTES)] <= largest:
            found.note(Probe(Stream.SIZE, 1, number, 0, 1), 1000, ttl)
    for number in range(paced):
        found.note(Probe(Stream.PACED, 1, number, number * 750, 1), 1000 + number * 0.00075, ttl)
    for number in range(burst):
        found.note(Probe(Stream.BURST, 1, number, 0, 1), 1000, ttl)
    return found


def good() -> Observation:
    """A network without fault, watched for 30 s as root."""
    return Observation(
        interface="eth0",
        address="10.0.0.7",
        group="239.192.0.7",
        tally=tally(),
        sender="10.0.0.1",
        buffer_bytes=32 << 20,
        passes={0.0: True, 30.0: True},
        listened_s=30.0,
        can_hear_queries=True,
        queriers={"10.0.0.254": 3},
        sent=dict(SENT),
        too_large=(4096, 9000),
        round_trips_s=(0.0002, 0.0003, 0.0009),
        echoes=(3, 3),
    )


def silent() -> Observation:
    """Nothing arrives."""
    return replace(good(), tally=ProbeTally(), passes={}, queriers={}, sent={"beat": 36})


def verdicts(seen: Observation) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in diagnose(seen)}


def finding(seen: Observation, check: str) -> Finding:
    return next(each for each in diagnose(seen) if each.check == check)


def test_a_network_without_fault_gets_no_advice() -> None:
    findings = diagnose(good())
    assert is_fit(findings)
    assert {each.verdict for each in findings} == {Verdict.OK}
    assert all(not each.cause and not each.remedy for each in findings)
    assert [each.check for each in findings] == [
        "passes", "querier", "loss", "burst", "reorder", "duplicates", "mtu", "ttl", "jitter", "unicast", "socket", "link",
    ]  # fmt: skip


class TestNothingArrives:
    """What is certain comes before what is guessed."""

    def cause(self, **known: object) -> str:
        seen = replace(silent(), **known)  # type: ignore[arg-type]
        found = finding(seen, "passes")
        assert found.verdict is Verdict.BAD
        assert found.remedy
        return found.cause

    def test_another_interface(self) -> None:
        assert self.cause(elsewhere="eth1", seen_before_firewall=True) == "the group arrives at eth1, not at eth0"

    def test_rp_filter(self) -> None:
        assert "rp_filter, 12 packets" in self.cause(reverse_path_drops=12, seen_before_firewall=True)

    def test_a_firewall_here(self) -> None:
        for evidence in ({"seen_before_firewall": True}, {"dropped_here": 30}):
            assert self.cause(**evidence).startswith("a firewall on this machine")

    def test_ttl_across_a_router(self) -> None:
        assert "TTL 1 end at the first router" in self.cause(is_same_subnet=False)

    def test_routers_without_multicast_routing(self) -> None:
        assert "do not route multicast" in self.cause(is_same_subnet=False, ttl=8)

    def test_wireless(self) -> None:
        assert "access point" in self.cause(is_wireless=True)

    def test_a_switch(self) -> None:
        assert self.cause().startswith("a switch between does not pass the group")

    def test_nothing_that_needs_datagrams_is_judged(self) -> None:
        assert set(verdicts(silent())) == {"passes", "querier", "unicast", "socket", "link"}


class TestQuerier:
    def test_cut_off_and_nobody_asks(self) -> None:
        seen = replace(good(), cut_after_s=24.0, queriers={}, passes={0.0: True, 30.0: False})
        assert verdicts(seen)["passes"] is verdicts(seen)["querier"] is Verdict.BAD
        assert "24 s after the join" in finding(seen, "passes").found
        assert "without a querier" in finding(seen, "passes").cause
        assert "multicast.querier = true" in finding(seen, "passes").remedy

    def test_cut_off_though_somebody_asks(self) -> None:
        seen = replace(good(), cut_after_s=24.0, passes={0.0: True, 30.0: False})
        assert "this machine's answers do not reach the switch" in finding(seen, "passes").cause
        assert "-p igmp" in finding(seen, "passes").remedy

    def test_cut_off_where_queries_cannot_be_heard(self) -> None:
        seen = replace(good(), cut_after_s=24.0, queriers={}, can_hear_queries=False, passes={0.0: True})
        assert verdicts(seen)["passes"] is Verdict.BAD
        assert "the group did not survive" in finding(seen, "querier").found

    def test_a_short_look_says_that_it_was_short(self) -> None:
        seen = replace(good(), queriers={})
        assert verdicts(seen)["querier"] is Verdict.UNKNOWN
        assert "--minutes 5" in finding(seen, "querier").remedy
        assert is_fit(diagnose(seen))

    def test_five_minutes_without_a_query_and_the_group_survives(self) -> None:
        seen = replace(good(), queriers={}, listened_s=300.0)
        assert verdicts(seen)["querier"] is Verdict.NOTE
        assert "do not snoop" in finding(seen, "querier").cause

    def test_without_privilege_it_says_by_what_it_judged(self) -> None:
        seen = replace(good(), queriers={}, can_hear_queries=False)
        assert "not permitted to listen" in finding(seen, "querier").found
        assert "the group survived 30 s" in finding(seen, "querier").found

    def test_ipv6_has_no_igmp(self) -> None:
        assert "MLD" in finding(replace(good(), group="ff15::1"), "querier").found


@pytest.mark.parametrize(
    ("received", "verdict"), [(2000, Verdict.OK), (1981, Verdict.OK), (1950, Verdict.NOTE), (1800, Verdict.BAD)]
)
def test_loss(received: int, verdict: Verdict) -> None:
    assert verdicts(replace(good(), tally=tally(paced=received)))["loss"] is verdict


def test_what_the_own_socket_dropped_is_not_the_network_s_loss() -> None:
    seen = replace(good(), tally=tally(burst=1500), drops={Stream.BURST: 548}, buffer_bytes=425_984)
    assert verdicts(seen)["burst"] is Verdict.OK
    assert verdicts(seen)["socket"] is Verdict.NOTE
    assert "548 datagrams dropped" in finding(seen, "socket").found
    assert "net.core.rmem_max" in finding(seen, "socket").remedy


def test_a_small_buffer_is_noted_before_it_drops() -> None:
    assert verdicts(replace(good(), buffer_bytes=425_984))["socket"] is Verdict.NOTE


def test_loss_in_bursts_alone_is_policing_and_loss_in_both_is_not() -> None:
    assert "storm control" in finding(replace(good(), tally=tally(burst=1000)), "burst").cause
    assert verdicts(replace(good(), tally=tally(paced=1900, burst=1946)))["burst"] is Verdict.OK


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [
        (1500, Verdict.OK),
        (9000, Verdict.OK),
        (1480, Verdict.OK),
        (1464, Verdict.NOTE),
        (1420, Verdict.BAD),
        (576, Verdict.BAD),
    ],
)
def test_mtu(largest: int, verdict: Verdict) -> None:
    seen = replace(good(), tally=tally(largest=largest), too_large=())
    assert verdicts(seen)["mtu"] is verdict
    assert f"packets of {largest} bytes" in finding(seen, "mtu").found


def test_a_small_mtu_says_between_what_it_lies() -> None:
    assert "from 1380 to 1419" in finding(replace(good(), tally=tally(largest=1380)), "mtu").cause


def test_ipv6_headers_are_longer() -> None:
    seen = replace(good(), group="ff15::1", tally=tally(largest=1480))
    assert verdicts(seen)["mtu"] is Verdict.BAD
    assert "1484 bytes, encrypted ones 1500" in finding(seen, "mtu").remedy
    assert verdicts(replace(seen, tally=tally(largest=1484)))["mtu"] is Verdict.NOTE


def test_hops_are_counted_by_the_ttl() -> None:
    counted = ProbeTally()
    counted.note(Probe(Stream.BEAT, 1, 0, 0, 8), 1000, 6)
    assert "2 routers between" in finding(replace(good(), tally=counted), "ttl").found


def test_duplicates_and_reordering() -> None:
    twice = tally()
    for number in range(2000):
        twice.note(Probe(Stream.PACED, 1, number, 0, 1), 1000, 1)
    assert verdicts(replace(good(), tally=twice))["duplicates"] is Verdict.NOTE
    assert "loop" in finding(replace(good(), tally=twice), "duplicates").cause
    mixed = tally(paced=100)
    mixed.note(Probe(Stream.PACED, 1, 200, 0, 1), 1000, 1)
    mixed.note(Probe(Stream.PACED, 1, 150, 0, 1), 1000, 1)
    assert finding(replace(good(), tally=mixed), "reorder").found == "1 datagrams"


def test_feedback_that_does_not_arrive_is_bad_and_answers_that_do_not_are_not() -> None:
    assert verdicts(replace(good(), round_trips_s=(), echoes=(30, 0)))["unicast"] is Verdict.BAD
    assert verdicts(replace(good(), round_trips_s=(), echoes=(30, 30)))["unicast"] is Verdict.NOTE


def test_the_round_trip_is_the_median() -> None:
    assert "0.30 ms (best 0.20, worst 0.90)" in finding(good(), "unicast").found


def test_wireless_is_noted_though_it_passes() -> None:
    assert verdicts(replace(good(), is_wireless=True))["link"] is Verdict.NOTE


def test_a_port_that_wakes_late() -> None:
    seen = replace(good(), passes={0.0: False, 30.0: True})
    assert "spanning tree" in finding(seen, "passes").cause


def test_names_of_checks_are_those_that_the_daemon_takes() -> None:
    from dpd.service.diagnosis.probe import CHECK_NAME, MAX_CHECKS

    findings = [*diagnose(good()), *diagnose(silent())]
    assert all(CHECK_NAME.fullmatch(each.check) for each in findings)
    assert len({each.check for each in findings}) <= MAX_CHECKS


@pytest.mark.parametrize(("at_s", "text"), [(0, "now"), (30, "after 30 s"), (300, "after 5 min"), (90, "after 90 s")])
def test_moments(at_s: float, text: str) -> None:
    assert moment_text(at_s) == text
