# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 lease servers, which hand out fd77::100 to fd77::1ff, and what says to the LAN that they are there.

Without a router's advertisement firmware has an address and no route to anybody; without its M flag iPXE asks no lease
server for one. dnsmasq advertises by itself; Kea does not, so radvd stands beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from bench.netns import Host

READY_S = 20.0
RADVD = """interface eth0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
  AdvManagedFlag on; AdvOtherConfigFlag on;
  prefix fd77::/64 { AdvOnLink on; AdvAutonomous off; };
};
"""


def wait_until_addresses_hold(host: Host, device: str = "eth0") -> None:
    """Until the kernel has found nobody else with them, which takes a second or two; Kea gives up before that."""
    deadline = time.monotonic() + READY_S
    while "tentative" in (told := host.run("ip", "-6", "address", "show", "dev", device)) or "fe80:" not in told:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


def start_dnsmasq6(host: Host, directory: Path, lines: str = "") -> None:
    """`lines` of dnsmasq.conf are added."""
    configuration = directory / "dnsmasq6.conf"
    configuration.write_text(lines, encoding="ascii")
    host.start(
        *("dnsmasq", "--keep-in-foreground", f"--conf-file={configuration}", "--user=root", "--port=0"),
        *("--interface=eth0", "--bind-interfaces", "--leasefile-ro", "--pid-file="),
        *("--dhcp-range=fd77::100,fd77::1ff,64,1h", "--enable-ra"),
    )


def start_kea6(host: Host, directory: Path, classes: str = "{}") -> None:
    """`classes` is JSON that is put into Dhcp6. Raises AssertionError where Kea does not come up, with what it said."""
    wait_until_addresses_hold(host)
    home = directory / "kea6"
    home.mkdir()
    settings = {
        "interfaces-config": {"interfaces": ["eth0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "server-id": {"type": "LL", "persist": False},
        "subnet6": [{"subnet": "fd77::/64", "interface": "eth0", "pools": [{"pool": "fd77::100-fd77::1ff"}]}],
        "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
        **json.loads(classes),
    }
    (home / "kea.json").write_text(json.dumps({"Dhcp6": settings}), encoding="utf-8")
    (home / "radvd.conf").write_text(RADVD, encoding="ascii")
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")  # radvd wants a router
    host.start("radvd", "--nodaemon", "--config", home / "radvd.conf", "--pidfile", home / "radvd.pid", "-m", "stderr")
    places = {"KEA_PIDFILE_DIR": str(home), "KEA_LOCKFILE_DIR": str(home)}
    log_path, deadline = home / "kea.log", time.monotonic() + READY_S
    with log_path.open("wb") as log:
        process = host.start("kea-dhcp6", "-c", home / "kea.json", stdout=log, environment=places)
    while "DHCP6_STARTED" not in (said := log_path.read_text(encoding="utf-8", errors="replace")):
        running = process.poll() is None and time.monotonic() < deadline
        assert running, f"kea-dhcp6 did not start:\n{said}"
        time.sleep(0.02)


def start_dead_end4(host: Host) -> None:
    """DHCPv4 that leads UEFI HTTP boot, and nobody else, to a port where nobody is: OVMF tries IPv4 first, and then gives it
    up in seconds instead of a minute."""
    host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
        *("--interface=eth0", "--bind-interfaces", "--no-ping", "--pid-file="),
        *("--dhcp-range=10.77.1.1,10.77.1.200,255.255.0.0,1h", "--dhcp-option-force=60,HTTPClient"),
        *("--dhcp-match=set:http,option:client-arch,16", "--dhcp-ignore=tag:!http"),
        f"--dhcp-boot=http://{host.address}:9/nobody.efi",
    )


LEASE_SERVERS6: dict[str, tuple[tuple[str, ...], Callable[[Host, Path, str], None], str]] = {
    "dnsmasq": (("dnsmasq",), start_dnsmasq6, ""),
    "kea": (("kea-dhcp6", "radvd"), start_kea6, "{}"),
}
