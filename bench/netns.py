# SPDX-License-Identifier: Apache-2.0
"""A LAN out of network namespaces: one bridge as the switch, one namespace and one veth for each host.

    with Lan("server", "client") as lan:
        lan["server"].start("in.tftpd", "--foreground", "/srv")      # ended, at the latest, when the LAN goes
        lan.lose("client", 0.01)
        lan["client"].run("curl", "-sO", f"http://{lan['server'].address}/file")

Needs root, iproute2 and ethtool (`missing()` names what is not there); nft for loss. Names carry our process id,
so that labs side by side do not meet, and what a killed process left behind goes when the next lab is made.
"""

from __future__ import annotations

import ctypes
import ipaddress
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

DEVICE = "eth0"  # of each host, as the host sees it
BRIDGE = "br0"
END_TIMEOUT_S = 5.0
CLONE_NEWNET = 0x40000000  # <linux/sched.h>
PER_MILLION = 1_000_000
WIRE_OVERHEAD_BYTES = 24  # preamble, frame check sequence and gap of an Ethernet frame, which no counter of Linux has
SHAPER_BURST_BYTES = 15_000  # tbf cuts longer trains into frames, so that each frame pays its overhead

_lan_numbers = itertools.count(1)


class LabError(Exception):
    """A command of the lab failed; the message has the command and what it said."""


def missing(*programs: str) -> list[str]:
    """What stands in the way of a lab, by name; empty where nothing does."""
    absent = [] if os.geteuid() == 0 else ["root"]
    return absent + [program for program in ("ip", "ethtool", *programs) if shutil.which(program) is None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a network device has counted."""

    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What a lossy port of the switch has done to packets since its probability was set."""

    passed: int
    dropped: int


@dataclass(slots=True)
class Host:
    """One namespace. `address` is empty for a host that is to get its address by DHCP, and for the switch."""

    name: str
    namespace: str
    address: str = ""
    port: str = ""  # the switch's end of its cable
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs `command` inside, for subprocess."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def run(self, *command: str | Path, timeout_s: float = 60.0, check: bool = True) -> str:
        """Run to the end and give back standard output. Raises LabError where the status is not 0 and `check` is set."""
        return _run(*self.command(*command), timeout_s=timeout_s, check=check)

    def start(
        self,
        *command: str | Path,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start and go on; `ip netns exec` becomes the command, so pid and signals are those of the command itself."""
        process = subprocess.Popen(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout if stderr is None else stderr,
            env=None if environment is None else os.environ | environment,
        )
        self.processes.append(process)
        return process

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread opens within belong to the namespace, and go on doing so afterwards."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path("/run/netns", self.namespace).open("rb") as there,
        ):
            _enter_namespace(there.fileno())
            try:
                yield
            finally:
                _enter_namespace(home.fileno())

    def traffic(self, device: str = DEVICE) -> Traffic:
        """The counters of the wire itself: what was really sent, whatever a program says of itself."""
        fields = self.run("cat", "/proc/net/dev").partition(f"{device}:")[2].split()
        return Traffic(int(fields[8]), int(fields[9]), int(fields[0]), int(fields[1]))


class Lan:
    """A context manager: inside it the LAN exists. `lan["name"]` is a host, `lan.switch` the bridge's namespace.

    Checksum offload is off at every host: over a veth it leaves UDP checksums blank, which firmware in QEMU refuses and
    captures show as errors. A bench that compares bytes per CPU second passes `checksum_offload=True`. IPv6 is off
    unless asked for, since its chatter is in every counter. `without_address` names hosts that ask DHCP.
    """

    def __init__(
        self,
        *names: str,
        network: str = "10.77.0.0/16",
        without_address: tuple[str, ...] = (),
        ipv6: bool = False,
        checksum_offload: bool = False,
    ) -> None:
        self._network = ipaddress.IPv4Network(network)
        self._prefix = f"dpd-{os.getpid()}-{next(_lan_numbers)}"
        self._ipv6 = ipv6
        self._checksum_offload = checksum_offload
        self._stack = ExitStack()
        self._losses: dict[str, float] = {}
        addresses = iter(self._network.hosts())
        self.switch = Host("switch", f"{self._prefix}-switch")
        self.hosts = {
            name: Host(
                name, f"{self._prefix}-{name}", "" if name in without_address else str(next(addresses)), f"port{i}"
            )
            for i, name in enumerate(names)
        }

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Self:
        with ExitStack() as undo_if_it_fails:
            undo_if_it_fails.callback(self._stack.close)
            remove_leftovers()
            self._make_switch()
            for host in self.hosts.values():
                self._make_host(host)
            undo_if_it_fails.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make_namespace(self, host: Host) -> None:
        _run("ip", "netns", "add", host.namespace)
        self._stack.callback(_remove_namespace, host.namespace)
        self._stack.callback(_end_processes, host)
        if not self._ipv6:
            host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exit 0")
        _run("ip", "-n", host.namespace, "link", "set", "lo", "up")

    def _make_switch(self) -> None:
        """IGMP snooping with a querier makes group membership count, as on a managed switch; without forward_delay 0
        the first seconds of traffic are lost to the bridge's learning.

        The bridge begins to snoop 10 s after its start and until then passes membership reports on to everybody. In IGMP
        version 2, its default, a host that hears another's report keeps its own back, and is deaf once snooping begins.
        """
        self._make_namespace(self.switch)
        options = ("forward_delay", "0", "mcast_snooping", "1", "mcast_querier", "1", "mcast_igmp_version", "3")
        self._ip("switch", "link", "add", BRIDGE, "type", "bridge", *options)
        self._ip("switch", "link", "set", BRIDGE, "up")
        # Where br_netfilter is loaded, each frame passes the firewall's hooks: a quarter of a sender's CPU, and no switch.
        self.switch.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done; exit 0")

    def _make_host(self, host: Host) -> None:
        self._make_namespace(host)
        cable = ("peer", "name", DEVICE, "netns", host.namespace)
        self._ip("switch", "link", "add", host.port, "type", "veth", *cable)
        self._ip("switch", "link", "set", host.port, "master", BRIDGE, "up")
        if not self._checksum_offload:
            host.run("ethtool", "-K", DEVICE, "tx", "off")
        if host.address:
            self._ip(
                host.name, "address", "add", f"{host.address}/{self._network.prefixlen}", "brd", "+", "dev", DEVICE
            )
        self._ip(host.name, "link", "set", DEVICE, "up")
        self._ip(host.name, "route", "add", "224.0.0.0/4", "dev", DEVICE)  # no default route leads there

    def _ip(self, name: str, *arguments: str) -> None:
        host = self.switch if name == "switch" else self.hosts[name]
        _run("ip", "-n", host.namespace, *arguments)

    def split_trains(self, name: str) -> None:
        """Let the host's device cut UDP_SEGMENT and TSO trains into datagrams, as a wire has them; a veth passes on up
        to 64 KiB as one packet, and the loss rule below then takes all of it."""
        features = itertools.chain(*((feature, "off") for feature in ("tx-udp-segmentation", "tso", "gso")))
        self.hosts[name].run("ethtool", "-K", DEVICE, *features)

    def lose(self, name: str, probability: float) -> None:
        """Drop TCP and UDP on its way to this host at random in the switch, each packet for itself and each port for itself;
        what the host sends is never lost. The packet is what crosses the switch: a train unless its sender splits it, but
        never what the host's own receive offload puts together."""
        self._losses[name] = probability
        self._set_losses()

    def lose_nothing(self, name: str) -> None:
        """Take back `lose`."""
        self._losses.pop(name, None)
        self._set_losses()

    def lost(self, name: str) -> Loss:
        """What `lose` has done to this host, since the last change of any host's loss."""
        listed = json.loads(self.switch.run("nft", "-j", "list", "chain", "bridge", "lab", self.hosts[name].port))
        rules = [item["rule"]["expr"] for item in listed["nftables"] if "rule" in item]
        dropped, passed = (word["counter"]["packets"] for rule in rules for word in rule if "counter" in word)
        return Loss(passed, dropped)

    def _set_losses(self) -> None:
        """Without a rule there is no table either: a frame then passes no hook and costs nothing."""
        text = "table bridge lab\ndelete table bridge lab\n"
        if self._losses:
            text += (
                "table bridge lab {\n" + "".join(map(self._lossy_port, self._losses)) + self._forward_chain() + "}\n"
            )
        _run(*self.switch.command("nft", "-f", "-"), text=text)

    def _lossy_port(self, name: str) -> str:
        share = min(round(self._losses[name] * PER_MILLION), PER_MILLION - 1)
        return (
            f"chain {self.hosts[name].port} {{\n numgen random mod {PER_MILLION} < {share} counter drop\n counter\n}}\n"
        )

    def _forward_chain(self) -> str:
        """One look at the port's number for each frame: a rule for each port by name cost a sender's core a tenth."""
        ports = [self.hosts[name].port for name in self._losses]
        jumps = ", ".join(f'"{port}" : jump {port}' for port in ports)
        rule = f" ip protocol {{ tcp, udp }} oif vmap {{ {jumps} }}\n"
        return f"chain forward {{\n type filter hook forward priority 0;\n{rule}}}\n"

    def offload_receiving(self, name: str, *, on: bool) -> None:
        """Let the host's device put datagrams together again behind the switch's loss (GRO), as a card's driver does. A
        veth does so only where its other end has no TSO, or the kernel assumes that whole trains come by themselves."""
        self.switch.run("ethtool", "-K", self.hosts[name].port, "tso", "off" if on else "on")
        self.hosts[name].run("ethtool", "-K", DEVICE, "gro", "on" if on else "off")

    def limit_sending(self, name: str, mbit_s: float, queue_bytes: int = 1_500_000) -> None:
        """Send at most this fast, as the host's own network card: the bits of a wire, gaps between frames included. The default
        queue is that of 1000 full frames."""
        self._shape(self.hosts[name], DEVICE, mbit_s, queue_bytes)

    def limit_receiving(self, name: str, mbit_s: float, queue_bytes: int = 512_000) -> None:
        """Receive at most this fast: the switch's port, which drops what its buffer cannot take."""
        self._shape(self.switch, self.hosts[name].port, mbit_s, queue_bytes)

    def send_unlimited(self, name: str) -> None:
        """Take back `limit_sending`."""
        self.hosts[name].run("tc", "qdisc", "delete", "dev", DEVICE, "root", check=False)

    def _shape(self, where: Host, device: str, mbit_s: float, queue_bytes: int) -> None:
        limits = ("rate", f"{mbit_s}mbit", "burst", str(SHAPER_BURST_BYTES), "limit", str(queue_bytes))
        overhead = ("overhead", str(WIRE_OVERHEAD_BYTES))
        where.run("tc", "qdisc", "replace", "dev", device, "root", "tbf", *limits, *overhead)

    def add_tap(self, name: str) -> str:
        """A port of the switch for a QEMU guest; QEMU must run in the switch's namespace. Returns the device's name."""
        self._ip("switch", "tuntap", "add", "dev", name, "mode", "tap")
        self._ip("switch", "link", "set", name, "master", BRIDGE, "up")
        return name


def _enter_namespace(descriptor: int) -> None:
    """setns(2); Python has it from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: needs CAP_SYS_ADMIN")


def remove_leftovers() -> None:
    """Remove the namespaces of processes that are gone, which happens after kill -9."""
    for line in _run("ip", "netns", "list").splitlines():
        ours = re.match(r"dpd-(\d+)-\d+-", line)
        if ours and not Path("/proc", ours[1]).exists():
            _remove_namespace(line.split()[0])


def _end_processes(host: Host) -> None:
    """Ask all, then wait for each; who does not listen is killed."""
    running = [process for process in host.processes if process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _remove_namespace(namespace: str) -> None:
    """Kill what still runs inside (a daemon that forked), then remove it; its devices go with it."""
    for pid in _run("ip", "netns", "pids", namespace, check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    _run("ip", "netns", "delete", namespace, check=False)


def _run(*command: str, timeout_s: float = 60.0, check: bool = True, text: str = "") -> str:
    """`text` is the command's standard input."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, input=text)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: not done after {timeout_s:.0f} s") from None
    if check and run.returncode:
        raise LabError(f"{' '.join(command)}: status {run.returncode}: {(run.stderr + run.stdout).strip()}")
    return run.stdout
