# SPDX-License-Identifier: Apache-2.0
"""What this machine knows of its interfaces and of what its kernel did with multicast; nothing here needs privilege."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from dpd.errors import ServiceError
from dpd.service.network.udp import interface_index, receiving_address

SIOCGIFNETMASK, SIOCGIFFLAGS = 0x891B, 0x8913  # <linux/sockios.h>
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
SYSFS = Path("/sys/class/net")
NETSTAT = Path("/proc/thread-self/net/netstat")
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface, by the address that multicast is asked for with."""

    name: str
    address: str
    mtu: int
    is_wireless: bool
    network: str = ""  # IPv4 network with its prefix; empty where not known

    def reaches_directly(self, address: str) -> bool:
        """Whether an address is in this interface's subnet; an unknown subnet is given the benefit of the doubt."""
        if not self.network or ":" in address:
            return True
        return ipaddress.ip_address(address) in ipaddress.ip_network(self.network)


def find_interface(address: str) -> Interface:
    """The interface that has this address. Raises ServiceError."""
    try:
        index = interface_index(address)
    except OSError as error:
        raise ServiceError(error.strerror or str(error)) from None
    if index == 0:
        raise ServiceError(f"no interface has {address or 'no address'}; name one with --interface")
    name = socket.if_indextoname(index)
    return Interface(name, address, _mtu(name), is_wireless(name), _network(name, address))


def other_interfaces(name: str) -> list[Interface]:
    """Those that are up and have an address, loopback left out."""
    found = []
    for _, other in socket.if_nameindex():
        flags = _ioctl_int(other, SIOCGIFFLAGS)
        if other == name or flags & IFF_LOOPBACK or not flags & IFF_UP:
            continue
        try:
            found.append(find_interface(receiving_address(other)))
        except (ServiceError, OSError):  # no address, or gone meanwhile
            continue
    return found


def is_wireless(name: str) -> bool:
    """By what the kernel's wireless stack leaves in sysfs."""
    return (SYSFS / name / "wireless").exists() or (SYSFS / name / "phy80211").exists()


def _mtu(name: str) -> int:
    try:
        return int((SYSFS / name / "mtu").read_text())
    except (OSError, ValueError):
        return 1500


def _network(name: str, address: str) -> str:
    if ":" in address:
        return ""
    try:
        mask = socket.inet_ntoa(_ioctl(name, SIOCGIFNETMASK)[20:24])
    except OSError:
        return ""
    return str(ipaddress.ip_network(f"{address}/{mask}", strict=False))


def _ioctl(name: str, request: int) -> bytes:
    """struct ifreq: 16 bytes of name, then the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe.fileno(), request, struct.pack("16s24x", name.encode()[:15]))


def _ioctl_int(name: str, request: int) -> int:
    try:
        return int(struct.unpack_from("@H", _ioctl(name, request), 16)[0])
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
            return 0
        raise


@dataclass(frozen=True, slots=True)
class KernelCounts:
    """Of the whole machine since its start: multicast packets taken in, and packets dropped for want of a way back."""

    multicast_packets: int = 0
    reverse_path_drops: int = 0

    def since(self, earlier: KernelCounts) -> KernelCounts:
        return KernelCounts(
            self.multicast_packets - earlier.multicast_packets, self.reverse_path_drops - earlier.reverse_path_drops
        )


def kernel_counts() -> KernelCounts:
    """From /proc/net/netstat; zeros where it cannot be read."""
    try:
        lines = NETSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return KernelCounts()
    counts: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        counts.update(zip(names.split()[1:], map(int, values.split()[1:]), strict=False))
    return KernelCounts(counts.get("InMcastPkts", 0), counts.get("IPReversePathFilter", 0))
