# SPDX-License-Identifier: Apache-2.0
"""dpd-probe on a LAN against a real `dpd serve`: by broadcast as firmware does, as a relay, and over IPv6."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from bench.netns import DEVICE, Host, Lan, missing
from tests.interop.daemon import Daemon

from dpd_probe.steps import Ending

LOADER = bytes(range(256)) * 400
SETTINGS = """
[pxe]
ipv6 = true
[boot]
directory = "{boot}"
[tftp]
listen = "::"
[http]
listen = "::"
[multicast]
enabled = false
"""


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    absent = missing()
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with Lan("dpd", "client", ipv6=True) as lan:
        for host, address in (("dpd", "fd00:77::1/64"), ("client", "fd00:77::2/64")):
            lan[host].run("ip", "address", "add", address, "dev", DEVICE, "nodad")
        yield lan


@pytest.fixture(scope="module")
def dpd(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("probe")
    boot = directory / "boot"
    boot.mkdir()
    (boot / "ipxe.efi").write_bytes(LOADER)
    with Daemon(directory, SETTINGS.format(boot=boot), lan["dpd"]) as daemon:
        yield daemon


@pytest.fixture
def mac(request: pytest.FixtureRequest) -> str:
    """Each test is a machine of its own."""
    return "02:00:" + hashlib.sha256(request.node.name.encode()).digest()[:4].hex(":")


def probe(host: Host, mac: str, *words: str) -> list[dict[str, Any]]:
    """What the probe told; an ending of its own is the last line's business."""
    told = host.run(sys.executable, "-m", "dpd_probe", f"--mac={mac}", "--timeout=2", *words, check=False)
    return [json.loads(line) for line in told.splitlines()]


def is_whole(steps: list[dict[str, Any]]) -> bool:
    return bool(steps[-1].get("sha256") == hashlib.sha256(LOADER).hexdigest())


@pytest.mark.parametrize(
    ("words", "loader"),
    [
        ((f"--interface={DEVICE}",), "ipxe.efi"),
        (("--relay={client4}", "--server={dpd4}"), "ipxe.efi"),
        ((f"--interface={DEVICE}", "--arch=uefi-x64-http"), "http://10.77.0.1:8080/boot/ipxe.efi"),
        (("--relay={client6}", "--server={dpd6}", "--family=6", "--port=547"), "tftp://[fd00:77::1]/ipxe.efi"),
        ((f"--interface={DEVICE}", "--family=6", "--port=547"), "tftp://["),
        (
            ("--relay={client6}", "--server={dpd6}", "--family=6", "--port=547", "--arch=uefi-x64-http"),
            "http://[fd00:77::1]:8080/boot/ipxe.efi",
        ),
    ],
    ids=["broadcast", "relay", "broadcast-http", "relay-v6", "multicast-v6", "relay-v6-http"],
)
def test_a_boot_is_played_to_its_end(lan: Lan, dpd: Daemon, mac: str, words: tuple[str, ...], loader: str) -> None:
    places = {
        "client4": lan["client"].address,
        "dpd4": lan["dpd"].address,
        "client6": "fd00:77::2",
        "dpd6": "fd00:77::1",
    }
    steps = probe(lan["client"], mac, *(word.format(**places) for word in words))
    assert is_whole(steps), steps
    assert steps[-1]["loader"].startswith(loader)
    why = json.loads(dpd.tell("pxe", "why", mac, "--json"))
    assert why["cause"] == "fine", why


def test_a_machine_that_policy_keeps_silent_to_gets_no_answer(lan: Lan, dpd: Daemon, mac: str) -> None:
    dpd.tell("pxe", "maintenance", "--on", "test")
    steps = probe(lan["client"], mac, f"--interface={DEVICE}", "--timeout=0.3")
    assert (steps[-1]["step"], steps[-1]["reason"]) == ("failed", "no_answer")
    assert json.loads(dpd.tell("pxe", "why", mac, "--json"))["cause"] == "maintenance"
    dpd.tell("pxe", "maintenance", "--off")


def test_a_machine_with_nothing_deployed_is_sent_on(lan: Lan, dpd: Daemon, mac: str) -> None:
    dpd.tell("computer", "add", "PC-1", "--mac", mac)
    dpd.tell("deployment", "add", "--unknown", "--required")
    command = (sys.executable, "-m", "dpd_probe", f"--mac={mac}", f"--interface={DEVICE}")
    process = lan["client"].start(*command)
    assert process.wait(20) == Ending.NOT_TO_BOOT
    assert json.loads(dpd.tell("pxe", "why", mac, "--json"))["cause"] == "nothing_deployed"
