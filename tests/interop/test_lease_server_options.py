# SPDX-License-Identifier: Apache-2.0
"""The lines for lease servers, read by the lease servers themselves: dnsmasq, Kea and ISC's dhcpd each serve a LAN with
them, and machines ask with what real firmware sends."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.netns import Host, Lan
from tests.data.dhcp6_vectors import VECTORS
from tests.interop.lease_server6 import wait_until_addresses_hold

from dpd.explain.lease_server_options import lease_server_options
from dpd.explain.lease_servers6 import ANSWERING_CLASS
from dpd.protocol.dhcp.message import Message, decode
from dpd.protocol.dhcp.options import Option
from dpd.protocol.dhcp6.message import Message as Message6
from dpd.protocol.dhcp6.message import decode as decode6
from dpd.protocol.dhcp6.options import Option as Option6
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.rules import ClientClass

pytestmark = pytest.mark.interop

READY_S = 20.0
ASK_AGAIN_S = 0.5  # a server that is not there yet hears nothing
BOOT_SERVER = "10.77.9.9"
LOADERS = {
    "ipxe": "boot.ipxe",
    "bios": "undionly.kpxe",
    "uefi-x64": "ipxe.efi",
    "uefi-arm64": "arm64\\ipxe,1.efi",  # what each configuration language reads in its own way
    "uefi-x64-http": "http://{server}:{http_port}/boot/ipxe.efi",
}
TEXTS = lease_server_options(BOOT_SERVER, "fd77::9", LOADERS)
PROGRAMS = {"dnsmasq": "dnsmasq", "kea": "kea-dhcp{}", "isc": "dhcpd"}


def command_of(server: str, family: str, directory: Path) -> list[str | Path]:
    """Write the server's configuration with our lines in it; the command that serves by it."""
    path, text = directory / f"{server}.conf", TEXTS[server + family]
    if server == "dnsmasq":
        addresses = "10.77.1.1,10.77.1.200,1h" if family == "4" else "fd77::100,fd77::1ff,64,1h"
        path.write_text(f"dhcp-range={addresses}\nno-ping\n{text}", encoding="ascii")
        quiet = ("--keep-in-foreground", "--user=root", "--port=0", "--leasefile-ro", "--pid-file=")
        return ["dnsmasq", *quiet, "--interface=eth0", "--bind-interfaces", f"--conf-file={path}"]
    if server == "kea":
        near = {
            "4": {"subnet": "10.77.0.0/16", "pools": [{"pool": "10.77.1.1-10.77.1.200"}]},
            "6": {"subnet": "fd77::/64", "interface": "eth0", "pools": [{"pool": "fd77::100-fd77::1ff"}]},
        }
        settings = {
            "interfaces-config": {"interfaces": ["eth0"]},
            "lease-database": {"type": "memfile", "persist": False},
            **({"server-id": {"type": "LL", "persist": False}} if family == "6" else {}),
            f"subnet{family}": [near[family]],
            **json.loads(text),
        }
        path.write_text(json.dumps({f"Dhcp{family}": settings}), encoding="ascii")
        return [f"kea-dhcp{family}", "-c", path]
    subnet = {
        "4": "ping-check false;\nsubnet 10.77.0.0 netmask 255.255.0.0 { range 10.77.1.1 10.77.1.200; }\n",
        "6": "subnet6 fd77::/64 { range6 fd77::100 fd77::1ff; }\n",
    }
    path.write_text(subnet[family] + text, encoding="ascii")
    (directory / "leases").touch()
    own_files = ("-cf", path, "-lf", directory / "leases", "-pf", directory / "dhcpd.pid")
    return ["dhcpd", f"-{family}", "-f", "--no-pid", *own_files, "eth0"]


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    lan = make_lan("lease", "client", without_address=("client",), ipv6=True)
    lan["lease"].run("ip", "-6", "address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    wait_until_addresses_hold(lan["lease"])
    return lan


@contextmanager
def serving(host: Host, server: str, family: str, directory: Path) -> Iterator[None]:
    places = {"KEA_PIDFILE_DIR": str(directory), "KEA_LOCKFILE_DIR": str(directory)}
    log_path = directory / f"{server}.log"
    with log_path.open("wb") as log:
        process = host.start(*command_of(server, family, directory), stdout=log, environment=places)
    try:
        yield
    except TimeoutError:
        raise AssertionError(f"{server} is silent, status {process.poll()}:\n{log_path.read_text()}") from None


def ask(sock: socket.socket, question: bytes, server: tuple[str, int], is_answer: Callable[[bytes], bool]) -> bytes:
    """The first answer to a question, which is asked again until the server is there. Raises TimeoutError."""
    deadline = time.monotonic() + READY_S
    sock.settimeout(ASK_AGAIN_S)
    while time.monotonic() < deadline:
        try:
            sock.sendto(question, server)
            while not is_answer(data := sock.recv(2048)):
                pass
            return data
        except (TimeoutError, OSError):  # OSError: the interface has no link-local address yet
            time.sleep(0.05)
    raise TimeoutError


@pytest.mark.parametrize("server", PROGRAMS)
def test_dhcpv4(lan: Lan, tmp_path: Path, need: Callable[..., None], server: str) -> None:
    need(PROGRAMS[server].format(4))
    with lan["client"].inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.bind(("0.0.0.0", 68))

    def offer_to(client_arch: int, client_class: ClientClass, number: int) -> Message:
        client = PxeClient(f"52:54:00:00:00:{number:02x}", client_arch, client_class)
        question = client.discover(number)
        return decode(ask(sock, question, ("255.255.255.255", 67), lambda data: decode(data).xid == number))

    with sock, serving(lan["lease"], server, "4", tmp_path):
        for number, (client_arch, client_class, loader) in enumerate(
            [
                (0, ClientClass.PXE, "undionly.kpxe"),
                (7, ClientClass.PXE, "ipxe.efi"),
                (9, ClientClass.PXE, "ipxe.efi"),
                (11, ClientClass.PXE, "arm64\\ipxe,1.efi"),
                (7, ClientClass.IPXE, "boot.ipxe"),
            ]
        ):
            offer = offer_to(client_arch, client_class, number)
            assert _file(offer) == loader
            assert offer.siaddr == BOOT_SERVER
            assert (offer.option(Option.TFTP_SERVER) or b"").rstrip(b"\0") == BOOT_SERVER.encode()  # dnsmasq ends it
            if client_class is ClientClass.PXE:
                assert offer.option(Option.VENDOR_CLASS) == b"PXEClient"
                assert (offer.option(Option.VENDOR) or b"").rstrip(b"\xff") == b"\x06\x01\x08"  # Kea drops the end
        offer = offer_to(16, ClientClass.HTTP, 90)
        assert _file(offer) == f"http://{BOOT_SERVER}:8080/boot/ipxe.efi"
        assert offer.option(Option.VENDOR_CLASS) == b"HTTPClient"
        assert not _file(offer_to(31, ClientClass.PXE, 91))  # an architecture without a loader


def _file(offer: Message) -> str:
    """The boot file: where both places have one, it is the same."""
    places = {name.rstrip(b"\0").decode() for name in (offer.option(Option.BOOT_FILE) or b"", offer.file) if name}
    assert len(places) <= 1
    return "".join(places)


@pytest.mark.parametrize("server", PROGRAMS)
def test_dhcpv6(lan: Lan, tmp_path: Path, need: Callable[..., None], server: str) -> None:
    need(PROGRAMS[server].format(6))
    with lan["client"].inside():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        interface = socket.if_nametoindex("eth0")
    sock.bind(("::", 546))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)

    def advertise_to(name: str) -> Message6:
        question = VECTORS[name]
        data = ask(sock, question, ("ff02::1:2", 547), lambda data: data[1:4] == question[1:4])
        return decode6(data).message

    with sock, serving(lan["lease"], server, "6", tmp_path):
        assert advertise_to("edk2-pxe-solicit").option(Option6.BOOT_FILE_URL) == b"tftp://[fd77::9]/ipxe.efi"
        assert advertise_to("ipxe-efi-solicit").option(Option6.BOOT_FILE_URL) == b"tftp://[fd77::9]/boot.ipxe"
        http = advertise_to("edk2-http-solicit")
        assert http.option(Option6.BOOT_FILE_URL) == b"http://[fd77::9]:8080/boot/ipxe.efi"
        vendor_class = http.option(Option6.VENDOR_CLASS) or b""
        assert (len(vendor_class), vendor_class[6:]) == (16, b"HTTPClient")  # which is what EDK2 looks at
        assert vendor_class == ANSWERING_CLASS or server == "dnsmasq"
        assert advertise_to("edk2-stack-solicit").option(Option6.BOOT_FILE_URL) is None
