# SPDX-License-Identifier: Apache-2.0
"""Firmware profiles: which form of answer a boot client understands, as data. The first one that matches counts.

Each names the devices it is for, what they do without it, and the test that holds it. QUIRKS lists, in the same words, what
every answer does for the sake of some firmware, and what only other measures can cure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from dpd.protocol.pxe.rules import ClientClass, Machine


class Flow(StrEnum):
    """The forms of an answer."""

    DIRECT = (
        "direct"  # option 43 with "the file is given here": booted from the OFFER, or from 4011 with the same content
    )
    BINL = "binl"  # no option 43: the client comes to port 4011 for its file
    HTTP = "http"  # a URL in option 67, nothing of PXE
    BARE = "bare"  # siaddr and file as BOOTP had them


@dataclass(frozen=True, slots=True)
class Quirk:
    """What a device does that others do not. `test` is a test's id below tests/."""

    device: str
    symptom: str
    test: str


@dataclass(frozen=True, slots=True)
class Profile:
    """One form of answer and whom it is for; a field that is empty fits everyone. `makers` are the first three bytes of MACs.
    `menu_text` is what the firmware looks for in the boot menu instead of a file."""

    name: str
    flow: Flow
    quirk: Quirk
    client_class: ClientClass | None = None
    vendor_words: tuple[str, ...] = ()
    client_arch: tuple[int, ...] = ()
    makers: tuple[str, ...] = ()
    menu_text: str = ""

    def matches(self, client_class: ClientClass, vendor_word: str, client_arch: tuple[int, ...], maker: str) -> bool:
        """Whether the client is one of those."""
        return (
            self.client_class in (None, client_class)
            and (not self.vendor_words or vendor_word in self.vendor_words)
            and (not self.client_arch or any(code in self.client_arch for code in client_arch))
            and (not self.makers or maker in self.makers)
        )


MAKER = len("b8:27:eb")
RASPBERRY_PI = ("28:cd:c1", "2c:cf:67", "88:a2:9e", "b8:27:eb", "d8:3a:dd", "dc:a6:32", "e4:5f:01")

PROFILES = (
    Profile(
        name="http",
        flow=Flow.HTTP,
        vendor_words=("HTTPClient",),
        quirk=Quirk(
            "UEFI HTTP boot (EDK2 HttpBootDxe and what is made of it)",
            "takes an offer as one of network boot only where option 60 says HTTPClient and option 67 has a URL",
            "protocol/pxe/test_responder.py::test_http_client_gets_a_url_and_no_pxe_options",
        ),
    ),
    Profile(
        name="ipxe",
        flow=Flow.DIRECT,
        client_class=ClientClass.IPXE,
        quirk=Quirk(
            "iPXE",
            "waits for a proxy 2 s after the lease offer, keeps bits of its own in `secs`, and drops an answer whose menu item is "
            "not the one it asked for",
            "protocol/pxe/test_responder.py::test_response_delay_exempts_ipxe_and_port_4011",
        ),
    ),
    Profile(
        name="raspberry-pi",
        flow=Flow.DIRECT,
        client_arch=(0, 41),
        makers=RASPBERRY_PI,
        menu_text="Raspberry Pi Boot",
        quirk=Quirk(
            "boot ROM of Raspberry Pi 3 to 5",
            'passes over every offer whose boot menu has no item "Raspberry Pi Boot"; says it were a PC with BIOS',
            "protocol/pxe/test_profiles.py::test_a_raspberry_pi_finds_its_words_in_the_menu",
        ),
    ),
    Profile(
        name="u-boot",
        flow=Flow.BARE,
        vendor_words=("U-Boot",),
        quirk=Quirk(
            "U-Boot with SERVERIP_FROM_PROXYDHCP",
            "reads siaddr and file of the header and neither option 43 nor port 4011",
            "protocol/pxe/test_profiles.py::test_u_boot_reads_the_header",
        ),
    ),
    Profile(
        name="huawei",
        flow=Flow.DIRECT,
        vendor_words=("HW-Client",),
        quirk=Quirk(
            "servers of Huawei",
            "option 60 says HW-Client, and answers that say PXEClient are passed over",
            "protocol/pxe/test_profiles.py::test_a_client_with_a_word_of_its_own_hears_it_again",
        ),
    ),
    Profile(
        name="default",
        flow=Flow.DIRECT,
        quirk=Quirk(
            "BIOS PXE ROMs, EDK2 and what is made of it",
            "some boot from the OFFER, some from the answer of port 4011; both must say the same",
            "protocol/pxe/test_responder.py::test_ack_at_4011_has_the_content_of_the_offer",
        ),
    ),
)

QUIRKS = (
    Quirk(
        "Intel network cards with old boot ROMs",
        "send no option 97",
        "protocol/pxe/test_responder.py::test_no_machine_id_of_odd_length_is_echoed",
    ),
    Quirk(
        "EDK2",
        "writes a zero just behind the value of option 67, over the next option",
        "protocol/dhcp/test_message.py::test_edk2_may_write_past_option_67",
    ),
    Quirk(
        "shim",
        "reads siaddr and file of the header alone, never options 66 and 67",
        "protocol/pxe/test_responder.py::test_offer_to_edk2_carries_all_that_any_reader_looks_for",
    ),
    Quirk(
        "iPXE, and firmware that filters by port",
        "takes offers from port 67 alone, and answers to boot requests from port 4011 alone",
        "interop/test_pxe_beside_dnsmasq.py::test_each_network_is_answered_on_its_own_wire_with_its_own_address",
    ),
    Quirk(
        "ROMs and loaders that ask for option 150 (GRUB legacy, network gear)",
        "find no TFTP server in siaddr and option 66",
        "protocol/pxe/test_profiles.py::test_who_asks_for_option_150_gets_it",
    ),
    Quirk(
        "firmware that mis-reads option 43, or that must be asked at port 4011",
        'hangs after the OFFER, or boots nothing; a [[pxe.rule]] with flow = "binl" cures it',
        "protocol/pxe/test_profiles.py::test_a_rule_may_choose_another_form",
    ),
    Quirk(
        "Ampere eMAG (Lenovo HR330A)",
        'passes over the file where option 60 says PXEClient; a [[pxe.rule]] with flow = "bare" leaves it out',
        "protocol/pxe/test_profiles.py::test_a_bare_answer_to_a_pxe_client_has_no_class",
    ),
    Quirk(
        "old Dell (T130, T430) and some HP laptops",
        "never merge the offers of two servers: only the lease server can tell them their file",
        "protocol/pxe/test_models.py::test_who_never_merges_offers_needs_the_lease_server",
    ),
    Quirk(
        "relays older than RFC 1542's clarifications",
        "drop messages of less than 300 octets",
        "protocol/pxe/test_reply.py::test_no_reply_is_shorter_than_bootp_allows",
    ),
)


def find_profile(machine: Machine) -> Profile:
    """The first profile that matches; the last one fits everybody."""
    return _find(machine.client_class, machine.vendor_class, machine.client_arch, machine.mac[:MAKER])


@lru_cache(1024)
def _find(client_class: ClientClass, vendor_word: str, client_arch: tuple[int, ...], maker: str) -> Profile:
    return next(each for each in PROFILES if each.matches(client_class, vendor_word, client_arch, maker))
