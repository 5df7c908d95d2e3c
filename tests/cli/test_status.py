# SPDX-License-Identifier: Apache-2.0
"""`dpd status` against a running daemon."""

from __future__ import annotations

from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess


def test_people_see_the_daemon_its_services_and_sessions(asked: Dpd, daemon: DaemonProcess) -> None:
    ended = asked("status")
    assert ended.code == 0
    assert f"ready, pid {daemon.process.pid}, since 2" in ended.out
    assert str(daemon.config) in ended.out
    rows = {line.split()[0] for line in ended.out.splitlines() if line.strip()}
    assert {"multicast", "http", "tftp", "pxe"} <= rows


def test_programs_get_all_of_it(asked: Dpd, daemon: DaemonProcess) -> None:
    status = asked("status", "--json").json
    assert (status["pid"], status["state"]) == (daemon.process.pid, "ready")
    counted = {service["name"]: service["counted"] for service in status["services"]}
    assert counted["tftp"]["requests"] == 0
    assert isinstance(counted["pxe"]["ignored"], dict)  # by reason; other tests have asked this daemon, too
