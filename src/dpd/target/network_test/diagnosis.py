# SPDX-License-Identifier: Apache-2.0
"""What a network test says in words: for each check a verdict, what was found, the likely cause and the remedy.

Plain values in, sentences out: nothing here asks the machine or the network. What each cause looks like is from the
field: snooping switches without a querier, TTL 1 across routers, firewalls, small buffers, storm control, small MTUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from dpd.protocol.multicast.probe import IP_UDP_BYTES, NEEDED_BYTES, PACKET_BYTES, ProbeTally, Stream

LOSS_NOTED, LOSS_BAD = 0.01, 0.05
BURST_LOSS = 0.01
QUERY_INTERVAL_S = 125.0  # RFC 3376, 8.2; whoever listened for twice as long has heard a querier that exists
ASK_THE_SWITCH = "turn on an IGMP querier in that VLAN (at a switch or router), or set multicast.querier = true at the distribution point"
WANTED_BUFFER_BYTES = 4 << 20


class Verdict(Enum):
    """BAD alone makes a network unfit; UNKNOWN is what could not be looked at."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `check` is a name for programs, [a-z_]+."""

    check: str
    verdict: Verdict
    found: str
    cause: str = ""
    remedy: str = ""


@dataclass(slots=True)
class Observation:
    """What the receiving machine measured and knows. Times are seconds after the group was joined."""

    interface: str
    address: str
    group: str
    tally: ProbeTally
    sender: str = ""
    ttl: int = 1
    mtu: int = 1500
    is_wireless: bool = False
    is_same_subnet: bool = True
    buffer_bytes: int = 0
    passes: dict[float, bool] = field(default_factory=dict)  # at each moment that was to be looked at
    cut_after_s: float | None = None
    listened_s: float = 0.0
    can_hear_queries: bool = False
    queriers: dict[str, int] = field(default_factory=dict)  # address: IGMP version
    sent: dict[str, int] = field(default_factory=dict)  # by stream, as the distribution point counted
    too_large: tuple[int, ...] = ()
    drops: dict[Stream, int] = field(default_factory=dict)  # by the own socket
    round_trips_s: tuple[float, ...] = ()
    echoes: tuple[int, int] = (0, 0)  # sent here, heard there
    elsewhere: str = ""  # another interface at which the group arrives
    seen_before_firewall: bool = False
    dropped_here: int = 0  # multicast packets that the kernel took in while the socket got none
    reverse_path_drops: int = 0

    @property
    def ip_version(self) -> int:
        return 6 if ":" in self.group else 4

    @property
    def has_passed(self) -> bool:
        return self.tally.received > 0

    def loss(self, stream: Stream) -> float:
        """Share of a stream that the network lost; what the own socket dropped had arrived."""
        sent = self.sent.get(stream.name.lower(), 0)
        arrived = self.tally.streams[stream].received + self.drops.get(stream, 0)
        return max(0.0, 1 - arrived / sent) if sent else 0.0

    def was_measured(self, stream: Stream) -> bool:
        return self.has_passed and self.sent.get(stream.name.lower(), 0) > 0


def diagnose(seen: Observation) -> list[Finding]:
    """Every check that could be made, in the order of the table."""
    return [
        finding
        for check in (_passes, _querier, _loss, _burst, _order, _mtu, _ttl, _jitter, _feedback, _buffer, _link)
        for finding in check(seen)
    ]


def is_fit(findings: list[Finding]) -> bool:
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def _passes(seen: Observation) -> Iterator[Finding]:
    if not seen.has_passed:
        yield Finding("passes", Verdict.BAD, f"nothing arrives by {seen.interface}", *_why_nothing(seen))
        return
    shown = ", ".join(f"{moment_text(at)}: {'yes' if passes else 'no'}" for at, passes in sorted(seen.passes.items()))
    if seen.cut_after_s is not None:
        found = f"{shown}; cut off {seen.cut_after_s:.0f} s after the join"
        cause = "a switch that snoops (IGMP or MLD) and a network without a querier: hosts are not asked, and the switch forgets the group"
        if seen.queriers:
            cause = "a querier asks, but this machine's answers do not reach the switch: a firewall here that drops IGMP, or a switch port that does"
            yield Finding("passes", Verdict.BAD, found, cause, f"let IGMP pass: `iptables -I INPUT -p igmp -i {seen.interface} -j ACCEPT`, and OUTPUT likewise; then look at the switch")  # fmt: skip
            return
        yield Finding("passes", Verdict.BAD, found, cause, ASK_THE_SWITCH)
    elif not all(seen.passes.values()):
        cause = "the switch's port begins to pass traffic late (spanning tree), or the path loses nearly everything"
        yield Finding("passes", Verdict.BAD, shown, cause, "set the port to edge (portfast) and see the loss below")
    else:
        yield Finding("passes", Verdict.OK, shown)


def _why_nothing(seen: Observation) -> tuple[str, str]:
    """(cause, remedy), what is certain before what is guessed."""
    if seen.elsewhere:
        return (
            f"the group arrives at {seen.elsewhere}, not at {seen.interface}",
            f"use --interface {seen.elsewhere}, also for `dpd receive`",
        )
    if seen.reverse_path_drops:
        return (
            f"this machine drops it: no route back to the sender by {seen.interface} (rp_filter, {seen.reverse_path_drops} packets)",
            f"`sysctl -w net.ipv4.conf.{seen.interface}.rp_filter=2`, or give it a route to {seen.sender} by {seen.interface}",
        )
    if seen.seen_before_firewall or seen.dropped_here:
        return (
            f"a firewall on this machine: packets reach {seen.interface} and not the program",
            "let UDP to 224.0.0.0/4 in: `iptables -I INPUT -d 224.0.0.0/4 -p udp -j ACCEPT`, or the same in nftables or firewalld",
        )
    if not seen.is_same_subnet and seen.ttl <= 1:
        return (
            f"{seen.sender} is in another subnet, and datagrams with TTL {seen.ttl} end at the first router",
            "set multicast.ttl to the number of routers + 1 and multicast routing (PIM) at them, or put a distribution point into this subnet",
        )
    if not seen.is_same_subnet:
        return (
            f"{seen.sender} is in another subnet, and the routers between do not route multicast",
            "turn on multicast routing (PIM) at each of them, or put a distribution point into this subnet",
        )
    if seen.is_wireless:
        return (
            "the access point does not pass multicast on, or keeps clients apart",
            "use a cable; else allow multicast at the access point",
        )
    return (
        "a switch between does not pass the group to this port: snooping that misses this machine's report, a filter, or another VLAN",
        f"compare VLANs of both ports; look for the group in the switch's snooping table; {ASK_THE_SWITCH}",
    )


def moment_text(at_s: float) -> str:
    """When, as people say it."""
    if at_s < 5:
        return "now"
    return f"after {at_s:.0f} s" if at_s < 120 else f"after {at_s / 60:g} min"


def _querier(seen: Observation) -> Iterator[Finding]:
    if seen.ip_version == 6:
        yield Finding(
            "querier", Verdict.UNKNOWN, "MLD queries are not looked for; judged by whether the group survives"
        )
    elif seen.queriers:
        who = ", ".join(f"{address} (IGMPv{version})" for address, version in sorted(seen.queriers.items()))
        yield Finding("querier", Verdict.OK, f"heard: {who}")
    elif not seen.can_hear_queries:
        survived = "the group survived" if seen.cut_after_s is None and seen.has_passed else "the group did not survive"
        found = (
            f"not permitted to listen for queries (needs root); judged by the group: {survived} {seen.listened_s:.0f} s"
        )
        yield Finding("querier", Verdict.UNKNOWN, found)
    elif seen.cut_after_s is not None:
        found = f"no query heard in {seen.listened_s:.0f} s"
        yield Finding("querier", Verdict.BAD, found, "nobody asks for memberships in this network", ASK_THE_SWITCH)
    elif seen.listened_s < 2 * QUERY_INTERVAL_S:
        found = f"no query heard in {seen.listened_s:.0f} s; they come every {QUERY_INTERVAL_S:.0f} s"
        yield Finding("querier", Verdict.UNKNOWN, found, "", "`--minutes 5` listens for long enough to be sure")
    else:
        found = f"no query heard in {seen.listened_s:.0f} s, but the group survives"
        cause = "the switches do not snoop: every port gets all multicast; or they would have cut it off later"
        yield Finding(
            "querier",
            Verdict.NOTE,
            found,
            cause,
            f"where others share the network, turn snooping on and {ASK_THE_SWITCH}",
        )


def _loss(seen: Observation) -> Iterator[Finding]:
    if not seen.was_measured(Stream.PACED):
        return
    loss = seen.loss(Stream.PACED)
    found = f"{loss:.2%} of {seen.sent['paced']} paced datagrams"
    if loss <= LOSS_NOTED:
        yield Finding("loss", Verdict.OK, found)
        return
    causes = "a bad cable, port or duplex setting, a weak switch, or a link that others fill"
    if seen.is_wireless:
        causes = "Wi-Fi does not repeat multicast that got lost"
    remedy = "look at the error counters of both ports (`ethtool -S`, `ip -s link`); a lower multicast.rate_mbit_s eases a full link"
    yield Finding("loss", Verdict.BAD if loss > LOSS_BAD else Verdict.NOTE, found, causes, remedy)


def _burst(seen: Observation) -> Iterator[Finding]:
    if not seen.was_measured(Stream.BURST):
        return
    loss, paced = seen.loss(Stream.BURST), seen.loss(Stream.PACED)
    found = f"{loss:.2%} of {seen.sent['burst']} datagrams in bursts of 512"
    if loss <= max(BURST_LOSS, 2 * paced):
        yield Finding("burst", Verdict.OK, found)
        return
    cause = "storm control or policing of multicast at a switch, or a slower link between with small buffers"
    remedy = (
        "raise or switch off storm control for multicast at the ports; else set multicast.rate_mbit_s below its limit"
    )
    yield Finding("burst", Verdict.NOTE, found, cause, remedy)


def _order(seen: Observation) -> Iterator[Finding]:
    if not seen.was_measured(Stream.PACED):
        return
    streams = seen.tally.streams.values()
    reordered, duplicates = sum(s.reordered for s in streams), sum(s.duplicates for s in streams)
    yield Finding("reorder", Verdict.OK if not reordered else Verdict.NOTE, f"{reordered} datagrams", "several paths, or several queues in a switch" if reordered else "", "harmless for dpd, which takes them in any order" if reordered else "")  # fmt: skip
    if duplicates:
        cause, remedy = (
            "a loop, or two paths or access points that both pass the group on",
            "look for a loop: spanning tree, a second cable",
        )
        share = duplicates / max(1, sum(s.received for s in streams))
        yield Finding(
            "duplicates",
            Verdict.BAD if share > 0.5 else Verdict.NOTE,
            f"{duplicates} datagrams ({share:.0%})",
            cause,
            remedy,
        )
    else:
        yield Finding("duplicates", Verdict.OK, "none")


def _mtu(seen: Observation) -> Iterator[Finding]:
    if not seen.was_measured(Stream.SIZE):
        return
    if not seen.tally.sizes:
        yield Finding("mtu", Verdict.UNKNOWN, "no datagram of the size test arrived")
        return
    overhead = IP_UDP_BYTES[seen.ip_version]
    plain, sealed = (size + overhead for size in NEEDED_BYTES)
    largest = max(seen.tally.sizes)
    own = f"; the sender's own MTU is below {min(seen.too_large)}" if seen.too_large else ""
    found = f"packets of {largest} bytes arrive unfragmented{own}"
    if largest >= sealed:
        yield Finding("mtu", Verdict.OK, found)
        return
    between = min((size for size in PACKET_BYTES if size > largest), default=largest)
    cause = f"a link between (tunnel, VPN, VLAN in VLAN) whose MTU is from {largest} to {between - 1}"
    if largest < plain:
        remedy = f"give every link of the path an MTU of 1500: dpd's datagrams have {plain} bytes, encrypted ones {sealed}, and are not fragmented"
        yield Finding("mtu", Verdict.BAD, found, cause, remedy)
    else:
        yield Finding(
            "mtu", Verdict.NOTE, found, cause, f"enough, but not with multicast.encryption, which needs {sealed}"
        )


def _ttl(seen: Observation) -> Iterator[Finding]:
    arrived = [ttl for ttl in seen.tally.ttls if ttl]
    if not arrived:
        return
    lowest = min(arrived)
    hops = seen.tally.sent_ttl - lowest
    found = f"{lowest} on arrival of {seen.tally.sent_ttl} sent: " + (
        f"{hops} routers between" if hops else "no router between"
    )
    yield Finding("ttl", Verdict.OK, found)


def _jitter(seen: Observation) -> Iterator[Finding]:
    if seen.was_measured(Stream.PACED):
        jitter_ms = seen.tally.streams[Stream.PACED].jitter_s * 1e3
        yield Finding("jitter", Verdict.OK if jitter_ms < 20 else Verdict.NOTE, f"{jitter_ms:.2f} ms", "" if jitter_ms < 20 else "a full link, a busy machine, or Wi-Fi that saves power", "" if jitter_ms < 20 else "harmless for dpd but a sign of congestion")  # fmt: skip


def _feedback(seen: Observation) -> Iterator[Finding]:
    """Requests for repair go by unicast UDP to the distribution point; nothing has to come back that way."""
    sent, heard = seen.echoes
    if not sent:
        return
    if seen.round_trips_s:
        times = sorted(seen.round_trips_s)
        found = f"round trip {times[len(times) // 2] * 1e3:.2f} ms (best {times[0] * 1e3:.2f}, worst {times[-1] * 1e3:.2f}), {len(times)} of {sent}"
        yield Finding("unicast", Verdict.OK, found)
    elif heard:
        yield Finding("unicast", Verdict.NOTE, f"{heard} of {sent} datagrams reach the distribution point, no answer comes back", "a firewall drops UDP from it, likely on this machine", "harmless for dpd, which answers to the group")  # fmt: skip
    else:
        cause = "a firewall drops UDP to the distribution point, on this machine, between, or there"
        remedy = (
            f"let UDP to {seen.sender or 'the distribution point'} pass, high ports: receivers ask for repair by it"
        )
        yield Finding("unicast", Verdict.BAD, f"none of {sent} datagrams reaches the distribution point", cause, remedy)


def _buffer(seen: Observation) -> Iterator[Finding]:
    dropped = sum(seen.drops.values())
    found = f"{dropped} datagrams dropped by this machine's socket, its buffer is {seen.buffer_bytes >> 10} KiB"
    remedy = "`sysctl -w net.core.rmem_max=16777216`, or run as root"
    if dropped:
        cause = "the receive buffer is too small for the bursts, or the machine too busy to empty it"
        yield Finding("socket", Verdict.NOTE, found, cause, remedy)
    elif seen.buffer_bytes < WANTED_BUFFER_BYTES:
        yield Finding(
            "socket", Verdict.NOTE, found, "net.core.rmem_max is small; it limits the speed of `dpd receive`", remedy
        )
    else:
        yield Finding("socket", Verdict.OK, found)


def _link(seen: Observation) -> Iterator[Finding]:
    if seen.is_wireless:
        cause = "Wi-Fi sends multicast at its lowest rate and does not repeat what was lost"
        yield Finding(
            "link",
            Verdict.NOTE,
            f"{seen.interface} is wireless",
            cause,
            "use a cable, or let the machine go on by HTTP",
        )
    else:
        yield Finding("link", Verdict.OK, f"{seen.interface} ({seen.address}), MTU {seen.mtu}")
