# SPDX-License-Identifier: Apache-2.0
"""The judgement: it changes nothing, and says of which policy it was made. What it says is held by the policy's tests."""

from __future__ import annotations

from dpd.settings import parse_settings
from dpd.site.aims import Standing
from dpd.site.decision import BootRequest, Cause
from dpd.site.judgement import Judge, UnderWay, machine_key
from dpd.site.records import Computer, Deployment, Purpose, Run
from dpd.site.stance import read_stance
from dpd.site.store import SiteStore

MAC, NOW = "52:54:00:00:00:0a", 1000.0
REQUEST = BootRequest(MAC, "", "uefi-x64", "PXEClient", "192.0.2.1")


def test_a_judgement_carries_the_version_of_the_policy() -> None:
    store = SiteStore(clock=lambda: NOW)
    judge = Judge(store, read_stance(parse_settings("", "t")))
    assert judge.judge(REQUEST, NOW).policy_version == 0
    store.add_computer(Computer("PC1", (MAC,)), "test")
    assert judge.judge(REQUEST, NOW).policy_version == 1


def test_judging_leaves_no_trace() -> None:
    store = SiteStore(clock=lambda: NOW)
    store.add_deployment(Deployment(0, "unknown", "IMG1", Purpose.REQUIRED), "test")
    judge = Judge(store, read_stance(parse_settings("", "t")))
    first = judge.judge(REQUEST, NOW)
    assert first.cause is Cause.REQUIRED
    assert judge.judge(REQUEST, NOW + 1e6) == first
    assert store.runs.find(1, MAC) is None


def test_its_own_run_does_not_stand_against_a_boot_under_way() -> None:
    store = SiteStore(clock=lambda: NOW)
    id = store.add_deployment(Deployment(0, "unknown", "IMG1", Purpose.REQUIRED), "test").id
    store.runs.start(Run(id, MAC, MAC, NOW, NOW + 1))
    judge = Judge(store, read_stance(parse_settings("", "t")))
    assert judge.judge(REQUEST, NOW + 2).cause is Cause.ALREADY_RUN
    assert judge.judge(REQUEST, NOW + 2, UnderWay(id)).cause is Cause.REQUIRED
    assert judge.judge(REQUEST, NOW + 2, UnderWay(id + 1)).cause is Cause.ALREADY_RUN


def test_a_run_is_written_down_for_the_computer_or_for_the_mac() -> None:
    assert machine_key(REQUEST, Standing("PC1", "pc1", "", ())) == "pc1"
    assert machine_key(REQUEST, None) == MAC
