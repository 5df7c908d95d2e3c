# SPDX-License-Identifier: Apache-2.0
"""Each profile against the client that it is for, and the table against the tests that it names."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.protocol.pxe.test_responder import AT_67, AT_4011, POLICY, answered, silence
from tests.protocol.pxe.test_rules import captured

from dpd.protocol.dhcp.message import Message, MessageType
from dpd.protocol.dhcp.options import MenuItem, Option, decode_pxe_options
from dpd.protocol.pxe.profiles import PROFILES, QUIRKS, Flow, Profile, Quirk, find_profile
from dpd.protocol.pxe.responder import Reason
from dpd.protocol.pxe.rules import ClientClass, Rule, identify

TESTS = Path(__file__).parents[2]


def profile_of(message: Message) -> str:
    return find_profile(identify(message)).name


def from_a_pi(**options: bytes | None) -> Message:
    asked = captured("edk2-x64-discover", o93=b"\0\0", o60=b"PXEClient:Arch:00000:UNDI:002001", **options)
    return replace(asked, chaddr=bytes.fromhex("b827eb5e2a2e"))


def with_flow(flow: str) -> tuple[Rule, ...]:
    return (Rule("all", ClientClass.PXE, "grub.efi", flow=flow),)


@pytest.mark.parametrize("quirk", [*(profile.quirk for profile in PROFILES), *QUIRKS], ids=lambda quirk: quirk.device)
def test_a_quirk_names_its_device_its_symptom_and_a_test_that_exists(quirk: Quirk) -> None:
    assert quirk.device
    assert quirk.symptom
    path, _, name = quirk.test.partition("::")
    assert f"def {name}(" in (TESTS / path).read_text(encoding="utf-8")


def test_profiles_have_names_of_their_own_and_the_last_fits_everybody() -> None:
    assert len({profile.name for profile in PROFILES}) == len(PROFILES)
    assert {profile.flow for profile in PROFILES} | {Flow.BINL} == set(Flow)
    last = PROFILES[-1]
    assert Profile(last.name, last.flow, last.quirk) == last


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (captured("edk2-x64-discover"), "default"),
        (captured("aavmf-discover"), "default"),
        (captured("edk2-x64-boot-request"), "default"),
        (captured("edk2-http-discover"), "http"),
        (captured("ipxe-bios-discover"), "ipxe"),
        (captured("ipxe-efi-discover"), "ipxe"),
        (captured("edk2-x64-discover", o60=b"HW-Client:Arch:00007"), "huawei"),
        (captured("edk2-x64-discover", o60=b"U-Boot.armv8", o93=b"\0\x16"), "u-boot"),
        (from_a_pi(), "raspberry-pi"),
        (replace(captured("edk2-x64-discover"), chaddr=bytes.fromhex("b827eb5e2a2e")), "default"),  # EDK2 on a Pi
        (from_a_pi(o77=b"iPXE"), "ipxe"),
    ],
)
def test_a_client_has_its_profile(message: Message, name: str) -> None:
    assert profile_of(message) == name


def test_a_raspberry_pi_finds_its_words_in_the_menu() -> None:
    """The bytes that its documentation has dnsmasq send, in the order of the tags. It knows its files' names itself."""
    reply, offer = answered(from_a_pi())
    assert reply.profile == "raspberry-pi"
    assert (offer.siaddr, offer.sname, offer.file) == (AT_67.server, AT_67.server.encode(), b"")
    assert offer.option(Option.BOOT_FILE) is None
    vendor = offer.option(Option.VENDOR)
    assert vendor == b"\x06\x01\x03" + b"\x09\x14\0\0\x11Raspberry Pi Boot" + b"\x0a\x04\0PXE" + b"\xff"
    assert decode_pxe_options(vendor).menu == (MenuItem(0, "Raspberry Pi Boot"),)


def test_u_boot_reads_the_header() -> None:
    policy = replace(POLICY, rules=(Rule("arm", ClientClass.PXE, "grubaa64.efi", (22,)),))
    _, offer = answered(captured("edk2-x64-discover", o60=b"U-Boot.armv8", o93=b"\0\x16"), policy=policy)
    assert (offer.siaddr, offer.file) == (AT_67.server, b"grubaa64.efi")
    assert offer.option(Option.VENDOR_CLASS) == b"PXEClient"
    assert offer.option(Option.VENDOR) is None


def test_a_u_boot_that_only_wants_an_address_is_left_alone() -> None:
    assert silence(captured("edk2-x64-discover", o60=b"U-Boot.armv8", o93=None)) is Reason.NOT_NETWORK_BOOT


def test_a_client_with_a_word_of_its_own_hears_it_again() -> None:
    reply, offer = answered(captured("edk2-x64-discover", o60=b"HW-Client:Arch:00007:UNDI:003016"))
    assert reply.machine.client_class is ClientClass.PXE
    assert offer.option(Option.VENDOR_CLASS) == b"HW-Client"
    assert offer.option(Option.BOOT_FILE) == b"ipxe.efi"


def test_who_asks_for_option_150_gets_it() -> None:
    _, offer = answered(captured("edk2-x64-discover", o55=bytes((66, 67, 150))))
    assert offer.option(Option.TFTP_SERVERS) == bytes((10, 77, 0, 10))
    _, without = answered(captured("edk2-x64-discover"))
    assert without.option(Option.TFTP_SERVERS) is None


def test_a_rule_may_choose_another_form() -> None:
    """BINL: nothing in option 43, so that the firmware comes to 4011, and there the same without option 43."""
    policy = replace(POLICY, rules=with_flow("binl"))
    for message, arrival in ((captured("edk2-x64-discover"), AT_67), (captured("edk2-x64-boot-request"), AT_4011)):
        _, reply = answered(message, arrival, policy)
        assert reply.option(Option.VENDOR) is None
        assert reply.option(Option.VENDOR_CLASS) == b"PXEClient"
        assert (reply.siaddr, reply.file) == (AT_67.server, b"grub.efi")


def test_binl_returns_the_item_of_a_menu() -> None:
    policy = replace(POLICY, rules=with_flow("binl"))
    asked = captured("edk2-x64-boot-request", o43=b"\x47\x04\x80\x00\x00\x00\xff")
    _, ack = answered(asked, AT_4011, policy)
    assert ack.message_type == MessageType.ACK
    assert ack.option(Option.VENDOR) == b"\x47\x04\x80\x00\x00\x00\xff"


def test_a_bare_answer_to_a_pxe_client_has_no_class() -> None:
    _, offer = answered(captured("edk2-x64-discover"), policy=replace(POLICY, rules=with_flow("bare")))
    assert offer.option(Option.VENDOR_CLASS) is None
    assert offer.option(Option.VENDOR) is None
    assert (offer.siaddr, offer.file, offer.option(Option.BOOT_FILE)) == (AT_67.server, b"grub.efi", b"grub.efi")
