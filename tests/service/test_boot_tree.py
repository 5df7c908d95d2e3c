# SPDX-License-Identifier: Apache-2.0
"""One judgement of names for TFTP and HTTP."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.boot.tree import BootContext, BootObject, in_memory
from dpd.content.boot_files import BootFiles
from dpd.service.boot_tree import BootTree, Denial, NotServed
from dpd.site.decision import Outcome
from dpd.site.tickets import BootTicket
from dpd.telemetry.journal import BootJournal

MAC, ADDRESS = "52:54:00:00:00:01", "192.0.2.7"
NOW = 1000.0


class Desk:
    def __init__(self) -> None:
        self.ticket: BootTicket | None = None
        self.runs: list[str] = []
        self.pins: list[tuple[str, str]] = []

    def ticket_at(self, address: str) -> BootTicket | None:
        return self.ticket if address == ADDRESS else None

    def run_started(self, address: str) -> None:
        self.runs.append(address)

    def enter_pin(self, address: str, pin: str) -> bool:
        self.pins.append((address, pin))
        return pin == "1234"


class Images:
    """Two images; both have a BCD of their own."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        if not image_id and name == "boot.ipxe":
            return in_memory(name, f"code {context.code}".encode())
        if image_id == "LAB00005" and name == "boot.wim":
            return replace(in_memory(name, b"wim"), completes_boot=True)
        if image_id == "LAB00005" and name.lower().endswith("bcd"):
            return in_memory(name, f"for {context.mac}".encode())
        return None

    def holds(self, name: str) -> bool:
        return name.lower().endswith(("bcd", "secret.wim"))

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return ""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def tree(tmp_path: Path, desk: Desk) -> BootTree:
    (tmp_path / "ipxe.efi").write_bytes(b"loader")
    journal = BootJournal()
    journal.bind(ADDRESS, MAC)
    return BootTree(BootFiles(tmp_path), journal, desk=desk, images=Images(), clock=lambda: NOW)


def ticket(image: str = "LAB00005", expires_at: float = NOW + 60) -> BootTicket:
    return BootTicket("0" * 16, MAC, "", "uefi-x64", "192.0.2.1", Outcome.BOOT, image, "", "", NOW - 1, expires_at)


def content(found: BootObject | NotServed) -> bytes:
    assert isinstance(found, BootObject)
    with os.fdopen(found.open(), "rb") as file:
        return file.read()


def denial(found: BootObject | NotServed) -> Denial:
    assert isinstance(found, NotServed)
    assert found.message
    return found.reason


def test_loaders_are_public(tree: BootTree) -> None:
    assert content(tree.find("\\IPXE.EFI", "203.0.113.9")) == b"loader"


def test_a_ticket_opens_its_image(tree: BootTree, desk: Desk) -> None:
    desk.ticket = ticket()
    assert content(tree.find("\\Boot\\BCD", ADDRESS)) == f"for {MAC}".encode()


def test_without_a_ticket_the_name_is_known_and_not_served(tree: BootTree) -> None:
    assert denial(tree.find("\\Boot\\BCD", ADDRESS)) is Denial.NO_TICKET
    story = tree.journal.story(MAC)[-1].fields
    assert (story["file"], story["reason"]) == ("\\Boot\\BCD", "no_ticket")


def test_a_ticket_of_another_address_is_none(tree: BootTree, desk: Desk) -> None:
    desk.ticket = ticket()
    assert denial(tree.find("\\Boot\\BCD", "192.0.2.66")) is Denial.NO_TICKET


def test_an_expired_ticket_opens_nothing(tree: BootTree, desk: Desk) -> None:
    desk.ticket = ticket(expires_at=NOW)
    assert denial(tree.find("\\Boot\\BCD", ADDRESS)) is Denial.TICKET_EXPIRED


def test_a_ticket_for_one_image_opens_no_other(tree: BootTree, desk: Desk) -> None:
    desk.ticket = ticket("LAB00006")
    assert denial(tree.find("\\Boot\\BCD", ADDRESS)) is Denial.OTHER_IMAGE


def test_who_waits_for_approval_gets_its_script_and_nothing_else(tree: BootTree, desk: Desk) -> None:
    desk.ticket = replace(ticket(""), outcome=Outcome.WAIT, code="K7M2QX")
    assert content(tree.find("boot.ipxe", ADDRESS)) == b"code K7M2QX"
    assert denial(tree.find("\\Boot\\BCD", ADDRESS)) is Denial.OTHER_IMAGE


def test_the_last_file_of_a_boot_image_is_told_to_policy_and_in_the_story(tree: BootTree, desk: Desk) -> None:
    desk.ticket = ticket()
    tree.journal.bind(ADDRESS, "52:54:00:00:00:01")
    for name in ("\\Boot\\BCD", "boot.wim"):
        found = tree.find(name, ADDRESS)
        assert isinstance(found, BootObject)
        tree.sent(found, ADDRESS)
    assert desk.runs == [ADDRESS]
    told = [(event.event, event.fields["file"]) for event in tree.journal.story("52:54:00:00:00:01")]
    assert told == [("image_fetched", "boot.wim")]


def test_a_pin_is_for_policy_to_judge(tree: BootTree, desk: Desk) -> None:
    assert tree.enter_pin(ADDRESS, "1234")
    assert not tree.enter_pin(ADDRESS, "0000")
    assert desk.pins == [(ADDRESS, "1234"), (ADDRESS, "0000")]


def test_names_that_nobody_has_are_not_found(tree: BootTree) -> None:
    assert denial(tree.find("pxelinux.cfg/default", ADDRESS)) is Denial.NOT_FOUND


@pytest.mark.parametrize("name", ["../etc/passwd", "C:\\secret", "a\0b", "", "x" * 300])
def test_tricks_are_refused_by_name(tree: BootTree, name: str) -> None:
    assert denial(tree.find(name, ADDRESS)) is Denial.BAD_NAME


def test_a_loader_whose_chain_is_broken_is_refused_with_the_reason(tree: BootTree) -> None:
    tree.boot_files.refuse({"ipxe.efi": "the Secure Boot chain is broken: ipxe.efi: revoked"})
    found = tree.find("IPXE.EFI", ADDRESS)
    assert found == NotServed(Denial.CHAIN_BROKEN, "the Secure Boot chain is broken: ipxe.efi: revoked")
    assert tree.journal.story(MAC)[-1].fields == {
        "file": "IPXE.EFI",
        "reason": "chain_broken",
        "detail": "the Secure Boot chain is broken: ipxe.efi: revoked",
    }


def test_a_loader_that_will_not_start_is_served_and_the_story_says_so(tree: BootTree) -> None:
    tree.boot_files.remark({"ipxe.efi": "no sound EFI program: cut_short"})
    assert content(tree.find("/IPXE.EFI", ADDRESS)) == b"loader"
    step = tree.journal.story(MAC)[-1]
    assert (step.event, step.fields) == (
        "loader_fault",
        {"file": "ipxe.efi", "detail": "no sound EFI program: cut_short"},
    )
