# SPDX-License-Identifier: Apache-2.0
"""The insides of single options."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.dhcp_vectors import VECTORS

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp import options as o
from dpd.protocol.dhcp.message import decode

words = st.integers(0, 65535)
addresses = st.ip_addresses(v=4).map(str)
short_text = st.text(st.characters(max_codepoint=255), max_size=20)

pxe_options = st.builds(
    o.PxeOptions,
    discovery_control=st.none() | st.integers(0, 255),
    multicast_address=st.none() | addresses,
    boot_servers=st.lists(st.builds(o.BootServer, words, st.lists(addresses, max_size=3).map(tuple)), max_size=3).map(
        tuple
    ),
    menu=st.lists(st.builds(o.MenuItem, words, short_text), max_size=3).map(tuple),
    prompt=st.none() | st.builds(o.MenuPrompt, st.integers(0, 255), short_text),
    item=st.none() | st.builds(o.BootItem, words, words),
)


@given(pxe_options)
def test_pxe_options_come_back(options: o.PxeOptions) -> None:
    assert o.decode_pxe_options(o.encode_pxe_options(options)) == options


def test_boot_menu_of_dnsmasq() -> None:
    value = decode(VECTORS["dnsmasq-proxy-menu-offer"]).option(o.Option.VENDOR)
    assert value is not None
    menu = o.PxeOptions(
        discovery_control=3,
        boot_servers=(o.BootServer(0x8000, ("10.77.0.10",)),),
        menu=(o.MenuItem(0x8000, "lab"),),
        prompt=o.MenuPrompt(0, "PXE"),
    )
    assert o.decode_pxe_options(value) == menu
    assert sorted(o.encode_pxe_options(menu)) == sorted(value)  # the same tags in another order


def test_boot_item_of_ipxe() -> None:
    value = decode(VECTORS["ipxe-bios-menu-request"]).option(o.Option.VENDOR)
    assert value is not None
    assert o.decode_pxe_options(value).item == o.BootItem(0x8000, 0)


def test_file_is_given_is_four_bytes() -> None:
    assert o.encode_pxe_options(o.PxeOptions(discovery_control=8)) == b"\x06\x01\x08\xff"


def test_unknown_tags_and_padding_are_skipped() -> None:
    assert o.decode_pxe_options(b"\x00\x01\x04mtfp\x00\x06\x01\x08\xff\x06\x01\x01") == o.PxeOptions(8)


@pytest.mark.parametrize(
    "value",
    [
        b"\x06",
        b"\x06\x02\x08",
        b"\x06\x00",
        b"\x07\x03abc",
        b"\x08\x02\x00\x00",
        b"\x08\x03\x00\x00\x01",
        b"\x09\x04\x00\x00\x02a",
        b"\x0a\x00",
        b"\x47\x03\x00\x00\x00",
    ],
)
def test_broken_pxe_options_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessage):
        o.decode_pxe_options(value)


def test_pxe_options_past_253_bytes_are_misuse() -> None:
    """Firmware does not join split options."""
    menu = tuple(o.MenuItem(i, "x" * 40) for i in range(5))
    with pytest.raises(MisuseError, match="option 43"):
        o.encode_pxe_options(o.PxeOptions(menu=menu, prompt=o.MenuPrompt(9, "x" * 40)))
    with pytest.raises(MisuseError, match="tag 9"):
        o.encode_pxe_options(o.PxeOptions(menu=menu * 2))


READERS: list[Callable[[bytes], object]] = [
    o.decode_pxe_options,
    o.decode_client_arch,
    o.decode_client_interface,
    o.decode_machine_id,
    o.decode_user_classes,
    lambda value: list(o.read_suboptions(value, framed=False)),
]


@given(st.sampled_from(READERS), st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(read: Callable[[bytes], object], value: bytes) -> None:
    assert reason(read, value) in {"", "suboption_truncated", "suboption_length", "option_length"}


def reason(read: Callable[[bytes], object], value: bytes) -> str:
    try:
        read(value)
    except MalformedMessage as error:
        return error.reason
    return ""


def test_suboptions_of_a_relay_have_no_padding() -> None:
    """RFC 3046 section 2.0: code 0 and 255 are codes like others."""
    assert list(o.read_suboptions(b"\x00\x01a\xff\x00\x05\x04\x0a\x00\x00\x01", framed=False)) == [
        (0, b"a"),
        (255, b""),
        (5, b"\x0a\x00\x00\x01"),
    ]


@given(st.lists(words, min_size=1, max_size=8).map(tuple))
def test_architectures_come_back(codes: tuple[int, ...]) -> None:
    assert o.decode_client_arch(o.encode_client_arch(codes)) == codes


@pytest.mark.parametrize("value", [b"", b"\x07", b"\x00\x07\x00"])
def test_odd_architecture_lists_are_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessage):
        o.decode_client_arch(value)


def test_client_interface() -> None:
    assert o.decode_client_interface(b"\x01\x03\x10") == o.ClientInterface(1, 3, 16)


def test_machine_id_has_smbios_byte_order() -> None:
    """QEMU was started with -uuid 70786c61-6200-4000-8000-525400770004."""
    value = decode(VECTORS["edk2-x64-discover"]).option(o.Option.CLIENT_MACHINE_ID)
    assert value is not None
    assert o.decode_machine_id(value) == "70786c61-6200-4000-8000-525400770004"
    assert o.encode_machine_id("70786c61-6200-4000-8000-525400770004") == value


@given(st.uuids().filter(lambda u: u.int not in (0, 2**128 - 1)))
def test_machine_ids_come_back(guid: object) -> None:
    assert o.decode_machine_id(o.encode_machine_id(str(guid))) == str(guid)


@pytest.mark.parametrize("value", [b"", bytes(17), b"\0" + b"\xff" * 16, b"\1" + b"a" * 16, b"\0" + b"a" * 15])
def test_boards_without_a_guid_of_their_own_have_none(value: bytes) -> None:
    assert o.decode_machine_id(value) == ""


@pytest.mark.parametrize("value", ["", "70786c61-6200", "70786c61-6200-4000-8000-52540077000400"])
def test_no_guid_is_misuse(value: str) -> None:
    with pytest.raises(MisuseError):
        o.encode_machine_id(value)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(tuple))
def test_user_classes_come_back(classes: tuple[bytes, ...]) -> None:
    assert o.decode_user_classes(o.encode_user_classes(classes)) == classes


def test_user_class_as_ipxe_sends_it() -> None:
    value = decode(VECTORS["ipxe-bios-discover"]).option(o.Option.USER_CLASS)
    assert value == b"iPXE"
    assert o.decode_user_classes(value) == (b"iPXE",)
    assert o.decode_user_classes(b"\x04iPXE") == (b"iPXE",)
