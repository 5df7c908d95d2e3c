# SPDX-License-Identifier: Apache-2.0
"""A machine in a VLAN of its own: between it and the servers is a router that has one cable, with both VLANs tagged on it.

The router is a guest too, for its kernel knows 802.1Q and the host's need not: Debian's kernel with its 8021q module, ISC dhcrelay
on `eth0.20`, where the machine is, towards `eth0.10`, where the lease server and dpd are. trunk.py is the switch between.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_kea, start_router
from tests.interop.linux import IPXE_EFI
from tests.interop.test_qemu_boot import BIOS_LIMIT_S, UEFI_LIMIT_S
from tests.interop.trunk import tagged, untagged

pytestmark = pytest.mark.qemu

MAC, ROUTER_MAC = "52:54:00:d9:d0:20", "52:54:00:d9:d0:0a"
ROUTER, GATEWAY = "10.77.0.250", "10.78.0.1"
SERVERS_VLAN, MACHINES_VLAN = 10, 20
CARD = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
)
MODULES = (*CARD, "virtio_net", "llc", "stp", "garp", "mrp", "8021q")  # in the order in which they need each other
RELAY = Path("/usr/sbin/dhcrelay")
READY, READY_LIMIT_S = "ROUTER-READY", 60.0

ROUTER_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for module in {modules}; do $b insmod /modules/$module.ko || echo "no $module"; done
$b ip link set eth0 up
$b ip link add link eth0 name eth0.{servers} type vlan id {servers}
$b ip link add link eth0 name eth0.{machines} type vlan id {machines}
$b ip address add {router}/16 brd + dev eth0.{servers}
$b ip address add {gateway}/24 brd + dev eth0.{machines}
$b ip link set eth0.{servers} up
$b ip link set eth0.{machines} up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo {ready}
exec /usr/sbin/dhcrelay -4 -d -a -m discard -iu eth0.{servers} -id eth0.{machines} {lease} {dpd}
"""


def libraries_of(program: Path) -> list[Path]:
    """What the dynamic loader would load for it, and the loader."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(word) for word in said.split() if word.startswith("/")]


def write_router(folder: Path, lan: Lan) -> tuple[Path, Path]:
    """Its kernel and initramfs."""
    busybox = linux.find_busybox()
    assert busybox is not None
    modules = linux.find_modules(*MODULES)
    files = {f"modules/{module.name}": module for module in modules}
    files |= {str(path).lstrip("/"): path for path in (RELAY, *libraries_of(RELAY))}
    init = ROUTER_INIT.format(
        modules=" ".join(MODULES),
        servers=SERVERS_VLAN,
        machines=MACHINES_VLAN,
        router=ROUTER,
        gateway=GATEWAY,
        ready=READY,
        lease=lan["lease"].address,
        dpd=lan["dpd"].address,
    )
    linux.write_initramfs(folder / "router.cpio", busybox, init, files)
    return linux.find_kernel(), folder / "router.cpio"


class Router(Guest):
    """A machine that starts from its own kernel, with the trunk as its only cable."""

    def __init__(self, lan: Lan, folder: Path, own: Path, peer: Path) -> None:
        kernel, initramfs = write_router(folder, lan)
        super().__init__(
            lan,
            ROUTER_MAC,
            *("-M", "q35", "-uuid", str(uuid.uuid5(uuid.NAMESPACE_OID, ROUTER_MAC))),
            *("-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1"),
            *("-netdev", f"dgram,id=trunk,local.type=unix,local.path={own},remote.type=unix,remote.path={peer}"),
            *("-device", f"virtio-net-pci,netdev=trunk,mac={ROUTER_MAC},romfile="),
        )


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], put_linux: linux.PutLinux, tmp_path: Path) -> Lan:
    """Servers on one switch, `far0` another one; nothing but the trunk's access ports between them."""
    need(QEMU, "kea-dhcp4", "dhcrelay", "dnsmasq", IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", "advertiser", ipv6=True)
    switch = lan.switch
    switch.run("ip", "link", "add", "far0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    switch.run("ip", "link", "set", "far0", "up")
    switch.run("ip", "link", "set", lan["advertiser"].port, "master", "far0")
    for server in ("lease", "dpd"):
        lan[server].run("ip", "route", "add", "10.78.0.0/24", "via", ROUTER)
    start_kea(lan["lease"], tmp_path)
    start_router(lan["advertiser"], "eth0", "fd78::")
    return lan


@pytest.fixture
def router(lan: Lan, tmp_path: Path) -> Iterator[Guest]:
    """The router, relaying."""
    near, far = lan.add_tap("vlan-near"), lan.add_tap("vlan-far")
    lan.switch.run("ip", "link", "set", far, "master", "far0")
    card, port = tmp_path / "card", tmp_path / "port"
    program = (sys.executable, "-m", "tests.interop.trunk", port, card)
    ports = (f"{SERVERS_VLAN}={near}", f"{MACHINES_VLAN}={far}")
    process = lan.switch.start(*program, *ports, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"trunk ready\n"
    try:
        with Router(lan, tmp_path, card, port) as guest:
            guest.wait_for(READY, READY_LIMIT_S)
            yield guest
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path, boot_directory: Path) -> Iterator[Daemon]:
    """`dpd serve` with its default rules and ports."""
    with Daemon(tmp_path, f'[boot]\ndirectory = "{boot_directory}"\n', lan["dpd"]) as daemon:
        yield daemon


def test_a_tag_comes_and_goes() -> None:
    frame = bytes(range(60))
    assert untagged(tagged(frame, 20)) == (20, frame)
    assert untagged(frame) == (0, frame)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_machine_in_another_vlan_boots_linux(
    lan: Lan, router: Guest, dpd: Daemon, tmp_path: Path, firmware: str
) -> None:
    guest = Guest.bios(lan, MAC) if firmware == "bios" else Guest.uefi(lan, MAC, tmp_path)
    lan.switch.run("ip", "link", "set", guest.tap, "master", "far0")
    with guest:
        guest.wait_for(linux.MARK, BIOS_LIMIT_S if firmware == "bios" else UEFI_LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
    answers = dpd.events("boot client answered", mac=MAC, client_class="iPXE", loader="boot.ipxe")
    assert [answer["destination"] for answer in answers] == [f"{GATEWAY}:67"]
    transfers = dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")
    assert [transfer["peer"].startswith("10.78.0.") for transfer in transfers] == [True]
