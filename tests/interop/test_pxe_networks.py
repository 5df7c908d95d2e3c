# SPDX-License-Identifier: Apache-2.0
"""One proxyDHCP on several networks at once: on several cards, and behind relays that are dnsmasq and ISC dhcrelay.

Each client is the model of real firmware over real sockets; it must hear the address that its own network has for dpd.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from bench.netns import DEVICE, Host, Lan
from tests.interop.boot_wire import BootWire
from tests.interop.daemon import Daemon
from tests.protocol.pxe.models import Firmware, HttpFirmware, Ipxe

from dpd.protocol.dhcp.message import Message
from dpd.protocol.dhcp.options import Option
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.rules import ClientClass
from dpd.service.network.neighbours import mac_at

LEASES = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
    *("--no-ping", "--dhcp-authoritative", "--pid-file="),
    *(f"--dhcp-range=set:v{tag},10.81.{tag}.100,10.81.{tag}.150,255.255.255.0,1h" for tag in (10, 20, 30)),
)
FAR = "10.81.30"  # the network behind the relay
FAR_SERVER = "10.77.0.99"  # dpd's address for that network, by [[pxe.subnet]]


def cable(lan: Lan, number: int, host: Host, address: str = "") -> str:
    """One more network card of the host, on a switch of its own number; returns its device. A VLAN looks the same from here:
    one more interface."""
    bridge, port, device = f"net{number}", f"n{number}-{host.port}", f"eth{number}"
    if bridge not in lan.switch.run("ip", "-br", "link"):
        lan.switch.run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        lan.switch.run("ip", "link", "set", bridge, "up")
    lan.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", host.namespace)
    lan.switch.run("ip", "link", "set", port, "master", bridge, "up")
    host.run("ethtool", "-K", device, "tx", "off")
    if address:
        host.run("ip", "address", "add", f"{address}/24", "brd", "+", "dev", device)
    host.run("ip", "link", "set", device, "up")
    return device


def wait_for_port_67(host: Host) -> None:
    host.run("sh", "-c", "until ss -Hulpn 'sport = :67' | grep -q :67; do :; done", timeout_s=10)


def dpd_on(lan: Lan, directory: Path, settings: str = "") -> Daemon:
    return Daemon(directory, settings + "\n[multicast]\nenabled = false\n", lan["dpd"])


def proxy_offer(wire: BootWire) -> Message:
    (offer,) = [each for each in wire.offers if each.option(Option.VENDOR_CLASS) == b"PXEClient"]
    return offer


def test_each_network_hears_the_address_that_we_have_there(
    make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path
) -> None:
    """Nothing may cross over: a client hears two offers, of its own network's servers."""
    need("dnsmasq")
    lan = make_lan("dpd", "lease", "one", "two", without_address=("one", "two"))
    for tag in (10, 20):
        cable(lan, tag, lan["dpd"], f"10.81.{tag}.10")
        cable(lan, tag, lan["lease"], f"10.81.{tag}.2")
    devices = {10: cable(lan, 10, lan["one"]), 20: cable(lan, 20, lan["two"])}
    lan["lease"].start(*LEASES)
    wait_for_port_67(lan["lease"])
    with dpd_on(lan, tmp_path), ExitStack() as stack:
        wires = {
            tag: stack.enter_context(
                closing(BootWire(lan[host], expected_offers=2, device=devices[tag], prefix_length=24))
            )
            for tag, host in ((10, "one"), (20, "two"))
        }
        for tag, wire in wires.items():
            boot = Firmware(PxeClient(mac=f"52:54:00:00:00:{tag}", client_arch=7)).boot(wire)
            assert boot is not None
            assert (boot.server, boot.file) == (f"10.81.{tag}.10", "ipxe.efi")
            assert set(wire.heard) == {(f"10.81.{tag}.10", 67), (f"10.81.{tag}.2", 67)}
            http = PxeClient(mac=f"52:54:00:00:01:{tag}", client_arch=16, client_class=ClientClass.HTTP)
            by_http = HttpFirmware(http).boot(wire)
            assert by_http is not None
            assert by_http.file == f"http://10.81.{tag}.10:8080/boot/ipxe.efi"


RELAYS = {
    "dnsmasq": (
        "dnsmasq",
        *("--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--pid-file="),
        *(f"--dhcp-relay={FAR}.1,{{lease}}", f"--dhcp-relay={FAR}.1,{{dpd}}"),
    ),
    # Option 82 with the circuit; and giaddr on the servers' side, with the client's network in link selection (RFC 3527)
    "dhcrelay": ("dhcrelay", "-4", "-d", "-a", "-m", "discard", "-iu", DEVICE, "-id", "{device}", "{lease}", "{dpd}"),
    "dhcrelay-rfc3527": (
        *("dhcrelay", "-4", "-d", "-a", "-m", "discard", "-iu", DEVICE, "-id", "{device}"),
        *("-U", DEVICE, "{lease}", "{dpd}"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "flow"), [("dnsmasq", "direct"), ("dhcrelay", "binl"), ("dhcrelay-rfc3527", "direct")]
)
def test_behind_a_relay_the_network_has_the_address_that_the_settings_say(
    kind: str, flow: str, make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path
) -> None:
    need("dnsmasq", RELAYS[kind][0])
    lan = make_lan("dpd", "lease", "relay", "far", without_address=("far",))
    lan["dpd"].run("ip", "address", "add", f"{FAR_SERVER}/16", "dev", DEVICE)
    device = cable(lan, 30, lan["relay"], f"{FAR}.1")
    lan["relay"].run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for server in ("dpd", "lease"):
        lan[server].run("ip", "route", "add", f"{FAR}.0/24", "via", lan["relay"].address)
    lan["lease"].start(*LEASES)
    addresses = {"lease": lan["lease"].address, "dpd": lan["dpd"].address, "device": device}
    lan["relay"].start(*(word.format(**addresses) for word in RELAYS[kind]))
    for host in ("lease", "relay"):
        wait_for_port_67(lan[host])
    settings = f"""
[[pxe.subnet]]
network = "{FAR}.0/24"
server_address = "{FAR_SERVER}"
[[pxe.rule]]
name = "firmware"
client_class = "PXEClient"
loader = "ipxe.efi"
flow = "{flow}"
[[pxe.rule]]
name = "ipxe"
client_class = "iPXE"
loader = "boot.ipxe"
"""
    far = {"device": cable(lan, 30, lan["far"]), "prefix_length": 24, "gateway": f"{FAR}.1"}
    with (
        dpd_on(lan, tmp_path, settings) as dpd,
        closing(BootWire(lan["far"], expected_offers=2, **far)) as wire,  # type: ignore[arg-type]
    ):
        mac = "52:54:00:00:00:30"
        boot = Firmware(PxeClient(mac=mac)).boot(wire)
        assert boot is not None
        assert (boot.server, boot.file) == (FAR_SERVER, "ipxe.efi")
        offer = proxy_offer(wire)
        assert offer.address(Option.SERVER_ID) == FAR_SERVER
        assert offer.option(Option.RELAY_AGENT) is None  # the relay has taken it off again
        assert (wire.heard[-1][1] == 4011) is (flow == "binl")
        by_ipxe = Ipxe(PxeClient(mac="52:54:00:00:00:31", client_class=ClientClass.IPXE)).boot(wire)
        assert by_ipxe is not None
        assert (by_ipxe.server, by_ipxe.file) == (FAR_SERVER, "boot.ipxe")
        giaddr = lan["relay"].address if kind == "dhcrelay-rfc3527" else f"{FAR}.1"
        assert dpd.events("boot client answered", mac=mac, destination=f"{giaddr}:67")


def speak_to(*addresses: str) -> None:
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (address, 9))


def test_the_kernel_knows_who_has_an_address_on_our_link(make_lan: Callable[..., Lan]) -> None:
    lan = make_lan("dpd", "client", "router", ipv6=True)
    macs = {name: lan[name].run("cat", f"/sys/class/net/{DEVICE}/address").strip() for name in ("client", "router")}
    lan["client"].run("ip", "address", "add", "fd77::5/64", "dev", DEVICE, "nodad")
    lan["dpd"].run("ip", "address", "add", "fd77::1/64", "dev", DEVICE, "nodad")
    lan["dpd"].run("ip", "route", "add", "10.99.0.0/16", "via", lan["router"].address)
    own = lan["dpd"].address
    asked = (lan["client"].address, "fd77::5", "10.99.0.1", own, "10.77.200.200")
    with lan["dpd"].inside():
        assert [mac_at(address) for address in asked] == ["", "", "", "", ""]  # nobody has spoken yet
    with lan["dpd"].inside():
        speak_to(lan["client"].address, "fd77::5", lan["router"].address, "10.77.200.200")
    for address in (lan["client"].address, "fd77::5", lan["router"].address):
        lan["dpd"].run("sh", "-c", f"until ip neighbour show {address} | grep -q lladdr; do :; done", timeout_s=10)
    with lan["dpd"].inside():
        assert [mac_at(address) for address in asked] == [macs["client"], macs["client"], "", "", ""]
