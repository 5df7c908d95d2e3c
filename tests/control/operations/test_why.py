# SPDX-License-Identifier: Apache-2.0
"""Which machine is meant, and what is known around it."""

from __future__ import annotations

import pytest

from dpd.control.operations.why import WhyOperations
from dpd.errors import DpdError
from dpd.explain.findings import BootCause
from dpd.settings import PxeSettings, Settings
from dpd.telemetry.journal import BootJournal

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
GUID = "4c4c4544-0042-3510-8054-b4c04f564431"


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal(clock=lambda: 1000.0)


@pytest.fixture
def operations(journal: BootJournal) -> WhyOperations:
    settings = Settings(pxe=PxeSettings(server_address="192.0.2.1"))
    return WhyOperations(journal, lambda: settings, clock=lambda: 1100.0)


@pytest.mark.parametrize("name", [MAC, "52-54-00-00-00-01", "525400000001", " 52:54:00:00:00:01 ", "5254.0000.0001"])
def test_a_machine_is_found_by_its_mac_in_any_form(journal: BootJournal, operations: WhyOperations, name: str) -> None:
    journal.note(MAC, "discover", client_class="PXEClient", client_arch="bios")
    why = operations.why(name)
    assert (why.mac, len(why.attempts)) == (MAC, 1)


@pytest.mark.parametrize("name", [GUID, GUID.upper(), "{" + GUID + "}", GUID.replace("-", "")])
def test_a_machine_is_found_by_its_guid_in_any_form(journal: BootJournal, operations: WhyOperations, name: str) -> None:
    journal.note(MAC, "discover", guid=GUID)
    assert operations.why(name).mac == MAC


def test_of_machines_with_one_guid_the_newest_is_judged_and_the_others_named(
    journal: BootJournal, operations: WhyOperations
) -> None:
    for mac in (OTHER, MAC):
        journal.note(mac, "discover", guid=GUID)
    why = operations.why(GUID)
    assert (why.mac, why.others) == (MAC, (OTHER,))


def test_a_machine_that_was_never_heard_is_explained_with_what_is_known(
    journal: BootJournal, operations: WhyOperations
) -> None:
    journal.note(OTHER, "discover", relay="10.7.0.1")
    for name in (MAC, GUID):
        why = operations.why(name)
        assert why.cause is BootCause.NO_RELAY
        assert "10.7.0.1" in why.sentence
        assert "192.0.2.1" in why.next_step
    assert (operations.why(MAC).mac, operations.why(GUID).mac) == (MAC, "")


def test_guids_that_policy_does_not_go_by_are_no_conflict(journal: BootJournal) -> None:
    settings = Settings(pxe=PxeSettings(duplicate_ids=(GUID.upper(),)))
    for mac in (OTHER, MAC):
        journal.note(mac, "discover", guid=GUID)
        journal.note(mac, "decision", outcome="boot", cause="required", computer="PC-7")
        journal.note(mac, "offer", loader="ipxe.efi")
        journal.note(mac, "tftp", file="ipxe.efi", verdict="completed")
    clock = lambda: 1100.0  # noqa: E731
    assert WhyOperations(journal, Settings, clock=clock).why(MAC).cause is BootCause.GUID_SHARED
    assert WhyOperations(journal, lambda: settings, clock=clock).why(MAC).cause is BootCause.FINE


def test_boots_are_told_the_newest_first_each_with_its_computer_and_last_step() -> None:
    moments = iter(range(1000, 1100))
    journal = BootJournal(clock=lambda: next(moments))
    for mac, computer in ((MAC, "PC-7"), (OTHER, "")):
        journal.note(mac, "discover", client_class="PXEClient", client_arch="bios", xid=1)
        journal.note(mac, "decision", outcome="boot", cause="required", computer=computer)
    journal.note(MAC, "tftp", file="ipxe.efi", verdict="completed", bytes=7)
    boots, total = WhyOperations(journal, Settings, clock=lambda: 1005.0).boots(10)
    assert total == 2
    assert [(boot.mac, boot.computer, boot.began_at, boot.last_at) for boot in boots] == [
        (OTHER, "", 1002.0, 1003.0),
        (MAC, "PC-7", 1000.0, 1004.0),  # heard of last, but it began before
    ]
    assert boots[1].last_step == "has fetched ipxe.efi by TFTP (7 bytes)"


def test_the_computer_is_that_of_the_newest_attempt() -> None:
    moments = iter((1000, 1001, 2000, 2001))
    journal = BootJournal(clock=lambda: next(moments))
    for computer in ("PC-7", ""):
        journal.note(MAC, "discover", xid=computer)
        journal.note(MAC, "decision", outcome="abort", cause="unknown_denied", computer=computer)
    ((boot,), _) = WhyOperations(journal, Settings, clock=lambda: 2030.0).boots(10)
    assert (boot.computer, boot.attempts, boot.cause) == ("", 2, BootCause.UNKNOWN_DENIED)


def test_a_settled_boot_is_judged_again_when_something_comes_and_now_and_then() -> None:
    moments = {"now": 1000.0}
    journal = BootJournal(clock=lambda: moments["now"])
    settings = {"pxe": PxeSettings()}
    operations = WhyOperations(journal, lambda: Settings(pxe=settings["pxe"]), clock=lambda: moments["now"])
    for mac in (OTHER, MAC):
        journal.note(mac, "discover", guid=GUID)
        journal.note(mac, "decision", outcome="boot", cause="required", computer="PC-7")
        journal.note(mac, "offer", loader="ipxe.efi")
        journal.note(mac, "tftp", file="ipxe.efi", verdict="completed")

    def cause() -> BootCause:
        return next(boot.cause for boot in operations.boots(10)[0] if boot.mac == MAC)

    moments["now"] = 1100.0
    assert cause() is BootCause.GUID_SHARED
    settings["pxe"] = PxeSettings(duplicate_ids=(GUID,))
    assert cause() is BootCause.GUID_SHARED  # as it was said before
    journal.note(OTHER, "discover", guid=GUID)
    assert cause() is BootCause.GUID_SHARED  # that was another machine
    moments["now"] += 301
    assert cause() is BootCause.FINE
    journal.note(MAC, "discover", xid=2)
    assert cause() is BootCause.IN_PROGRESS


def test_of_many_machines_the_ones_heard_of_last_are_told_and_all_are_counted(journal: BootJournal) -> None:
    for number in range(9):
        journal.note(f"52:54:00:00:00:{number:02x}", "discover", xid=1)
    boots, total = WhyOperations(journal, Settings, clock=lambda: 1005.0).boots(2)
    assert ({boot.mac[-2:] for boot in boots}, total) == ({"07", "08"}, 9)


@pytest.mark.parametrize("name", ["", "pc-7", "52:54:00:00:00", "52:54:00:00:00:0g", GUID[:-1], "x" * 500])
def test_what_is_neither_is_refused(operations: WhyOperations, name: str) -> None:
    with pytest.raises(DpdError, match="expected a MAC"):
        operations.why(name)
