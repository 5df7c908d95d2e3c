# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what rule speaks of them."""

from dataclasses import replace

import pytest
from tests.data.dhcp_vectors import VECTORS

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import Message, decode
from dpd.protocol.pxe.rules import ClientClass, Machine, Rule, find_rule, identify, vendor_class


def captured(name: str, **options: bytes | None) -> Message:
    """A capture with options replaced (o93=b"...") or taken out (o97=None)."""
    message = decode(VECTORS[name])
    changed = dict(message.options)
    for key, value in options.items():
        if value is None:
            changed.pop(int(key[1:]), None)
        else:
            changed[int(key[1:])] = value
    return replace(message, options=tuple(changed.items()))


GUID = "70786c61-6200-4000-8000-5254007700"


@pytest.mark.parametrize(
    ("name", "machine", "arch_name"),
    [
        (
            "edk2-x64-discover",
            Machine("52:54:00:77:03:04", GUID + "04", ClientClass.PXE, (7,), "PXEClient"),
            "uefi-x64",
        ),
        (
            "edk2-http-discover",
            Machine("52:54:00:77:06:0c", GUID + "0c", ClientClass.HTTP, (16,), "HTTPClient"),
            "uefi-x64-http",
        ),
        ("ipxe-bios-discover", Machine("52:54:00:77:01:00", GUID + "00", ClientClass.IPXE, (0,), "PXEClient"), "bios"),
        (
            "ipxe-bios-menu-request",
            Machine("52:54:00:77:01:00", GUID + "00", ClientClass.IPXE, (0,), "PXEClient"),
            "bios",
        ),
        (
            "ipxe-efi-discover",
            Machine("52:54:00:77:03:06", GUID + "06", ClientClass.IPXE, (7,), "PXEClient"),
            "uefi-x64",
        ),
    ],
)
def test_captured_clients_are_recognised(name: str, machine: Machine, arch_name: str) -> None:
    assert identify(decode(VECTORS[name])) == machine
    assert machine.arch_name == arch_name


def test_aavmf_is_arm64() -> None:
    assert identify(decode(VECTORS["aavmf-discover"])).arch_name == "uefi-arm64"


def test_an_ordinary_client_has_no_vendor_class() -> None:
    assert vendor_class(decode(VECTORS["udhcpc-discover"])) == ""
    assert vendor_class(captured("edk2-x64-discover", o60=None)) == ""
    assert vendor_class(captured("edk2-x64-discover", o60=b"PXEClien")) == ""
    assert vendor_class(captured("edk2-x64-discover", o60=b"HTTPClient")) == "HTTPClient"


@pytest.mark.parametrize(
    "marks",
    [
        {"o77": b"iPXE"},
        {"o77": b"\x04iPXE"},
        {"o77": b"\x03lab\x04iPXE"},
        {"o175": b"\xb1\x01\x01"},
    ],
)
def test_ipxe_says_so_in_77_or_175(marks: dict[str, bytes]) -> None:
    assert identify(captured("edk2-x64-discover", **marks)).client_class is ClientClass.IPXE


def test_other_user_classes_are_not_ipxe() -> None:
    assert identify(captured("edk2-x64-discover", o77=b"iPXE2")).client_class is ClientClass.PXE


@pytest.mark.parametrize(
    ("o93", "o60", "codes"),
    [
        (b"\0\7\0\x10", b"PXEClient", (7, 16)),
        (None, b"PXEClient:Arch:00009:UNDI:003016", (9,)),
        (None, b"PXEClient", ()),
        (None, b"PXEClient:Arch:bogus:UNDI:003016", ()),
        (None, b"PXEClient:Arch:99999999999:UNDI:003016", ()),
    ],
)
def test_architecture_from_93_else_from_60(o93: bytes | None, o60: bytes, codes: tuple[int, ...]) -> None:
    assert identify(captured("edk2-x64-discover", o93=o93, o60=o60)).client_arch == codes


def test_a_broken_93_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        identify(captured("edk2-x64-discover", o93=b"\7"))


def test_infiniband_is_known_by_its_port_guid() -> None:
    message = captured("edk2-x64-discover", o61=b"\xff" + bytes(12) + bytes(range(1, 9)))
    assert identify(replace(message, htype=32, chaddr=b"")).mac == "01:02:03:04:05:06:07:08"


def test_missing_guid_is_no_guid() -> None:
    assert identify(captured("edk2-x64-discover", o97=None)).guid == ""
    assert identify(captured("edk2-x64-discover", o97=bytes(17))).guid == ""


def machine(client_class: ClientClass, *codes: int) -> Machine:
    return Machine("52:54:00:00:00:01", "", client_class, codes, "PXEClient")


RULES = (
    Rule("x64", ClientClass.PXE, "x64.efi", (7, 9)),
    Rule("chain", ClientClass.IPXE, "boot.ipxe"),
    Rule("rest", ClientClass.PXE, "rest.efi"),
)


@pytest.mark.parametrize(
    ("asking", "name"),
    [
        (machine(ClientClass.PXE, 7), "x64"),
        (machine(ClientClass.PXE, 9), "x64"),
        (machine(ClientClass.PXE, 11, 7), "x64"),
        (machine(ClientClass.PXE, 11), "rest"),
        (machine(ClientClass.PXE), "rest"),
        (machine(ClientClass.IPXE, 7), "chain"),
    ],
)
def test_the_first_rule_that_fits_wins(asking: Machine, name: str) -> None:
    rule = find_rule(RULES, asking)
    assert rule is not None
    assert rule.name == name


def test_no_rule_of_another_class_is_taken() -> None:
    assert find_rule(RULES, machine(ClientClass.HTTP, 16)) is None
    assert find_rule(RULES[:1], machine(ClientClass.IPXE, 7)) is None


def test_unknown_architectures_share_one_name() -> None:
    assert machine(ClientClass.PXE, 12345).arch_name == "other"
    assert machine(ClientClass.PXE).arch_name == "other"
