# SPDX-License-Identifier: Apache-2.0
"""Groups of every kind on a switch that snoops: any source and one source, IPv4 and IPv6, feedback included.

No second way is open: HTTP must not have been taken, so whatever is stored came through the group and its repair by the
receiver's own feedback.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan, missing
from tests.content.wim_builder import make_wim
from tests.interop.daemon import Daemon
from tests.interop.receiving import Receiving

PACKAGE = "LAB00001"
LOSS = 0.02  # of symbols
RECEIVERS = ("one", "two")


def settings(group_range: str) -> str:
    return f"""
[pxe]
enabled = false
[tftp]
enabled = false
[http]
listen = "::"
[multicast]
interface = "{DEVICE}"
group_range = "{group_range}"
rate_mbit_s = 100
start_delay_s = 1.5
[metrics]
listen = ""
"""


def give_ipv6(lan: Lan) -> None:
    """A route for groups, and addresses that need no wait: the link's own ones are checked for a second."""
    for number, name in enumerate(("server", *RECEIVERS), 1):
        lan[name].run("ip", "address", "add", f"fd00::{number}/64", "dev", DEVICE, "nodad")


def lose_of_groups(lan: Lan) -> None:
    """At each receiver's port, one by one; `Lan.lose` knows IPv4 alone."""
    rules = "".join(
        f"oifname {lan[name].port} {groups} numgen random mod 1000 < {int(LOSS * 1000)} drop\n"
        for name in RECEIVERS
        for groups in ("ip daddr 224.0.0.0/4 udp length > 1000", "ip6 daddr ff00::/8 udp length > 1000")
    )
    table = f"table bridge losses {{\nchain forward {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n"
    lan.switch.run("nft", table)


@pytest.mark.parametrize(
    ("group_range", "url"),
    [
        ("239.192.0.0/24", "http://[fd00::1]:8080"),
        ("232.192.0.0/24", "http://{address}:8080"),
        ("ff15::6470:0/112", "http://[fd00::1]:8080"),
        ("ff15::6470:0/112", "http://{address}:8080"),
        ("ff35::6470:0/112", "http://[fd00::1]:8080"),
    ],
    ids=["IPv4 joined over IPv6", "IPv4 of one source", "IPv6", "IPv6 joined over IPv4", "IPv6 of one source"],
)
def test_an_image_comes_through_such_a_group(
    group_range: str, url: str, make_lan: Callable[..., Lan], tmp_path: Path
) -> None:
    if absent := missing("nft"):
        pytest.skip("missing: " + ", ".join(absent))
    lan = make_lan("server", *RECEIVERS, ipv6=True, checksum_offload=True)
    give_ipv6(lan)
    lan.split_trains("server")
    lose_of_groups(lan)
    image = tmp_path / "image.wim"
    image.write_bytes(make_wim(chunk_bytes=1 << 20, resources=(random.Random(5).randbytes(12 << 20),)))
    with Daemon(tmp_path, settings(group_range), lan["server"]) as daemon:
        daemon.tell("content", "add", image, "--package", PACKAGE)
        at = url.format(address=lan["server"].address)
        receivers = [Receiving(lan[name], at, PACKAGE, tmp_path / f"{name}.wim") for name in RECEIVERS]
        for receiver in receivers:
            receiver.complete()
    prefix = group_range.partition("/")[0].rstrip("0.:")[:4]
    for receiver in receivers:
        assert receiver.all("joined")[0]["group"].startswith(prefix)
        assert sha256(receiver.output.read_bytes()).digest() == sha256(image.read_bytes()).digest()
        assert receiver.all("completed")[0]["unicast_bytes"] == 0
        assert receiver.all("progress")[-1]["lost"] > 0, "the network lost nothing"
