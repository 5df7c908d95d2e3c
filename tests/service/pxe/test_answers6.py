# SPDX-License-Identifier: Apache-2.0
"""From a DHCPv6 packet to its answer: what policy and boot images say shows in the answer, the story and the counters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.data.dhcp6_vectors import VECTORS
from tests.protocol.pxe.test_identity6 import changed

from dpd.boot.tree import BootContext, BootObject
from dpd.protocol.dhcp6.message import MessageType, Packet, Relay, decode
from dpd.protocol.dhcp6.options import Duid, Option, encode_duid
from dpd.protocol.pxe.responder6 import Arrival6
from dpd.service.pxe import answers6 as pxe6_answers
from dpd.service.pxe.answers6 import Prepared6, Pxe6Answers, own_duid
from dpd.settings import PxeSettings, PxeSubnet
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:77:05:0b"
SERVER = "fd77::10"
DIRECT = Arrival6(("fe80::5054:ff:fe77:50b%3", 546), SERVER)
PXE = decode(VECTORS["edk2-pxe-solicit"])
IPXE = decode(VECTORS["ipxe-efi-solicit"])
LEASE_REQUEST = decode(VECTORS["edk2-pxe-request"])
DEFAULT = Decision(Outcome.BOOT, Cause.DEFAULT)


@dataclass
class Judge:
    """Policy that decides one thing, and remembers what it was told."""

    decision: Decision = field(default_factory=lambda: DEFAULT)
    requests: list[BootRequest] = field(default_factory=list)
    granted: list[BootRequest] = field(default_factory=list)
    issued: list[BootRequest] = field(default_factory=list)
    bound: dict[str, str] = field(default_factory=dict)

    def decide(self, request: BootRequest) -> Decision:
        self.requests.append(request)
        return self.decision

    def grant(self, request: BootRequest, decision: Decision) -> None:
        self.granted.append(request)

    def begin(self, request: BootRequest, decision: Decision) -> None:
        self.issued.append(request)

    def bind(self, address: str, mac: str) -> None:
        self.bound[address] = mac


class Images:
    """One image that has a loader for UEFI x64 alone."""

    context: BootContext | None = None

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        return None

    def holds(self, name: str) -> bool:
        return False

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        self.context = context
        return f"{image_id}/{client_class}.efi" if image_id and arch == "uefi-x64" else ""


@dataclass
class Site:
    """What an answer goes through."""

    judge: Judge = field(default_factory=Judge)
    images: Images = field(default_factory=Images)
    journal: BootJournal = field(default_factory=BootJournal)

    def __post_init__(self) -> None:
        self.answers = Pxe6Answers(
            journal=self.journal,
            http_port=8080,
            https_port=8443,
            policy=self.judge,
            images=self.images,
            refusal_of=lambda loader: "revoked" if loader == "bad.efi" else "",
        )
        self.answers.adopt(PxeSettings())

    def prepare(self, packet: Packet = PXE, arrival: Arrival6 = DIRECT) -> Prepared6 | None:
        return self.answers.prepare(packet, replace(arrival, known_mac=self.answers.known_mac(packet)))

    def url(self, packet: Packet = PXE) -> str:
        prepared = self.prepare(packet)
        assert prepared is not None
        return prepared.reply.loader

    def reason(self, packet: Packet = PXE) -> str:
        assert self.prepare(packet) is None
        return str(self.journal.story(MAC)[-1].fields["reason"])


@pytest.fixture
def site() -> Site:
    return Site()


def test_policy_is_asked_about_the_machine_and_where_it_is(site: Site) -> None:
    relay = Relay(12, 0, "fd99::1", "fe80::5054:ff:fe77:50b", ((int(Option.INTERFACE_ID), b"\x07\x01"),))
    assert site.prepare(replace(changed(PXE, ELAPSED_TIME=b"\x01\x90"), relays=(relay,))) is not None
    (request,) = site.judge.requests
    assert request.at > 0
    assert replace(request, at=0.0) == BootRequest(
        mac=MAC,
        guid="70786c61-6200-4000-8000-52540077000b",
        arch="uefi-x64",
        client_class="PXEClient",
        server=SERVER,
        relay="fd99::1",
        circuit="0701",
        secs=4,
    )
    first = site.journal.story(MAC)[0]
    assert (first.event, first.fields["relay"], first.fields["family"]) == ("discover", "fd99::1", 6)


def test_a_ticket_is_there_before_the_answer_leaves_and_the_run_counts_when_it_has(site: Site) -> None:
    prepared = site.prepare()
    assert prepared is not None
    assert site.judge.granted == []
    site.answers.leaves(prepared)
    assert (site.judge.granted, site.judge.issued) == ([prepared.request], [])
    site.answers.sent(prepared)
    assert site.judge.issued == [prepared.request]
    assert site.journal.story(MAC)[-1].event == "offer"


def test_an_answer_that_did_not_leave_makes_no_ticket(site: Site) -> None:
    prepared = site.prepare()
    assert prepared is not None
    site.answers.not_sent(prepared)
    assert site.judge.issued == []
    assert site.answers.stats.send_failures == 1
    assert site.journal.story(MAC)[-1].event == "send_failed"


@pytest.mark.parametrize(
    ("decision", "packet", "url"),
    [
        (DEFAULT, PXE, "tftp://[fd77::10]/ipxe.efi"),
        (replace(DEFAULT, boot_image="WIN"), PXE, "tftp://[fd77::10]/WIN/PXEClient.efi"),
        (Decision(Outcome.PROMPT, Cause.AVAILABLE, boot_image="WIN"), IPXE, "tftp://[fd77::10]/WIN/iPXE.efi"),
        (Decision(Outcome.WAIT, Cause.UNKNOWN_PENDING, code="K7"), PXE, "tftp://[fd77::10]/ipxe.efi"),
        (Decision(Outcome.WAIT, Cause.UNKNOWN_PENDING, code="K7"), IPXE, "tftp://[fd77::10]/boot.ipxe"),
    ],
)
def test_what_was_decided_is_what_the_machine_is_told(site: Site, decision: Decision, packet: Packet, url: str) -> None:
    site.judge.decision = decision
    assert site.url(packet) == url
    assert site.answers.stats.decisions == {decision.outcome.value: 1}


def test_the_boot_image_knows_for_whom_it_names_its_loader(site: Site) -> None:
    site.judge.decision = Decision(Outcome.BOOT, Cause.REQUIRED, boot_image="WIN", message="hello")
    site.url()
    context = site.images.context
    assert context is not None
    assert (context.mac, context.server, context.http_port) == (MAC, SERVER, 8080)
    assert (context.outcome, context.message) == ("boot", "hello")


@pytest.mark.parametrize(
    ("decision", "arch", "reason"),
    [
        (Decision(Outcome.SILENT, Cause.UNKNOWN_DENIED), 7, "policy"),
        (Decision(Outcome.ABORT, Cause.ALREADY_RUN), 7, "policy"),
        (DEFAULT, 10, "no_rule"),
    ],
)
def test_silence_has_its_reason_in_the_story(site: Site, decision: Decision, arch: int, reason: str) -> None:
    site.judge.decision = decision
    assert site.reason(changed(PXE, CLIENT_ARCH=arch.to_bytes(2, "big"))) == reason
    assert site.answers.stats.ignored == {reason: 1}
    told = site.journal.story(MAC)[1]
    assert (told.event, told.fields["cause"]) == ("decision", decision.cause.value)


def test_a_loader_of_a_broken_chain_is_told_with_its_sentence(site: Site) -> None:
    bad = replace(PxeSettings().rule[3], loader="bad.efi")
    site.answers.adopt(PxeSettings(rule=(bad,)))
    assert site.reason() == "chain_broken"
    assert site.journal.story(MAC)[-1].fields["detail"] == "revoked"


def test_the_lease_that_is_overheard_binds_the_address(site: Site) -> None:
    assert site.reason(LEASE_REQUEST) == "lease_request"
    assert site.judge.bound == {"fd77::1e4": MAC}
    assert site.judge.requests == []
    assert site.journal.story(MAC)[-1].fields["address"] == "fd77::1e4"


def test_a_response_delay_is_told_with_what_was_waited_for(site: Site) -> None:
    subnet = PxeSubnet(network="fd77::/64", response_delay_s=6)
    site.answers.adopt(PxeSettings(response_delay_s=2, subnet=(subnet,)))
    assert site.reason(changed(PXE, ELAPSED_TIME=b"\x01\x90")) == "too_early"
    fields = site.journal.story(MAC)[-1].fields
    assert (fields["secs"], fields["delay_s"]) == (4, 6)


def test_a_subnet_may_have_another_address_of_ours(site: Site) -> None:
    v4, v6 = (
        PxeSubnet(network="fd77::/64", server_address="10.0.0.1"),
        PxeSubnet(network="fd78::/64", server_address="fd78::9"),
    )
    site.answers.adopt(PxeSettings(subnet=(v4, v6)))
    assert site.answers.server_for(PXE, "fd77::10") == "fd77::10"
    assert site.answers.server_for(PXE, "fd78::10") == "fd78::9"
    relayed = replace(PXE, relays=(Relay(12, 0, "fd78::1", "fe80::1"),))
    assert site.answers.server_for(relayed, "fd77::10") == "fd78::9"


AT_BOOT_PORT = Arrival6(("fd77::162", 4011), SERVER, at_boot_port=True, by_multicast=False)
BOOT_REQUEST = changed(decode(VECTORS["edk2-boot-request"]), SERVER_ID=own_duid(), CLIENT_ID=PXE.message.option(1))


def test_a_duid_is_remembered_from_the_solicit_to_the_boot_port(site: Site) -> None:
    assert site.prepare(BOOT_REQUEST, AT_BOOT_PORT) is None
    assert site.answers.stats.ignored == {"no_hardware_address": 1}
    assert site.prepare() is not None
    prepared = site.prepare(BOOT_REQUEST, AT_BOOT_PORT)
    assert prepared is not None
    assert (prepared.reply.message_type, prepared.request.mac) == (MessageType.REPLY, MAC)
    assert site.judge.bound == {"fd77::162": MAC}
    site.answers.sent(prepared)
    assert site.journal.story(MAC)[-1].event == "boot_reply"


def test_a_flood_of_duids_costs_memory_of_older_ones_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pxe6_answers, "MAX_KNOWN", 3)
    for number in range(4):
        site.prepare(changed(PXE, CLIENT_ID=encode_duid(Duid(4, bytes(15) + bytes((number + 1,))))))
        site.prepare()
    known = [
        number
        for number in range(4)
        if site.answers.known_mac(changed(PXE, CLIENT_ID=encode_duid(Duid(4, bytes(15) + bytes((number + 1,))))))
    ]
    assert known == [2, 3]
    assert site.answers.known_mac(PXE) == MAC


def test_our_duid_stays_the_same() -> None:
    assert own_duid() == own_duid()
    assert own_duid().startswith(b"\0\4")
    assert len(own_duid()) == 18
