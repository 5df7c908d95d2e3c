# SPDX-License-Identifier: Apache-2.0
"""What stands inside DHCPv6 options: captures, RFC examples, round trips, arbitrary bytes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.dhcp6_vectors import VECTORS

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp6 import options
from dpd.protocol.dhcp6.message import decode
from dpd.protocol.dhcp6.options import (
    Duid,
    DuidKind,
    IdentityAssociation,
    LinkLayer,
    Option,
    RemoteId,
    VendorClass,
    VendorOptions,
)

MAC = "52:54:00:77:00:0b"
texts = st.lists(st.binary(max_size=60), max_size=5).map(tuple)
enterprises = st.integers(0, 2**32 - 1)


def value(name: str, code: int) -> bytes:
    found = decode(VECTORS[name]).message.option(code)
    assert found is not None
    return found


def test_firmware_names_itself_in_the_vendor_class() -> None:
    told = options.decode_vendor_class(value("edk2-pxe-solicit", Option.VENDOR_CLASS))
    assert told == VendorClass(343, (b"PXEClient:Arch:00007:UNDI:003000",))
    assert options.encode_vendor_class(told) == value("edk2-pxe-solicit", Option.VENDOR_CLASS)


def test_ipxe_names_itself_in_the_user_class() -> None:
    assert options.decode_user_classes(value("ipxe-efi-solicit", Option.USER_CLASS)) == (b"iPXE",)


def test_architecture_and_interface() -> None:
    assert options.decode_codes(value("edk2-pxe-solicit", Option.CLIENT_ARCH)) == (7,)
    told = options.decode_client_interface(value("edk2-pxe-solicit", Option.CLIENT_INTERFACE))
    assert (told.interface_type, told.major, told.minor) == (1, 3, 0)


def test_leased_address_in_a_request_and_a_reply() -> None:
    asked = options.decode_identity_association(value("edk2-pxe-request", Option.IA_NA))
    assert asked.addresses == ("fd77::1e4",)
    given = options.decode_identity_association(value("dnsmasq-reply-url", Option.IA_NA))
    assert given == IdentityAssociation(0xFF0FDFF7, 1800, 3150, ("fd77::1e4",))


def test_an_identity_association_may_say_why_it_has_no_address() -> None:
    raw = bytes(12) + options.write_pairs(((int(Option.STATUS_CODE), b"\0\x02no"),))
    assert options.decode_identity_association(raw) == IdentityAssociation(0, 0, 0, (), 2)


@pytest.mark.parametrize(
    ("content", "mac", "uuid"),
    [
        ("0001 0001 293a9cee 52540077000b", MAC, ""),
        ("0003 0001 52540077000b", MAC, ""),
        ("0003 0020 52540077000b", "", ""),  # InfiniBand
        ("0003 0001 5254007700", "", ""),
        ("0002 00000157 52540077000b", "", ""),
        ("0004 616c787000620040800052540077000b", "", "616c787000620040800052540077000b"),
        ("0004 616c7870", "", ""),
        ("00ff 52540077000b", "", ""),
    ],
)
def test_what_a_duid_tells_of_its_machine(content: str, mac: str, uuid: str) -> None:
    raw = bytes.fromhex(content.replace(" ", ""))
    duid = options.decode_duid(raw)
    assert (duid.mac, duid.uuid.hex()) == (mac, uuid)
    assert options.encode_duid(duid) == raw


def test_our_own_duid_is_of_the_link_layer_kind() -> None:
    duid = options.decode_duid(options.link_layer_duid(MAC))
    assert (duid.kind, duid.mac) == (DuidKind.LINK_LAYER, MAC)
    with pytest.raises(MisuseError):
        options.link_layer_duid("52:54")


def test_the_relay_tells_the_hardware_address() -> None:
    """RFC 6939 section 4."""
    raw = bytes.fromhex("0001" + MAC.replace(":", ""))
    assert options.decode_link_layer(raw) == LinkLayer(1, bytes.fromhex(MAC.replace(":", "")))


def test_remote_id() -> None:
    assert options.decode_remote_id(b"\0\0\x01\x57sw1/7") == RemoteId(343, b"sw1/7")


@given(enterprises, texts)
def test_vendor_class_comes_back(enterprise: int, classes: tuple[bytes, ...]) -> None:
    told = VendorClass(enterprise, classes)
    assert options.decode_vendor_class(options.encode_vendor_class(told)) == told


@given(enterprises, st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=5).map(tuple))
def test_vendor_options_come_back(enterprise: int, inside: tuple[tuple[int, bytes], ...]) -> None:
    told = VendorOptions(enterprise, inside)
    assert options.decode_vendor_options(options.encode_vendor_options(told)) == told


@given(texts)
def test_user_classes_and_boot_parameters_come_back(words: tuple[bytes, ...]) -> None:
    assert options.decode_user_classes(options.encode_user_classes(words)) == words
    assert options.decode_boot_parameters(options.encode_boot_parameters(words)) == words


@given(st.lists(st.integers(0, 65535), max_size=20).map(tuple))
def test_codes_come_back(codes: tuple[int, ...]) -> None:
    assert options.decode_codes(options.encode_codes(codes)) == codes


@given(st.integers(0, 65535), st.binary(min_size=1, max_size=20))
def test_link_layer_and_duid_come_back(number: int, octets: bytes) -> None:
    link_layer, duid = LinkLayer(number, octets), Duid(number, octets)
    assert options.decode_link_layer(options.encode_link_layer(link_layer)) == link_layer
    assert options.decode_duid(options.encode_duid(duid)) == duid


READERS: list[Callable[[bytes], object]] = [
    options.decode_duid,
    options.decode_vendor_class,
    options.decode_vendor_options,
    options.decode_user_classes,
    options.decode_boot_parameters,
    options.decode_codes,
    options.decode_client_interface,
    options.decode_link_layer,
    options.decode_remote_id,
    options.decode_identity_association,
]


@pytest.mark.parametrize("read", READERS)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_malformed(read: Callable[[bytes], object], raw: bytes) -> None:
    try:
        read(raw)
    except MalformedMessage as error:
        assert error.reason in {"option_length", "option_truncated", "suboption_truncated"}  # noqa: PT017


@pytest.mark.parametrize("raw", [b"\0", b"\0\x05ab", b"\0\x01a\0"])
def test_a_text_that_runs_past_its_option_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage, match="suboption_truncated"):
        options.decode_user_classes(raw)
