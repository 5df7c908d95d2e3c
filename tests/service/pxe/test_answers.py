# SPDX-License-Identifier: Apache-2.0
"""Policy, boot images and journal around the responder: what each decision makes of a captured DISCOVER."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.protocol.pxe.test_responder import AT_67, AT_4011
from tests.protocol.pxe.test_rules import captured

from dpd.boot.tree import BootContext
from dpd.boot.winpe import BCD_NAME
from dpd.protocol.dhcp.message import Message, decode
from dpd.protocol.dhcp.options import Option, decode_pxe_options
from dpd.protocol.pxe.menu import LOCAL_BOOT_AT_ONCE
from dpd.protocol.pxe.responder import Arrival
from dpd.service.boot_tree import NoImages
from dpd.service.pxe.answers import Prepared, PxeAnswers
from dpd.settings import PxeRule, PxeSettings, PxeSubnet
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:77:03:04"
CHOSEN = b"\x47\x04\x80\x00\x00\x00\xff"


@dataclass
class Judge:
    """Policy with one answer; it keeps what it was told."""

    decision: Decision
    asked: list[BootRequest] = field(default_factory=list)
    granted: list[BootRequest] = field(default_factory=list)
    issued: list[BootRequest] = field(default_factory=list)
    bound: dict[str, str] = field(default_factory=dict)

    def decide(self, request: BootRequest) -> Decision:
        self.asked.append(request)
        return self.decision

    def grant(self, request: BootRequest, decision: Decision) -> None:
        self.granted.append(request)

    def begin(self, request: BootRequest, decision: Decision) -> None:
        assert decision is self.decision
        self.issued.append(request)

    def bind(self, address: str, mac: str) -> None:
        self.bound[address] = mac


class Images(NoImages):
    """One Windows image for x64 and a waiting screen by HTTP."""

    def __init__(self) -> None:
        self.contexts: list[BootContext] = []

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        self.contexts.append(context)
        if context.outcome == "wait":
            return f"http://{context.host}:{context.http_port}/boot/wait.ipxe" if client_class == "HTTPClient" else ""
        return "bootmgfw.efi" if (image_id, arch) == ("win11", "uefi-x64") else ""


class Desk:
    """The answers under test, with what stands around them."""

    def __init__(self, decision: Decision, settings: PxeSettings | None = None, **options: object) -> None:
        self.judge, self.journal, self.images = Judge(decision), BootJournal(), Images()
        self.answers = PxeAnswers(
            journal=self.journal,
            http_port=8080,
            policy=self.judge,
            images=self.images,
            **options,  # type: ignore[arg-type]
        )
        self.answers.adopt(settings or PxeSettings(), 67)

    def prepare(self, message: Message, arrival: Arrival = AT_67) -> Prepared | None:
        return self.answers.prepare(message, arrival)

    def sent(self, message: Message, arrival: Arrival = AT_67) -> Message:
        """The answer, which has left."""
        prepared = self.prepare(message, arrival)
        assert prepared is not None
        self.answers.leaves(prepared)
        self.answers.sent(prepared)
        return decode(prepared.reply.payload)

    def silent(self, message: Message, arrival: Arrival = AT_67) -> str:
        """The reason of the silence."""
        assert self.prepare(message, arrival) is None
        (reason,) = self.answers.stats.ignored
        return reason

    def events(self, mac: str = MAC) -> list[str]:
        return [event.event for event in self.journal.story(mac)]


BOOT = Decision(Outcome.BOOT, Cause.REQUIRED, computer="pc1", deployment="7", boot_image="win11")


def test_policy_hears_who_asks_where_and_from_which_port_of_the_switch() -> None:
    desk = Desk(BOOT)
    desk.prepare(replace(captured("edk2-x64-discover", o82=b"\x01\x02ab"), giaddr="10.5.0.1", secs=4))
    (asked,) = desk.judge.asked
    assert (asked.mac, asked.guid) == (MAC, "70786c61-6200-4000-8000-525400770004")
    assert (asked.arch, asked.client_class, asked.server) == ("uefi-x64", "PXEClient", "10.77.0.10")
    assert (asked.relay, asked.circuit, asked.secs) == ("10.5.0.1", "6162", 4)
    assert asked.at > 1.7e9


def test_an_http_client_is_judged_by_its_processor() -> None:
    desk = Desk(Decision(Outcome.BOOT, Cause.DEFAULT))
    desk.prepare(captured("edk2-http-discover"))
    assert desk.judge.asked[0].arch == "uefi-x64"


def test_a_boot_image_gives_its_loader_and_its_bcd_the_ticket_goes_before_the_answer_and_the_run_follows_it() -> None:
    desk = Desk(BOOT)
    prepared = desk.prepare(captured("edk2-x64-discover"))
    assert prepared is not None
    assert desk.judge.granted == []
    desk.answers.leaves(prepared)
    assert (desk.judge.granted, desk.judge.issued) == (desk.judge.asked, [])
    desk.answers.sent(prepared)
    assert desk.judge.issued == desk.judge.asked
    offer = decode(prepared.reply.payload)
    assert (offer.file, offer.option(Option.BCD)) == (b"bootmgfw.efi", BCD_NAME.encode() + b"\0")
    (context,) = desk.images.contexts
    assert (context.mac, context.arch, context.server, context.http_port) == (MAC, "uefi-x64", "10.77.0.10", 8080)
    assert desk.events() == ["discover", "decision", "offer"]


def test_the_story_has_the_decision_and_the_form_of_the_answer() -> None:
    desk = Desk(BOOT)
    desk.sent(captured("edk2-x64-discover"))
    discover, decision, offer = (event.fields for event in desk.journal.story(MAC))
    assert discover["profile"] == "default"
    assert (discover["family"], discover["xid"], discover["secs"]) == (4, "c4ec4a4b", 0)
    assert decision == {
        "outcome": "boot",
        "cause": "required",
        "computer": "pc1",
        "deployment": "7",
        "boot_image": "win11",
    }
    assert (offer["rule"], offer["loader"], offer["server"]) == ("win11", "bootmgfw.efi", "10.77.0.10")
    assert (offer["flow"], offer["destination"]) == ("direct", "255.255.255.255:68")


def test_an_answer_that_did_not_leave_makes_no_ticket() -> None:
    desk = Desk(BOOT)
    prepared = desk.prepare(captured("edk2-x64-discover"))
    assert prepared is not None
    desk.answers.not_sent(prepared)
    assert desk.judge.issued == []
    assert desk.events()[-1] == "send_failed"
    assert desk.answers.stats.send_failures == 1


def test_where_the_image_has_no_loader_a_public_one_comes_first() -> None:
    """Linux by way of iPXE, for one; what iPXE then gets is the image's by the ticket."""
    desk = Desk(BOOT)
    offer = desk.sent(captured("aavmf-discover"))
    assert (offer.file, offer.option(Option.BCD)) == (b"ipxe-arm64.efi", None)
    assert len(desk.judge.issued) == 1


def test_where_there_is_no_public_one_either_it_is_told() -> None:
    desk = Desk(BOOT, PxeSettings(rule=(PxeRule(name="x64", client_arch=(7,), loader="ipxe.efi"),)))
    assert desk.silent(captured("aavmf-discover")) == "no_rule"


def test_without_an_image_the_rules_speak() -> None:
    desk = Desk(Decision(Outcome.BOOT, Cause.DEFAULT))
    assert desk.sent(captured("edk2-x64-discover")).file == b"ipxe.efi"
    assert desk.images.contexts == []
    assert len(desk.judge.issued) == 1


def test_silent_is_silent_and_told() -> None:
    desk = Desk(Decision(Outcome.SILENT, Cause.UNKNOWN_DENIED))
    assert desk.silent(captured("edk2-x64-discover")) == "policy"
    assert desk.events() == ["discover", "decision", "ignored"]
    assert desk.answers.stats.decisions == {"silent": 1}


def test_abort_sends_the_machine_on_and_makes_no_ticket() -> None:
    desk = Desk(Decision(Outcome.ABORT, Cause.NOTHING_DEPLOYED, boot_image="win11"))
    vendor = desk.sent(captured("edk2-x64-discover")).option(Option.VENDOR)
    assert vendor is not None
    assert decode_pxe_options(vendor) == LOCAL_BOOT_AT_ONCE
    assert desk.judge.issued == []


def test_a_prompt_makes_its_ticket_once_the_network_was_chosen() -> None:
    desk = Desk(Decision(Outcome.PROMPT, Cause.AVAILABLE, boot_image="win11", message="Windows 11"))
    assert desk.sent(captured("edk2-x64-discover")).file == b""
    assert desk.judge.issued == []
    assert desk.sent(captured("edk2-x64-boot-request", o43=CHOSEN), AT_4011).file == b"bootmgfw.efi"
    assert len(desk.judge.issued) == 1


@pytest.mark.parametrize(
    ("name", "loader"),
    [
        ("edk2-x64-discover", "ipxe.efi"),  # public, by the rules: iPXE is what shows the code
        ("ipxe-bios-discover", "boot.ipxe"),
        ("edk2-http-discover", "http://10.77.0.10:8080/boot/wait.ipxe"),
    ],
)
def test_who_waits_gets_what_shows_its_code(name: str, loader: str) -> None:
    desk = Desk(Decision(Outcome.WAIT, Cause.UNKNOWN_PENDING, code="4711"))
    prepared = desk.prepare(captured(name))
    assert prepared is not None
    assert prepared.reply.loader == loader
    desk.answers.sent(prepared)
    assert len(desk.judge.issued) == 1
    assert desk.images.contexts[0].code == "4711"


def test_a_waiting_ipxe_never_gets_a_script_from_elsewhere() -> None:
    settings = PxeSettings(rule=(PxeRule(name="far", client_class="iPXE", loader="http://192.0.2.1/all.ipxe"),))
    desk = Desk(Decision(Outcome.WAIT, Cause.PIN_MISSING), settings)
    assert desk.sent(captured("ipxe-efi-discover")).file == b"boot.ipxe"


def test_addresses_are_learnt_at_4011_and_from_overheard_lease_requests() -> None:
    desk = Desk(BOOT)
    desk.prepare(captured("edk2-x64-lease-request"))
    assert desk.judge.bound == {"10.77.0.100": MAC}
    desk.judge.bound.clear()
    desk.prepare(captured("edk2-x64-boot-request"), AT_4011)
    assert desk.judge.bound == {"10.77.0.100": MAC}


def test_a_boot_server_discovery_on_67_is_in_the_story_and_a_lease_request_is_the_lease_servers() -> None:
    desk = Desk(BOOT)
    desk.sent(replace(captured("edk2-x64-boot-request", o43=CHOSEN), ciaddr="0.0.0.0"))
    assert desk.events() == ["boot_request", "decision", "boot_reply"]
    desk.prepare(captured("edk2-x64-lease-request"))
    assert desk.events()[3:] == ["ignored"]
    assert desk.answers.stats.boot_requests == {"uefi-x64": 1}


def test_a_network_has_its_own_address_and_delay() -> None:
    subnets = (
        PxeSubnet(network="10.5.0.0/16", server_address="10.5.0.10", response_delay_s=8),
        PxeSubnet(network="10.5.1.0/24", server_address="fd00::10"),
    )
    desk = Desk(BOOT, PxeSettings(response_delay_s=2, subnet=subnets))
    relayed = replace(captured("edk2-x64-discover"), giaddr="10.5.0.1", secs=4)
    assert desk.silent(relayed) == "too_early"
    assert desk.journal.story(MAC)[-1].fields == {"reason": "too_early", "secs": 4, "delay_s": 8}
    assert desk.sent(replace(relayed, secs=8)).siaddr == "10.5.0.10"
    assert desk.judge.asked[-1].server == "10.5.0.10"
    assert desk.sent(replace(relayed, giaddr="10.5.1.1")).siaddr == "10.77.0.10"  # IPv6's address is for IPv6


def test_a_loader_that_failed_its_check_is_not_handed_out() -> None:
    def refusal_of(name: str) -> str:
        return "the signature is broken" if name == "ipxe.efi" else ""

    for name in ("edk2-x64-discover", "edk2-http-discover"):
        desk = Desk(Decision(Outcome.BOOT, Cause.DEFAULT), refusal_of=refusal_of)
        assert desk.silent(captured(name)) == "chain_broken"
        story = desk.journal.story(desk.judge.asked[0].mac)
        assert story[-1].fields == {"reason": "chain_broken", "detail": "the signature is broken"}
    assert Desk(BOOT, refusal_of=refusal_of).prepare(captured("edk2-x64-discover")) is not None


def test_what_is_not_of_network_boot_asks_no_policy() -> None:
    desk = Desk(BOOT)
    assert desk.silent(captured("udhcpc-discover")) == "not_network_boot"
    assert desk.judge.asked == []
    assert desk.journal.machines() == []
