# SPDX-License-Identifier: Apache-2.0
"""Policy and boot images asked for a network boot, over whichever IP version."""

from __future__ import annotations

import pytest

from dpd.boot.tree import BootContext, BootObject
from dpd.protocol.pxe.exchange import Outcome
from dpd.protocol.pxe.rules import ClientClass
from dpd.service.pxe import granting
from dpd.service.pxe.granting import WAITING_SCRIPT, Granting
from dpd.site.decision import BootRequest, Cause, Decision
from dpd.site.decision import Outcome as DecisionOutcome
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:00:00:01"
REQUEST = BootRequest(MAC, "", "uefi-x64", "PXEClient", "192.0.2.1")


class Judge:
    def __init__(self) -> None:
        self.decision = Decision(DecisionOutcome.BOOT, Cause.REQUIRED, boot_image="LAB00005")
        self.bound: list[tuple[str, str]] = []

    def decide(self, request: BootRequest) -> Decision:
        return self.decision

    def grant(self, request: BootRequest, decision: Decision) -> object:
        return None

    def begin(self, request: BootRequest, decision: Decision) -> object:
        return None

    def bind(self, address: str, mac: str) -> None:
        self.bound.append((address, mac))


class Images:
    """One image, which has a loader for PXE firmware alone."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        return None

    def holds(self, name: str) -> bool:
        return False

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return f"{image_id}-{arch}.efi" if image_id and client_class == "PXEClient" else ""


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest.fixture
def decisions() -> dict[str, int]:
    return {}


@pytest.fixture
def desk(journal: BootJournal, judge: Judge, decisions: dict[str, int]) -> Granting:
    return Granting(journal, 8080, judge, Images(), decisions)


def test_what_policy_says_is_counted_and_in_the_story(
    desk: Granting, journal: BootJournal, decisions: dict[str, int]
) -> None:
    assert desk.decide(REQUEST).boot_image == "LAB00005"
    assert decisions == {"boot": 1}
    (event,) = journal.story(MAC)
    assert (event.event, event.fields["cause"], event.fields["boot_image"]) == ("decision", "required", "LAB00005")


def test_the_code_of_who_waits_is_in_the_story(desk: Granting, judge: Judge, journal: BootJournal) -> None:
    judge.decision = Decision(DecisionOutcome.WAIT, Cause.UNKNOWN_PENDING, code="7KQ4DM")
    desk.decide(REQUEST)
    (event,) = journal.story(MAC)
    assert (event.fields["outcome"], event.fields["code"]) == ("wait", "7KQ4DM")


def test_a_boot_image_names_its_loader(desk: Granting, judge: Judge) -> None:
    grant = desk.grant(REQUEST, judge.decision, ClientClass.PXE)
    assert (grant.outcome, grant.loader, grant.image) == (Outcome.BOOT, "LAB00005-uefi-x64.efi", "LAB00005")


def test_without_a_boot_image_the_rules_name_it(desk: Granting) -> None:
    grant = desk.grant(REQUEST, Decision(DecisionOutcome.BOOT, Cause.DEFAULT), ClientClass.PXE)
    assert (grant.outcome, grant.loader, grant.image) == (Outcome.BOOT, "", "")


@pytest.mark.parametrize("outcome", [DecisionOutcome.ABORT, DecisionOutcome.SILENT])
def test_who_is_not_to_boot_gets_no_loader(desk: Granting, outcome: DecisionOutcome) -> None:
    decision = Decision(outcome, Cause.NOTHING_DEPLOYED, boot_image="LAB00005")
    assert desk.grant(REQUEST, decision, ClientClass.PXE).loader == ""


def test_an_ipxe_that_waits_gets_the_waiting_script_and_never_the_rules_own(desk: Granting) -> None:
    decision = Decision(DecisionOutcome.WAIT, Cause.UNKNOWN_PENDING, code="7KQ4DM")
    assert desk.grant(REQUEST, decision, ClientClass.IPXE).loader == WAITING_SCRIPT
    assert desk.grant(REQUEST, decision, ClientClass.PXE).loader == ""


def test_an_address_is_remembered_by_story_and_policy_unless_it_is_none(
    desk: Granting, judge: Judge, journal: BootJournal
) -> None:
    for address in ("", None, "0.0.0.0", "192.0.2.7"):
        desk.bind(address, MAC)
    assert judge.bound == [("192.0.2.7", MAC)]
    journal.note_address("192.0.2.7", "tftp")
    assert [event.event for event in journal.story(MAC)] == ["tftp"]


def test_an_answer_is_news_once_for_each_loader(desk: Granting, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.is_news(MAC, "a.efi")
    assert not desk.is_news(MAC, "a.efi")
    assert desk.is_news(MAC, "b.efi")
    monkeypatch.setattr(granting, "MAX_ANNOUNCED", 1)
    assert desk.is_news("52:54:00:00:00:02", "a.efi")
    assert desk.is_news(MAC, "a.efi")
