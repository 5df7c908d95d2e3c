# SPDX-License-Identifier: Apache-2.0
"""The probe's half of DHCPv4, against dpd's own responder in this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dpd.protocol.dhcp.message import BOOT_REPLY, Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import (
    DiscoveryControl,
    MenuItem,
    Option,
    PxeOptions,
    decode_machine_id,
    encode_pxe_options,
    pack_address,
)
from dpd_probe import dhcp4
from dpd_probe.client import Client, Target
from dpd_probe.steps import Account, Ending, ProbeError

CLIENT = Client("52:54:00:00:00:01", "uefi-x64")
HERE = "127.0.0.1"
Answer = Callable[[Message], bytes | None]


def offer(
    question: Message, vendor: PxeOptions | None = None, *, file: bytes = b"ipxe.efi", word: bytes = b"PXEClient"
) -> bytes:
    kind = MessageType.OFFER if question.message_type == MessageType.DISCOVER else MessageType.ACK
    options = [
        (int(Option.MESSAGE_TYPE), bytes((kind,))),
        (int(Option.SERVER_ID), pack_address(HERE)),
        (int(Option.VENDOR_CLASS), word),
    ]
    if vendor is not None:
        options.append((int(Option.VENDOR), encode_pxe_options(vendor)))
    return encode(Message(BOOT_REPLY, question.xid, question.chaddr, tuple(options), siaddr=HERE, file=file))


DIRECT = PxeOptions(discovery_control=DiscoveryControl.FILE_IS_GIVEN)


class Server:
    """Answers on a port of loopback, in a thread; keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[Message] = []
        self._answer = answer
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((HERE, 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, source = self._sock.recvfrom(4096)
            if not data:
                return
            question = decode(data)
            self.asked.append(question)
            answer = self._answer(question)
            if answer is not None:
                self._sock.sendto(answer, source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (HERE, self.port))
        self._thread.join()
        self._sock.close()


@contextmanager
def serving(at_67: Answer, at_4011: Answer = lambda question: None) -> Iterator[tuple[Target, Server, Server]]:
    first, second = Server(at_67), Server(at_4011)
    try:
        yield Target(HERE, first.port, second.port, relay=HERE, timeout_s=0.1), first, second
    finally:
        first.close()
        second.close()


def only_discovers(question: Message) -> bytes | None:
    return offer(question, DIRECT) if question.message_type == MessageType.DISCOVER else None


def test_a_client_asks_as_firmware_does_and_visits_the_boot_server() -> None:
    client = replace(CLIENT, guid="4c4c4544-0042-3510-8054-b4c04f564431", secs=8)
    with serving(only_discovers, lambda question: offer(question, file=b"final.efi")) as (target, lease, boot):
        told = dhcp4.ask(client, target, Account())
    assert (told.loader, told.server, told.is_local) == ("final.efi", HERE, False)
    discover, request = lease.asked
    assert (discover.giaddr, discover.secs, discover.chaddr.hex(":")) == (HERE, 8, CLIENT.mac)
    assert discover.option(Option.CLIENT_ARCH) == b"\0\7"
    assert discover.option(Option.RELAY_AGENT) == b"\x13\0"
    assert decode_machine_id(discover.option(Option.CLIENT_MACHINE_ID) or b"") == client.guid
    assert (request.message_type, request.address(Option.REQUESTED_ADDRESS)) == (MessageType.REQUEST, HERE)
    assert boot.asked[0].ciaddr == HERE


def test_an_offer_that_is_enough_survives_a_silent_boot_server(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(only_discovers) as (target, _, boot):
        assert dhcp4.ask(CLIENT, target, Account()).loader == "ipxe.efi"
    assert len(boot.asked) == dhcp4.TRIES
    told = [json.loads(line)["step"] for line in capfd.readouterr().out.splitlines()]
    assert told == ["discover", "offer", "boot_request", "silence", "silence", "silence", "no_boot_reply"]


def test_an_offer_that_is_not_enough_needs_the_boot_server() -> None:
    with serving(lambda question: offer(question, file=b"")) as (target, _, _), pytest.raises(ProbeError) as caught:
        dhcp4.ask(CLIENT, target, Account())
    assert caught.value.ending is Ending.NO_ANSWER


def test_a_question_that_got_lost_is_asked_again_with_more_seconds() -> None:
    lost = iter([True, False, True])
    with serving(lambda question: None if next(lost) else offer(question, DIRECT)) as (target, lease, _):
        dhcp4.ask(CLIENT, replace(target, timeout_s=1.0), Account())
    assert [question.secs for question in lease.asked[:2]] == [0, 1]


def test_an_http_client_does_not_visit_the_boot_server() -> None:
    client = Client(CLIENT.mac, "uefi-x64-http")
    url = b"http://10.0.0.1/boot/ipxe.efi"
    with serving(lambda question: offer(question, file=url, word=b"HTTPClient")) as (target, _, boot):
        assert dhcp4.ask(client, target, Account()).loader == url.decode()
    assert boot.asked == []


def test_an_answer_of_another_class_is_named() -> None:
    with (
        serving(lambda question: offer(question, word=b"other")) as (target, _, _),
        pytest.raises(ProbeError) as caught,
    ):
        dhcp4.ask(CLIENT, target, Account())
    assert caught.value.reason == "vendor_class"


def test_a_menu_that_leads_to_the_local_disk_is_no_boot() -> None:
    menu = PxeOptions(menu=(MenuItem(0, "local"),))
    with serving(lambda question: offer(question, menu, file=b"")) as (target, _, _):
        assert dhcp4.ask(CLIENT, target, Account()).is_local


def test_ipxe_says_so() -> None:
    with serving(only_discovers, lambda question: offer(question)) as (target, lease, _):
        dhcp4.ask(replace(CLIENT, is_ipxe=True), target, Account())
    assert lease.asked[0].option(Option.USER_CLASS) == b"iPXE"


def test_an_interface_that_is_not_there_is_a_wrong_word() -> None:
    with pytest.raises(ProbeError) as caught:
        dhcp4.ask(CLIENT, Target(interface="no-such-interface"), Account())
    assert caught.value.ending is Ending.USAGE
