# SPDX-License-Identifier: Apache-2.0
"""Machines that wait, and the codes on their screens."""

from __future__ import annotations

from dpd.site.decision import BootRequest
from dpd.site.waiting_room import ALPHABET, CAPACITY, CODE_CHARACTERS, KEEP_S, WaitingRoom

KEY = bytes(32)


def request(number: int = 1, *, guid: str = "", relay: str = "", circuit: str = "") -> BootRequest:
    mac = f"52:54:00:{number >> 16:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"
    return BootRequest(mac, guid, "uefi-x64", "PXEClient", "192.0.2.1", relay, circuit)


def test_a_code_is_short_plain_and_the_machines_own() -> None:
    room = WaitingRoom(KEY)
    codes = {room.note(request(number), 1.0).code for number in range(500)}
    assert len(codes) == 500
    assert {len(code) for code in codes} == {CODE_CHARACTERS}
    assert set("".join(codes)) <= set(ALPHABET)


def test_a_restart_changes_no_code_and_another_site_has_others() -> None:
    code = WaitingRoom(KEY).note(request(), 1.0).code
    assert WaitingRoom(KEY).note(request(), 99.0).code == code
    assert WaitingRoom(bytes(31) + b"\1").note(request(), 1.0).code != code


def test_a_code_is_found_as_people_type_it() -> None:
    room = WaitingRoom(KEY)
    machine = room.note(request(), 1.0)
    typed = f"{machine.code[:3]}-{machine.code[3:]} ".lower()
    assert room.find(typed) == machine
    assert room.find(machine.mac.upper()) == machine
    assert room.find("ZZZZZZ") is None
    assert room.find("") is None


def test_what_is_known_of_a_machine_is_what_it_said_last() -> None:
    room = WaitingRoom(KEY)
    room.note(request(), 1.0)
    room.note(request(relay="10.1.0.1", circuit="0102", guid="g"), 5.0)
    (machine,) = room.machines(6.0)
    assert (machine.relay, machine.circuit, machine.guid) == ("10.1.0.1", "0102", "g")
    assert (machine.first_seen, machine.last_seen) == (1.0, 5.0)


def test_whoever_has_not_asked_for_a_day_is_gone() -> None:
    room = WaitingRoom(KEY)
    room.note(request(1), 0.0)
    room.note(request(2), KEEP_S)
    assert [machine.mac for machine in room.machines(KEEP_S + 1)] == [request(2).mac]


def test_a_flood_of_invented_machines_is_bounded_and_changes_no_code() -> None:
    room = WaitingRoom(KEY)
    code = room.note(request(0), 0.0).code
    for number in range(1, CAPACITY + 10):
        room.note(request(number), 1.0)
    assert len(room.machines(2.0)) == CAPACITY
    assert room.find(code) is None
    assert room.note(request(0), 3.0).code == code


def test_who_is_forgotten_waits_no_longer() -> None:
    room = WaitingRoom(KEY)
    code = room.note(request(), 1.0).code
    room.forget(request().mac)
    assert room.find(code) is None
    assert room.machines(2.0) == []
    room.forget(request().mac)
