# SPDX-License-Identifier: Apache-2.0
"""Sixteen ways in which a network boot fails, staged on a LAN against a real `dpd serve`; `dpd pxe why` has to name each.

dnsmasq is the lease server, another dnsmasq the rival proxy; the firewall and the path that loses large packets are
nftables; clients are the models of real firmware over real sockets. All is staged once, since some causes are concluded from
silence (20 s) and a ticket lives a minute at least.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bench.netns import DEVICE, Host, Lan, missing
from tests.boot.signing import make_pe
from tests.interop import boot_wire
from tests.interop.boot_wire import BootWire
from tests.interop.daemon import Daemon
from tests.protocol.pxe.models import Boot, Firmware

from dpd.protocol.pxe.client import PxeClient
from dpd_probe.client import Target, Told
from dpd_probe.fetch import fetch
from dpd_probe.steps import Account, ProbeError

TICKET_S = 25
SILENCE_S = 21.0
LOADER = make_pe(filler=b"\xc3" * 5000)  # several blocks, and sound: dpd looks into loaders
GUID = "4c4c4544-0042-3510-8054-b4c04f564431"
FAR_DEVICE = "eth5"

# Each failure has a machine of its own; the label is what `dpd pxe why` has to say.
FAILURES = (
    "no_relay",
    "second_proxy",
    "stray_option_60",
    "lease_server_sets_file",
    "no_image_for_arch",
    "unknown_denied",
    "ticket_expired",
    "key_not_pressed",
    "tftp_blocked",
    "mtu_hole",
    "guid_shared",
    "already_run",
    "deployment_expired",
    "loader_chain_broken",
    "response_delay",
    "maintenance",
)
OTHERS = ("fine", "offers_not_merged", "twin")
MACS = {name: f"52:54:00:77:00:{number:02x}" for number, name in enumerate((*FAILURES, *OTHERS), 1)}

SETTINGS = """
[pxe]
ticket_lifetime_s = {ticket_s}
response_delay_s = {delay_s}
[[pxe.rule]]
name = "x64"
client_arch = [7, 9]
loader = "ipxe.efi"
[[pxe.rule]]
name = "bios"
client_arch = [0]
loader = "undionly.kpxe"
[[pxe.rule]]
name = "x86"
client_arch = [6]
loader = "chain.efi"
[boot]
directory = "{boot}"
chain_manifest = "{boot}/../chain.toml"
[tftp]
timeout_s = 0.2
attempts = 3
[multicast]
enabled = false
"""


@dataclass
class Stage:
    """The LAN with dpd on it, and the machines that were let fail."""

    lan: Lan
    dpd: Daemon
    stack: ExitStack
    wires: dict[str, BootWire] = field(default_factory=dict)

    def boot(
        self,
        name: str,
        *,
        offers: int = 2,
        on: str = "client",
        device: str = DEVICE,
        merges: bool = True,
        **client: Any,
    ) -> Boot | None:
        """Power the machine on: its firmware's way to the name of its loader."""
        host = self.lan[on]
        wire = self.wires.get(name)
        if wire is None:
            wire = self.stack.enter_context(closing(BootWire(host, expected_offers=offers, device=device)))
            self.wires[name] = wire
        return Firmware(PxeClient(MACS[name], **client), merges=merges).boot(wire)

    def ask(
        self,
        name: str,
        *,
        offers: int = 1,
        on: str = "client",
        device: str = DEVICE,
        xid: int = 7,
        secs: int = 0,
        **client: Any,
    ) -> None:
        """A DISCOVER alone, and whatever answers it."""
        with closing(BootWire(self.lan[on], expected_offers=offers, device=device)) as wire:
            wire.discover(PxeClient(MACS[name], **client).discover(xid, secs))

    def fetch(self, name: str, file: str) -> int:
        """The machine's TFTP, from its own address. Raises ProbeError."""
        address = self.wires[name].address
        with self.lan["client"].inside():
            target = Target(relay=address, timeout_s=0.5)
            return fetch(Told(self.lan["dpd"].address, file, True), target, Account()).size_bytes

    def why(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.dpd.tell("pxe", "why", MACS[name], "--json"))
        return told


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    absent = missing("dnsmasq", "nft", "ss")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    directory = tmp_path_factory.mktemp("why")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(boot_wire, "WAIT_S", 3.0)
        lan = stack.enter_context(Lan("dpd", "lease", "rival", "client", "far", without_address=("client", "far")))
        start_lease_servers(lan)
        dpd = stack.enter_context(Daemon(directory, prepare(directory), lan["dpd"]))
        stage = Stage(lan, dpd, stack)
        let_fail(stage, directory)
        yield stage


def prepare(directory: Path) -> str:
    """Boot files, one of which is not what the manifest of its chain says."""
    boot = directory / "boot"
    boot.mkdir()
    for name in ("ipxe.efi", "undionly.kpxe"):
        (boot / name).write_bytes(LOADER)
    (boot / "chain.efi").write_bytes(make_pe(machine=0x14C))
    (directory / "chain.toml").write_text(f'[[file]]\nname = "chain.efi"\nsha256 = "{"0" * 64}"\n')
    (directory / "winpe.efi").write_bytes(make_pe())
    return SETTINGS.format(ticket_s=TICKET_S, delay_s=0, boot=boot)


def start_lease_servers(lan: Lan) -> None:
    """The lease server is wrong for two machines alone, the rival answers one; `far` is a network without a relay to dpd."""
    lan["lease"].run(
        *("ip", "link", "add", FAR_DEVICE, "type", "veth", "peer", "name", FAR_DEVICE, "netns", lan["far"].namespace)
    )
    lan["lease"].run("ip", "address", "add", "10.81.5.2/24", "dev", FAR_DEVICE)
    for host in ("lease", "far"):
        lan[host].run("ip", "link", "set", FAR_DEVICE, "up")
        lan[host].run("ethtool", "-K", FAR_DEVICE, "tx", "off")
    common = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--pid-file=")
    lan["lease"].start(
        *(*common, "--leasefile-ro", "--no-ping", "--dhcp-authoritative"),
        *("--dhcp-range=10.77.1.1,10.77.1.200,255.255.0.0,1h", "--dhcp-range=10.81.5.100,10.81.5.150,255.255.255.0,1h"),
        *(f"--dhcp-mac=set:sixty,{MACS['stray_option_60']}", "--dhcp-option-force=tag:sixty,60,PXEClient"),
        *(f"--dhcp-mac=set:file,{MACS['lease_server_sets_file']}", "--dhcp-boot=tag:file,pxelinux.0"),
    )
    lan["rival"].start(
        *(*common, "--dhcp-range=10.77.0.0,proxy,255.255.0.0", f"--dhcp-mac=set:victim,{MACS['second_proxy']}"),
        *("--dhcp-ignore=tag:!victim", "--pxe-service=tag:victim,x86PC,rival,rival"),
    )
    for server in (lan["lease"], lan["rival"]):
        server.run("sh", "-c", "until ss -Hulpn 'sport = :67' | grep -q :67; do :; done", timeout_s=10)


def prepare_policy(stage: Stage) -> None:
    tell = stage.dpd.tell
    for name in ("already_run", "no_image_for_arch"):
        require(stage, name)
    tell("computer", "add", "deployment_expired", "--mac", MACS["deployment_expired"])
    over = ("--from", "2020-01-01T00:00+00:00", "--until", "2020-01-02T00:00+00:00")
    tell("deployment", "add", "--computer", "deployment_expired", "--boot-image", "LAB1", "--required", *over)
    tell("computer", "add", "twins", "--guid", GUID)
    tell("deployment", "add", "--computer", "twins", "--boot-image", "LAB1", "--required")
    tell("computer", "add", "key_not_pressed", "--mac", MACS["key_not_pressed"])
    tell("deployment", "add", "--computer", "key_not_pressed", "--boot-image", "LAB1")
    tell("pxe", "deny", MACS["unknown_denied"])


def require(stage: Stage, name: str) -> None:
    stage.dpd.tell("computer", "add", name, "--mac", MACS[name])
    stage.dpd.tell("deployment", "add", "--computer", name, "--boot-image", "LAB1", "--required")


def let_fail(stage: Stage, directory: Path) -> None:
    """In the order that makes the waiting short: the ticket first, the silent ones, the others, what changes settings last."""
    stage.dpd.tell("boot-image", "add", "--efi", directory / "winpe.efi", "--id", "LAB1")
    require(stage, "ticket_expired")
    assert stage.boot("ticket_expired") is not None
    began_at = time.monotonic()
    prepare_policy(stage)
    fail_by_other_servers(stage)
    fail_on_the_way(stage)
    silent_since = time.monotonic()
    fail_by_policy(stage)
    assert stage.boot("fine") is not None
    assert stage.fetch("fine", "ipxe.efi") == len(LOADER)
    time.sleep(max(silent_since + SILENCE_S - time.monotonic(), began_at + TICKET_S + 1 - time.monotonic(), 0))
    with pytest.raises(ProbeError, match="expired"):
        stage.fetch("ticket_expired", "winpe.efi")
    fail_by_settings(stage, directory)


def fail_by_other_servers(stage: Stage) -> None:
    stage.ask("no_relay", on="far", device=FAR_DEVICE)
    # dpd is held until the rival has answered: firmware keeps the first of two equal proxies.
    os.kill(stage.dpd.pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (stage.dpd.pid, signal.SIGCONT)).start()
    found = stage.boot("second_proxy", client_arch=0)
    assert found is not None
    assert found.server == stage.lan["rival"].address
    stage.boot("stray_option_60")
    assert stage.boot("key_not_pressed") is None  # its menu, and nobody there
    stage.boot("lease_server_sets_file", merges=False)
    stage.boot("offers_not_merged", merges=False)
    stage.ask("offers_not_merged", offers=2, xid=8)  # it shows PXE-E53 at once and begins anew


def fail_on_the_way(stage: Stage) -> None:
    for name in ("tftp_blocked", "mtu_hole"):
        assert stage.boot(name) is not None
    firewall(stage.lan["dpd"], "inet", "input", f"ip saddr {stage.wires['tftp_blocked'].address} udp dport 69 drop")
    firewall(
        stage.lan.switch, "bridge", "forward", f"ip daddr {stage.wires['mtu_hole'].address} udp length > 1000 drop"
    )
    for name in ("tftp_blocked", "mtu_hole"):
        with pytest.raises(ProbeError, match="no answer after block 0"):
            stage.fetch(name, "ipxe.efi")


def firewall(host: Host, family: str, hook: str, rule: str) -> None:
    host.run("nft", "add", "table", family, "why")
    host.run("nft", "add", "chain", family, "why", hook, f"{{ type filter hook {hook} priority 0 ; }}")
    host.run("nft", "add", "rule", family, "why", hook, *rule.split())


def fail_by_policy(stage: Stage) -> None:
    stage.ask("unknown_denied")
    stage.ask("no_image_for_arch", offers=2, client_arch=11)
    stage.ask("loader_chain_broken", client_arch=6)
    stage.ask("deployment_expired", offers=2)
    for name in ("already_run", "twin"):
        guid = GUID if name == "twin" else ""
        assert stage.boot(name, guid=guid) is not None
        assert stage.fetch(name, "winpe.efi") > 0
    stage.ask("already_run", offers=2)
    stage.ask("guid_shared", offers=2, guid=GUID)


def fail_by_settings(stage: Stage, directory: Path) -> None:
    text = stage.dpd.config.read_text(encoding="utf-8")
    assert "response_delay_s = 0" in text
    stage.dpd.config.write_text(text.replace("response_delay_s = 0", "response_delay_s = 30"), encoding="utf-8")
    os.kill(stage.dpd.pid, signal.SIGHUP)
    while not stage.dpd.events("reloaded"):
        time.sleep(0.05)
    stage.ask("response_delay")
    stage.dpd.tell("pxe", "maintenance", "--on", "inventory")
    stage.ask("maintenance", secs=40)


@pytest.mark.parametrize("failure", FAILURES)
def test_why_names_the_cause(stage: Stage, failure: str) -> None:
    told = stage.why(failure)
    assert told["cause"] == failure, json.dumps(told, indent=1)
    assert told["sentence"]
    assert told["next_step"]


WORDS = {
    "second_proxy": "Another proxyDHCP, 10.77.0.3",
    "stray_option_60": "The lease server 10.77.0.2 sends option 60",
    "lease_server_sets_file": "The lease server 10.77.0.2 names a boot file itself (pxelinux.0)",
    "key_not_pressed": "nobody pressed the key",
    "tftp_blocked": "a firewall on this host",
    "mtu_hole": "blocks of 1428 bytes",
    "loader_chain_broken": "chain.efi",
    "guid_shared": MACS["twin"],
}


@pytest.mark.parametrize(("failure", "words"), WORDS.items())
def test_why_says_who_and_what(stage: Stage, failure: str, words: str) -> None:
    assert words in stage.why(failure)["sentence"]


def test_a_boot_that_went_well_is_fine(stage: Stage) -> None:
    told = stage.why("fine")
    assert (told["cause"], told["remarks"]) == ("fine", [])
    (attempt,) = told["attempts"]
    steps = [step["event"] for step in attempt["steps"]]
    assert steps[0] == "discover"
    assert steps[-1] == "tftp"
    assert "foreign_offer" in steps  # the lease server's, which is no fault


def test_firmware_that_merges_nothing_is_told_apart_from_a_firewall(stage: Stage) -> None:
    assert stage.why("offers_not_merged")["cause"] == "offers_not_merged"


def test_a_machine_is_found_by_its_guid(stage: Stage) -> None:
    told = json.loads(stage.dpd.tell("pxe", "why", GUID, "--json"))
    assert (told["mac"], told["others"]) == (MACS["guid_shared"], [MACS["twin"]])


def test_the_watch_counts_each_conflict_by_its_kind(stage: Stage) -> None:
    for kind in ("proxy", "option60", "file", "duplicate_guid", "repeated_request"):
        assert stage.dpd.metric(f'dpd_pxe_watch_conflicts_total{{kind="{kind}"}}') >= 1, kind
    assert stage.dpd.metric("dpd_pxe_watch_failures_total") == 0
