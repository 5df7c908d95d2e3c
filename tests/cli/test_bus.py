# SPDX-License-Identifier: Apache-2.0
"""`dpd bus status`."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.cli import bus

AWAY = {
    "state": "away",
    "url": "tls://hub.example:4222",
    "site": "lab",
    "point": "branch-1",
    "domain": "branch",
    "server": "",
    "since": 0.0,
    "trouble": "the server does not answer in time",
    "policy_version": 12,
    "policy_age_s": 90_000.0,
    "policy_refusal": "",
    "status_epoch": "cafe",
    "status_latest": 40,
    "status_confirmed": 31,
    "status_backlog": 9,
    "desired_packages": 3,
    "desired_missing": 1,
    "counted": {"sent": 31, "failures": 0},
}


class Answering:
    """Stands for the client of a daemon that has a bus."""

    def __init__(self, reply: dict[str, object]) -> None:
        self.reply = reply

    def __call__(self, socket: str) -> Answering:
        return self

    def get(self, *parts: str) -> dict[str, object]:
        assert parts == ("bus",)
        return self.reply


def test_a_point_without_a_bus_is_told_how_to_join_a_site(daemon: DaemonProcess, dpd: Dpd) -> None:
    shown = dpd("bus", "status", "--socket", daemon.control_socket)
    assert (shown.code, "this point steers itself; bus.url =" in shown.out) == (0, True)
    assert dpd("bus", "status", "--json", "--socket", daemon.control_socket).json["state"] == "off"


def test_how_it_stands_is_told_in_words(dpd: Dpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "Client", Answering(AWAY))
    shown = " ".join(dpd("bus", "status").out.split())
    for words in (
        "Point branch-1 of site lab",
        "not connected to tls://hub.example:4222, leaf domain branch: the server does not answer in time",
        "version 12, heard to hold 25 h ago",
        "the site has 31 of 40; 9 wait",
        "3 packages, 1 still missing",
        "Counted sent=31",
    ):
        assert words in shown


def test_a_sound_connection_and_a_refused_policy_are_told(dpd: Dpd, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"state": "connected", "server": "hub:4222", "since": 1e9, "policy_version": 0, "policy_refusal": "damaged", "status_backlog": 0, "desired_packages": 0}  # fmt: skip
    monkeypatch.setattr(bus, "Client", Answering(AWAY | changes))
    shown = " ".join(dpd("bus", "status").out.split())
    assert "connected to hub:4222, leaf domain branch, since 200" in shown
    assert "none of the site yet; this point's own holds; the last one was refused: damaged" in shown
    assert "Desired content nothing" in shown
