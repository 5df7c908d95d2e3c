# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe …`: a machine asks the daemon over the wire, the operator reads its story."""

from __future__ import annotations

import socket

from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.protocol.pxe.client import PxeClient

MAC = "52:54:00:00:00:01"


def test_the_story_of_a_machine_that_asked(asked: Dpd, daemon: DaemonProcess) -> None:
    services = asked("status", "--json").json["services"]
    (port,) = (service["ports"]["port"] for service in services if service["name"] == "pxe")
    client = PxeClient(mac=MAC, relay="127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        sock.sendto(client.discover(1), ("127.0.0.1", port))
        assert sock.recv(2048)
    assert asked("pxe", "list").out == f"{MAC}\n"
    assert asked("pxe", "list", "--json").json == {"machines": [MAC]}
    shown = asked("pxe", "show", MAC.upper().replace(":", "-"))
    assert [line.split()[2] for line in shown.out.splitlines()[1:]] == ["discover", "offer"]
    assert "loader=ipxe.efi" in shown.out
    story = asked("pxe", "show", MAC, "--json").json
    assert [event["event"] for event in story["events"]] == ["discover", "offer"]


def test_a_machine_that_never_asked_is_told(asked: Dpd) -> None:
    ended = asked("pxe", "show", "02:00:00:00:00:99")
    assert (ended.code, ended.err) == (
        1,
        "dpd: 02:00:00:00:00:99 has not asked for a network boot since dpd started; `dpd pxe list` shows the machines that did\n",
    )


def test_a_mac_that_is_none_is_told(asked: Dpd) -> None:
    ended = asked("pxe", "show", "52:54:00:00:00:0g")
    assert (ended.code, ended.err) == (
        1,
        "dpd: mac '52:54:00:00:00:0g': expected six bytes such as 52:54:00:12:34:56\n",
    )
