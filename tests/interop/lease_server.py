# SPDX-License-Identifier: Apache-2.0
"""Lease servers that hand out addresses and know nothing of booting, and a router for IPv6.

Each serves 10.77.1.1 to 10.77.1.200 of the LAN, and behind a relay at 10.78.0.1 the network 10.78.0.0/24.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from bench.netns import Host

READY_S = 20.0


def start_dnsmasq(host: Host, _: Path, *options: str) -> None:
    host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
        *("--interface=eth0", "--bind-interfaces", "--no-ping"),  # its ping holds each offer back for 3 s
        *("--dhcp-range=10.77.1.1,10.77.1.200,255.255.0.0,1h", "--pid-file="),
        *("--dhcp-range=set:far,10.78.0.100,10.78.0.200,255.255.255.0,1h", "--dhcp-option=tag:far,3,10.78.0.1"),
        *options,
    )


def start_kea(host: Host, directory: Path) -> None:
    """Raises AssertionError where Kea does not come up, with what it said."""
    home = directory / "kea"
    home.mkdir()
    far = {"subnet": "10.78.0.0/24", "pools": [{"pool": "10.78.0.100-10.78.0.200"}]}
    router = {"option-data": [{"name": "routers", "data": "10.78.0.1"}]}
    near = {"subnet": "10.77.0.0/16", "pools": [{"pool": "10.77.1.1-10.77.1.200"}]}
    settings = {
        "interfaces-config": {"interfaces": ["eth0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [near, far | router],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }
    (home / "kea.json").write_text(json.dumps({"Dhcp4": settings}), encoding="utf-8")
    places = {"KEA_PIDFILE_DIR": str(home), "KEA_LOCKFILE_DIR": str(home)}
    log_path, deadline = home / "kea.log", time.monotonic() + READY_S
    with log_path.open("wb") as log:
        process = host.start("kea-dhcp4", "-c", home / "kea.json", stdout=log, environment=places)
    while "DHCP4_STARTED" not in (said := log_path.read_text(encoding="utf-8", errors="replace")):
        running = process.poll() is None and time.monotonic() < deadline
        assert running, f"kea-dhcp4 did not start:\n{said}"
        time.sleep(0.02)


def start_router(host: Host, device: str, prefix: str) -> None:
    """Router advertisements and nothing else: iPXE waits 16 s for one where there is none."""
    host.run("ip", "-6", "address", "add", f"{prefix}1/64", "dev", device, "nodad")
    host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
        *(f"--interface={device}", "--bind-interfaces", "--pid-file="),
        *("--enable-ra", f"--dhcp-range={prefix},ra-only"),
    )


LEASE_SERVERS: dict[str, tuple[str, Callable[[Host, Path], None]]] = {
    "dnsmasq": ("dnsmasq", start_dnsmasq),
    "kea": ("kea-dhcp4", start_kea),
}
