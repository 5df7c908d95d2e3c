# SPDX-License-Identifier: Apache-2.0
"""Menus of the firmware: sending a machine on, and asking whoever sits at it."""

import pytest
from tests.protocol.pxe.test_responder import AT_67, AT_4011, POLICY
from tests.protocol.pxe.test_rules import captured

from dpd.protocol.dhcp.message import Message, MessageType, decode
from dpd.protocol.dhcp.options import (
    MAX_VENDOR_BYTES,
    BootItem,
    BootServer,
    MenuItem,
    Option,
    PxeOptions,
    decode_pxe_options,
)
from dpd.protocol.pxe.menu import LOCAL_BOOT, LOCAL_BOOT_AT_ONCE, NETWORK_BOOT, NO_SUCH_FILE
from dpd.protocol.pxe.responder import Arrival, Grant, Ignored, Outcome, Reason, Reply, respond
from dpd.protocol.pxe.rules import identify

CHOSEN = b"\x47\x04\x80\x00\x00\x00\xff"
ABORT = Grant(Outcome.ABORT)
PROMPT = Grant(Outcome.PROMPT, message="Windows 11 for the lab")


def granted(name: str, grant: Grant, arrival: Arrival = AT_67, **options: bytes | None) -> tuple[Reply, Message]:
    reply = respond(captured(name, **options), arrival, POLICY, grant)
    assert isinstance(reply, Reply), reply
    return reply, decode(reply.payload)


def vendor(message: Message) -> PxeOptions:
    value = message.option(Option.VENDOR)
    assert value is not None
    assert len(value) <= MAX_VENDOR_BYTES
    return decode_pxe_options(value)


@pytest.mark.parametrize("name", ["edk2-x64-discover", "ipxe-bios-discover", "aavmf-discover"])
def test_abort_is_local_boot_without_time_to_choose_and_without_a_file(name: str) -> None:
    reply, offer = granted(name, ABORT)
    assert vendor(offer) == LOCAL_BOOT_AT_ONCE
    assert vendor(offer).menu[0].server_type == 0
    assert (offer.file, offer.option(Option.BOOT_FILE)) == (b"", None)
    assert (reply.loader, reply.rule) == ("", "")


def test_abort_says_the_same_at_4011() -> None:
    _, ack = granted("edk2-x64-boot-request", ABORT, AT_4011)
    assert ack.message_type == MessageType.ACK
    assert vendor(ack) == LOCAL_BOOT_AT_ONCE


def test_who_knows_no_menu_is_sent_on_by_silence() -> None:
    message = captured("edk2-x64-discover", o60=b"U-Boot.armv8", o93=b"\0\x16")
    assert respond(message, AT_67, POLICY, ABORT) == Ignored(Reason.POLICY, identify(message))


def test_http_boot_is_sent_on_by_a_url_that_leads_nowhere() -> None:
    reply, offer = granted("edk2-http-discover", ABORT)
    assert offer.option(Option.BOOT_FILE) == f"http://10.77.0.10:8080/boot/{NO_SUCH_FILE}".encode()
    assert not reply.hands_out


def test_silence_is_silence_for_everybody() -> None:
    for name in ("edk2-x64-discover", "ipxe-bios-discover", "edk2-http-discover"):
        outcome = respond(captured(name), AT_67, POLICY, Grant(Outcome.SILENT))
        assert isinstance(outcome, Ignored)
        assert outcome.reason is Reason.POLICY


def test_a_prompt_has_the_disk_first_and_our_server_for_the_rest() -> None:
    reply, offer = granted("edk2-x64-discover", PROMPT)
    said = vendor(offer)
    assert said.menu == (LOCAL_BOOT, MenuItem(NETWORK_BOOT, "Windows 11 for the lab"))
    assert said.boot_servers == (BootServer(NETWORK_BOOT, (AT_67.server,)),)
    assert said.prompt is not None
    assert "F8" in said.prompt.text
    assert not said.discovery_control or not said.discovery_control & 8
    assert reply.loader == ""


def test_who_chose_the_network_gets_its_file() -> None:
    reply, ack = granted("edk2-x64-boot-request", PROMPT, AT_4011, o43=CHOSEN)
    assert reply.loader == "ipxe.efi"
    assert ack.file == b"ipxe.efi"
    assert vendor(ack).item == BootItem(NETWORK_BOOT, 0)


def test_another_item_or_none_brings_the_prompt_again() -> None:
    for choice in (None, b"\x47\x04\x80\x01\x00\x00\xff"):
        reply, _ = granted("edk2-x64-boot-request", PROMPT, AT_4011, o43=choice)
        assert reply.loader == ""


@pytest.mark.parametrize("name", ["ipxe-bios-discover", "edk2-http-discover"])
def test_a_loader_that_can_ask_does_the_asking(name: str) -> None:
    reply, _ = granted(name, Grant(Outcome.PROMPT, loader="boot.ipxe", image="win11"))
    assert reply.loader.endswith("boot.ipxe")
    assert reply.rule == "win11"


def test_no_message_of_a_deployment_breaks_the_menu() -> None:
    _, offer = granted("edk2-x64-discover", Grant(Outcome.PROMPT, message="Büro\n" + "x" * 300))
    item = vendor(offer).menu[1]
    assert item.text.startswith("B?ro?xxx")
    assert len(item.text) == 60
    _, offer = granted("edk2-x64-discover", Grant(Outcome.PROMPT))
    assert vendor(offer).menu[1].text == "Network boot"
