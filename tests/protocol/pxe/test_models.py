# SPDX-License-Identifier: Apache-2.0
"""Every architecture, profile and mode against clients that follow the rules of their sources: each reaches its file."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest
from tests.protocol.pxe.models import (
    Boot,
    Firmware,
    HeaderReader,
    HttpFirmware,
    Ipxe,
    RaspberryPi,
    bootmgr_bcd,
    shim_second_stage,
)
from tests.protocol.pxe.network import DPD, LeaseServer, Network

from dpd.protocol.dhcp.options import Option
from dpd.protocol.pxe.architectures import ARCH_NAMES
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.responder import Grant, Outcome, Policy
from dpd.protocol.pxe.rules import ClientClass, Rule

MAC = "52:54:00:00:00:01"
GUID = "70786c61-6200-4000-8000-525400770004"
MODES = ("normal", "relayed", "sniff", "boot_port_only")
# The lease server beside boot_port_only is on dpd's own host and says so (PXE 2.1 section 2.2.3).
SAME_HOST = LeaseServer(address=DPD, vendor_class=b"PXEClient")
FIRMWARE_CODES = [code for code, name in ARCH_NAMES.items() if not name.endswith("-http") and code not in (21, 22, 41)]
HTTP_CODES = [code for code, name in ARCH_NAMES.items() if name.endswith("-http")]


class BootClient(Protocol):
    def boot(self, network: Network) -> Boot | None: ...


def policy(flow: str = "") -> Policy:
    """A loader of its own for each architecture and class."""
    firmware = [Rule(f"p{code}", ClientClass.PXE, f"x{code}/loader.efi", (code,), flow) for code in ARCH_NAMES]
    http = [Rule(f"h{code}", ClientClass.HTTP, f"x{code}/loader.efi", (code,), flow) for code in ARCH_NAMES]
    ipxe = [Rule(f"i{code}", ClientClass.IPXE, f"x{code}/boot.ipxe", (code,)) for code in ARCH_NAMES]
    return Policy(rules=(*firmware, *http, *ipxe), http_port=8080)


def network(mode: str, flow: str = "", grant: Grant | None = None) -> Network:
    lease_server = SAME_HOST if mode == "boot_port_only" else LeaseServer()
    return Network(policy(flow), mode, grant or Grant(), lease_server)


def pxe(code: int = 7, mac: str = MAC) -> PxeClient:
    return PxeClient(mac=mac, client_arch=code, guid=GUID)


def ipxe(code: int = 7) -> PxeClient:
    return PxeClient(mac=MAC, client_arch=code, guid=GUID, client_class=ClientClass.IPXE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flow", ["", "direct", "binl"])
@pytest.mark.parametrize("code", FIRMWARE_CODES)
def test_pxe_firmware_reaches_its_file(code: int, flow: str, mode: str) -> None:
    wire = network(mode, flow)
    boot = Firmware(pxe(code)).boot(wire)
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"x{code}/loader.efi")
    assert wire.visits == (1 if flow == "binl" or mode == "boot_port_only" else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", FIRMWARE_CODES)
def test_ipxe_reaches_its_script(code: int, mode: str) -> None:
    boot = Ipxe(ipxe(code)).boot(network(mode))
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"x{code}/boot.ipxe")


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("flow", ["", "binl"])
@pytest.mark.parametrize("code", HTTP_CODES)
def test_http_firmware_reaches_its_url(code: int, flow: str, mode: str) -> None:
    client = PxeClient(mac=MAC, client_arch=code, client_class=ClientClass.HTTP)
    boot = HttpFirmware(client).boot(network(mode, flow))
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"http://{DPD}:8080/boot/x{code}/loader.efi")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [7, 11])
def test_firmware_with_a_word_of_its_own_reaches_its_file(code: int, mode: str) -> None:
    wire = network(mode)
    if mode == "boot_port_only":
        wire.lease_server = replace(SAME_HOST, vendor_class=b"HW-Client")
    boot = Firmware(pxe(code), word=b"HW-Client", vendor_class=b"HW-Client:Arch:00007").boot(wire)
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"x{code}/loader.efi")


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("code", [21, 22])
def test_u_boot_reaches_its_file(code: int, mode: str) -> None:
    boot = HeaderReader(pxe(code), b"U-Boot.armv8").boot(network(mode))
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"x{code}/loader.efi")


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("code", [0, 41])
def test_a_raspberry_pi_reaches_its_server(code: int, mode: str) -> None:
    boot = RaspberryPi(pxe(code, "dc:a6:32:00:00:01")).boot(network(mode))
    assert boot is not None
    assert boot.server == DPD


@pytest.mark.parametrize("mode", MODES[:3])
def test_firmware_that_refuses_its_own_class_reaches_its_file_by_the_bare_form(mode: str) -> None:
    client = HeaderReader(pxe(11), b"PXEClient:Arch:00011:UNDI:003000", refuses=b"PXEClient")
    assert client.boot(network(mode)) is None
    boot = client.boot(network(mode, "bare"))
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, "x11/loader.efi")


@pytest.mark.parametrize(
    "client",
    [
        HttpFirmware(PxeClient(mac=MAC, client_arch=16, client_class=ClientClass.HTTP)),
        HeaderReader(pxe(22), b"U-Boot.armv8"),
        RaspberryPi(pxe(0, "dc:a6:32:00:00:01")),
    ],
)
def test_who_never_comes_to_4011_needs_port_67(client: BootClient) -> None:
    """The limit of boot_port_only: for these the DHCP server on this host must name the file, or the mode be sniff."""
    assert client.boot(network("boot_port_only")) is None
    assert client.boot(network("sniff")) is not None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flow", ["", "binl"])
def test_shim_finds_its_second_stage_beside_itself(flow: str, mode: str) -> None:
    rules = (Rule("shim", ClientClass.PXE, "secure/shimx64.efi", flow=flow),)
    wire = replace(network(mode), policy=Policy(rules=rules))
    boot = Firmware(pxe()).boot(wire)
    assert boot is not None
    assert shim_second_stage(boot) == (DPD, "secure/grubx64.efi")


def test_a_lease_server_that_names_a_file_leads_shim_astray() -> None:
    """Why the conflict watch looks for it."""
    wire = replace(network("normal"), lease_server=LeaseServer(siaddr="10.77.0.66", file=b"old/pxelinux.0"))
    boot = Firmware(pxe()).boot(wire)
    assert boot is not None
    assert boot.server == DPD
    assert shim_second_stage(boot) == ("10.77.0.66", "old/grubx64.efi")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0, 6, 7, 11])
def test_microsofts_boot_manager_finds_its_bcd(code: int, mode: str) -> None:
    grant = Grant(loader="bootmgfw.efi", image="win11", bcd_name="\\Boot\\x64\\BCD")
    boot = Firmware(pxe(code)).boot(network(mode, grant=grant))
    assert boot is not None
    assert (boot.file, bootmgr_bcd(boot)) == ("bootmgfw.efi", "\\Boot\\x64\\BCD")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", [Firmware(pxe()), Firmware(pxe(0)), Ipxe(ipxe())])
def test_abort_goes_on_with_the_next_device_whatever_is_pressed(client: Firmware | Ipxe, mode: str) -> None:
    for key in (None, 0):
        assert replace(client, key=key).boot(network(mode, grant=Grant(Outcome.ABORT))) is None


@pytest.mark.parametrize("mode", MODES)
def test_silence_boots_nobody(mode: str) -> None:
    wire = network(mode, grant=Grant(Outcome.SILENT))
    for client in (Firmware(pxe()), Ipxe(ipxe()), RaspberryPi(pxe(0, "dc:a6:32:00:00:01"))):
        assert client.boot(wire) is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0, 7, 11])
def test_a_prompt_starts_from_the_disk_unless_the_network_is_chosen(code: int, mode: str) -> None:
    wire = network(mode, grant=Grant(Outcome.PROMPT, message="Windows 11"))
    assert Firmware(pxe(code)).boot(wire) is None
    assert Firmware(pxe(code), key=0).boot(wire) is None
    boot = Firmware(pxe(code), key=1).boot(wire)
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, f"x{code}/loader.efi")
    assert shim_second_stage(boot) == (DPD, f"x{code}/grubx64.efi")


@pytest.mark.parametrize("mode", MODES)
def test_a_prompted_ipxe_gets_the_script_that_asks(mode: str) -> None:
    boot = Ipxe(ipxe()).boot(network(mode, grant=Grant(Outcome.PROMPT)))
    assert boot is not None
    assert boot.file == "x7/boot.ipxe"


def test_who_never_merges_offers_needs_the_lease_server() -> None:
    stubborn = Firmware(pxe(), merges=False)
    assert stubborn.boot(network("normal")) is None
    told = LeaseServer(siaddr=DPD, file=b"x7/loader.efi")
    boot = stubborn.boot(replace(network("normal"), lease_server=told))
    assert boot is not None
    assert (boot.server, boot.file) == (DPD, "x7/loader.efi")


@pytest.mark.parametrize("flow", ["", "binl"])
def test_a_stray_option_60_in_the_lease_makes_firmware_visit_a_server_that_is_none(flow: str) -> None:
    """What the conflict watch warns of: EDK2 takes such an offer for BINL, and rather than a proxy's."""
    wire = replace(network("normal", flow), lease_server=LeaseServer(vendor_class=b"PXEClient"))
    assert Firmware(pxe()).boot(wire) is None
    assert wire.visits == 1


def test_what_the_firmware_keeps_says_option_60_and_43_as_it_must() -> None:
    boot = Firmware(pxe()).boot(network("normal"))
    assert boot is not None
    _, offer = boot.packets
    assert offer.option(Option.VENDOR_CLASS) == b"PXEClient"
    assert offer.option(Option.VENDOR) == b"\x06\x01\x08\xff"
