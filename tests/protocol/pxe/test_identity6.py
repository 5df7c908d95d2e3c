# SPDX-License-Identifier: Apache-2.0
"""Who asks over DHCPv6, out of captures and of what relays and DUIDs tell."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.dhcp6_vectors import VECTORS

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp6.message import Message, Packet, Relay, decode
from dpd.protocol.dhcp6.options import Option, encode_vendor_class, link_layer_duid
from dpd.protocol.dhcp6.options import VendorClass as Vendor
from dpd.protocol.pxe.identity6 import identify6, mac_of_address, vendor_word
from dpd.protocol.pxe.rules import ClientClass

MAC = "52:54:00:77:05:0b"
SOURCE = "fe80::5054:ff:fe77:50b%3"
GUID = "70786c61-6200-4000-8000-52540077000b"
FIRMWARE = decode(VECTORS["edk2-pxe-solicit"])
IPXE = decode(VECTORS["ipxe-efi-solicit"])


def changed(packet: Packet, **values: bytes | None) -> Packet:
    """The packet with options, given by name, replaced, added or taken away."""
    wanted = {int(Option[name]): value for name, value in values.items()}
    kept = tuple(pair for pair in packet.message.options if pair[0] not in wanted)
    added = tuple((code, value) for code, value in wanted.items() if value is not None)
    return replace(packet, message=replace(packet.message, options=kept + added))


def test_firmware_that_asks_for_pxe() -> None:
    machine = identify6(FIRMWARE, SOURCE).machine
    assert (machine.mac, machine.guid) == (MAC, GUID)
    assert (machine.client_class, machine.client_arch, machine.vendor_class) == (ClientClass.PXE, (7,), "PXEClient")


def test_firmware_that_asks_for_http_boot() -> None:
    machine = identify6(decode(VECTORS["edk2-http-solicit"]), "fe80::5054:ff:fed9:d601").machine
    assert (machine.mac, machine.guid) == ("52:54:00:d9:d6:01", "ad430734-1572-5251-8739-c7b284c74950")
    assert (machine.client_class, machine.client_arch, machine.vendor_class) == (ClientClass.HTTP, (16,), "HTTPClient")


def test_ipxe_is_the_same_machine_although_its_duid_has_another_byte_order() -> None:
    machine = identify6(IPXE, SOURCE).machine
    assert (machine.mac, machine.guid, machine.client_class) == (MAC, GUID, ClientClass.IPXE)


def test_at_the_boot_port_the_duid_is_what_a_machine_is_known_by() -> None:
    """The source is then the leased address, which is made of nothing."""
    boot_request = decode(VECTORS["edk2-boot-request"])
    assert identify6(boot_request, "fd77::162").machine.mac == ""
    assert identify6(boot_request, "fd77::162", MAC).machine.mac == MAC


def relayed(packet: Packet, link_layer: str = "", peer: str = "fe80::1") -> Packet:
    options = ((int(Option.CLIENT_LINK_LAYER), bytes.fromhex(link_layer)),) if link_layer else ()
    outer = Relay(12, 1, "fd00::1", "fe80::99", ((int(Option.CLIENT_LINK_LAYER), bytes.fromhex("0001" + "ee" * 6)),))
    return replace(packet, relays=(outer, Relay(12, 0, "fd00::2", peer, options)))


def test_the_relay_next_to_the_client_knows_best() -> None:
    assert identify6(relayed(FIRMWARE, "0001aabbccddeeff"), "fd00::1").machine.mac == "aa:bb:cc:dd:ee:ff"


@pytest.mark.parametrize("told", ["", "0020aabbccddeeff", "0001aabbcc"])
def test_without_a_usable_word_of_the_relay_the_peer_address_tells(told: str) -> None:
    assert identify6(relayed(FIRMWARE, told, SOURCE.partition("%")[0]), "fd00::1").machine.mac == MAC


def test_a_duid_of_a_link_layer_address_is_the_last_resort() -> None:
    packet = changed(FIRMWARE, CLIENT_ID=link_layer_duid("aa:bb:cc:dd:ee:ff"))
    assert identify6(packet, "fe80::1234").machine.mac == "aa:bb:cc:dd:ee:ff"
    assert identify6(packet, SOURCE).machine.mac == MAC
    assert identify6(packet, SOURCE).machine.guid == ""


@pytest.mark.parametrize("nobody", [b"\0\4" + bytes(16), b"\0\4" + b"\xff" * 16])
def test_a_guid_of_nobody_is_none(nobody: bytes) -> None:
    assert identify6(changed(FIRMWARE, CLIENT_ID=nobody), SOURCE).machine.guid == ""


def test_who_has_no_client_id_has_no_duid() -> None:
    identity = identify6(changed(FIRMWARE, CLIENT_ID=None), SOURCE)
    assert (identity.duid, identity.machine.guid, identity.machine.mac) == (b"", "", MAC)


@pytest.mark.parametrize(
    ("told", "arch"),
    [(b"PXEClient:Arch:00011:UNDI:003000", (11,)), (b"PXEClient", ()), (b"PXEClient:Arch:x:UNDI", ())],
)
def test_without_option_61_the_vendor_class_tells_the_architecture(told: bytes, arch: tuple[int, ...]) -> None:
    packet = changed(FIRMWARE, CLIENT_ARCH=None, VENDOR_CLASS=encode_vendor_class(Vendor(343, (told,))))
    assert identify6(packet, SOURCE).machine.client_arch == arch


def test_ordinary_clients_say_nothing_of_network_boot() -> None:
    assert vendor_word(decode(VECTORS["edk2-stack-solicit"]).message) == ("", "")
    other = encode_vendor_class(Vendor(311, (b"MSFT 5.0",)))
    assert vendor_word(Message(1, 0, ((int(Option.VENDOR_CLASS), other),))) == ("", "")


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("fe80::5054:ff:fe77:50b", MAC),
        ("fe80::e829:ceff:fec3:d4d6%eth0", "ea:29:ce:c3:d4:d6"),
        ("fe80::1", ""),
        ("fd77::5054:ff:fe77:50b", ""),  # anybody may call himself so from afar
        ("fe80:0:0:1:5054:ff:fe77:50b", ""),
    ],
)
def test_the_mac_inside_a_link_local_address(address: str, mac: str) -> None:
    assert mac_of_address(address) == mac


@given(st.sampled_from(sorted(VECTORS)), st.data())
def test_broken_options_are_malformed_and_nothing_else(name: str, data: st.DataObject) -> None:
    packet = decode(VECTORS[name])
    options = [(code, data.draw(st.binary(max_size=40))) for code, _ in packet.message.options]
    try:
        identify6(Packet(replace(packet.message, options=tuple(options))), SOURCE)
    except MalformedMessage as error:
        assert error.reason in {"option_length", "suboption_truncated"}  # noqa: PT017
