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
    listed = asked("pxe", "list").out.splitlines()
    assert MAC in listed
    assert asked("pxe", "list", "--json").json == {"machines": listed}
    shown = asked("pxe", "show", MAC.upper().replace(":", "-"))
    events = [line.split()[2] for line in shown.out.splitlines()[1:]]
    assert (events[0], events[-1]) == ("discover", "offer")
    assert "loader=ipxe.efi" in shown.out
    story = asked("pxe", "show", MAC, "--json").json
    assert [event["event"] for event in story["events"]] == events


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


def test_why_tells_the_attempts_the_cause_and_what_to_do(asked: Dpd) -> None:
    played = asked("pxe", "test", "--mac", "02:00:00:00:00:31", "--arch", "uefi-arm32", "--timeout", "0.2")
    assert played.code == 3  # no rule has a loader for it, so nobody answers
    told = asked("pxe", "why", "02-00-00-00-00-31").out
    assert "Attempt 1, " in told
    assert "+0.000 s  asks for a network boot as PXEClient, uefi-arm32" in told
    assert "Machine: 02:00:00:00:00:31\nCause:   No boot image and no rule has a loader" in told
    assert "[no_image_for_arch]\nDo:      Add a [[pxe.rule]]" in told
    assert asked("pxe", "why", "02:00:00:00:00:31", "--json").json["cause"] == "no_image_for_arch"


def test_why_of_a_machine_that_was_never_heard(asked: Dpd) -> None:
    told = asked("pxe", "why", "02:00:00:00:00:77")
    assert told.code == 0
    assert "[no_relay]" in told.out


def test_why_of_a_guid_names_every_machine_that_told_it(asked: Dpd) -> None:
    guid = "11111111-2222-3333-4444-555555555555"
    for mac in ("02:00:00:00:00:41", "02:00:00:00:00:42"):
        asked("pxe", "test", "--mac", mac, "--guid", guid, "--arch", "uefi-arm32", "--timeout", "0.2")
    told = asked("pxe", "why", guid, "--json").json
    assert (told["mac"], told["others"]) == ("02:00:00:00:00:42", ["02:00:00:00:00:41"])
    assert "(the same GUID: 02:00:00:00:00:41)" in asked("pxe", "why", guid).out


def test_why_of_what_is_no_machine_is_told(asked: Dpd) -> None:
    ended = asked("pxe", "why", "pc-number-seven")
    assert ended.code == 1
    assert "expected a MAC such as 52:54:00:12:34:56 or a GUID" in ended.err
