# SPDX-License-Identifier: Apache-2.0
"""`dpd mc-test` on LANs with one fault each: a real bridge that snoops, firewalls, lossy and policed ports, small MTUs,
routers. What it says has to be the fault that is there, and no other."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench.netns import BRIDGE, DEVICE, Host, Lan, missing
from tests.interop.daemon import DPD, Daemon

from dpd.protocol.igmp.message import Query, decode_packet
from dpd.protocol.igmp.querier import Intervals
from dpd.service.diagnosis.querier import QuerierService
from dpd.settings import MulticastSettings
from dpd.target.network_test.diagnosis import WANTED_BUFFER_BYTES
from dpd.target.network_test.listener import BUFFER_BYTES

PATIENCE_S = 120.0
SNOOPING_BEGINS_S = 11.0  # a bridge takes no notice of memberships for 10 s after its querier started
SHORT = Intervals(query_s=2.0, response_s=1.0)

SETTINGS = f"""
[pxe]
enabled = false
[tftp]
enabled = false
[multicast]
interface = "{DEVICE}"
ttl = 4
"""


@dataclass(frozen=True)
class Result:
    """What one run said."""

    status: int
    last: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def measured(self) -> dict[str, Any]:
        return dict(self.last["measured"])

    def finding(self, check: str) -> dict[str, str]:
        return next(f for f in self.last["findings"] if f["check"] == check)

    def failed(self) -> set[str]:
        return {f["check"] for f in self.last["findings"] if f["verdict"] == "bad"}


def begin(host: Host, url: str, *options: str, program: tuple[str | Path, ...] = (DPD,)) -> subprocess.Popen[bytes]:
    return host.start(*program, "mc-test", url, "--json", *options, stdout=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> Result:
    text, _ = process.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in text.splitlines() if line.startswith(b"{")]
    assert events, text.decode()
    return Result(process.returncode, events[-1], events)


def run(host: Host, url: str, *options: str, **others: Any) -> Result:
    return end(begin(host, url, *options, **others))


def set_bridge(lan: Lan, **options: int) -> None:
    words = [word for name, value in options.items() for word in (f"mcast_{name}", str(value))]
    lan.switch.run("ip", "link", "set", BRIDGE, "type", "bridge", *words)


@contextmanager
def asking(host: Host) -> Iterator[QuerierService]:
    """Our querier with short intervals at a host, on a loop in a thread of its own."""
    service = QuerierService(MulticastSettings(interface=DEVICE), SHORT)
    loop = asyncio.new_event_loop()

    async def start() -> None:
        with host.inside():
            await service.start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield service
    finally:
        asyncio.run_coroutine_threadsafe(service.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """One LAN, one distribution point, and a host for each fault, all at once."""
    absent = missing("iptables", "nft")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    home = tmp_path_factory.mktemp("mc-test")
    with ExitStack() as stack:
        lan = stack.enter_context(Lan("server", "good", "lossy", "small", "filtered", "firewalled", "policed", "dead"))
        lan.lose("lossy", 0.04)
        drop = f'oifname "{lan["dead"].port}" ether type ip ip daddr 224.0.0.0/4 meta l4proto udp drop'
        chain = "type filter hook forward priority 0; policy accept;"
        lan.switch.run("nft", f"table bridge filters {{\nchain forward {{\n{chain}\n{drop}\n}}\n}}")
        for where, device in ((lan["small"], DEVICE), (lan.switch, lan["small"].port)):
            where.run("ip", "link", "set", device, "mtu", "1400")
        lan["firewalled"].run("iptables", "-A", "INPUT", "-p", "udp", "-d", "224.0.0.0/4", "-j", "DROP")
        lan["filtered"].run("iptables", "-A", "OUTPUT", "-p", "udp", "-j", "DROP")
        lan.limit_receiving("policed", 100, queue_bytes=64_000)
        daemon = stack.enter_context(Daemon(home, SETTINGS, lan["server"]))
        url = f"http://{lan['server'].address}:8080"
        names = ("good", "lossy", "small", "filtered", "firewalled", "policed", "dead")
        begun = {name: begin(lan[name], url, "--minutes", "0.6") for name in names}
        found = {name: end(process) for name, process in begun.items()}
        found["log"] = Result(0, {"lines": daemon.events("network test finished")}, [])
        found["metrics"] = Result(0, {"fit": daemon.metric('dpd_probe_verdicts_total{verdict="fit"}')}, [])
        yield found


def test_a_good_network_is_fit(results: dict[str, Result]) -> None:
    good = results["good"]
    assert (good.status, good.last["fit"], good.failed()) == (0, True, set())
    measured = good.measured
    assert measured["passes"] == {"now": True, "after 30 s": True, "after 36 s": True}
    assert measured["received"]["paced"] == measured["sent"]["paced"] == 2000
    assert measured["received"]["burst"] + measured["socket_drops"] == measured["sent"]["burst"] == 2048
    assert measured["packet_bytes"][-1] == 1500
    assert (measured["reordered"], measured["duplicates"]) == (0, 0)


def test_the_ttl_on_arrival_is_the_one_sent_where_no_router_is(results: dict[str, Result]) -> None:
    assert results["good"].measured["ttl"] == {"sent": 4, "arrived": [4]}
    assert "no router between" in results["good"].finding("ttl")["found"]


def test_unicast_is_measured_beside_it(results: dict[str, Result]) -> None:
    times = results["good"].measured["round_trips_ms"]
    assert len(times) > 100
    assert 0 < times[len(times) // 2] < 50


def test_it_shows_where_it_is(results: dict[str, Result]) -> None:
    phases = {event["phase"] for event in results["good"].events if event["event"] == "progress"}
    assert {"waiting for the group", "sizes, paced, bursts", "does the group survive"} <= phases


def test_loss_is_measured_and_named(results: dict[str, Result]) -> None:
    """4 % of 2000: one run in ten thousand lies beyond ± 1.75 %."""
    lossy = results["lossy"]
    assert lossy.measured["loss"]["paced"] == pytest.approx(0.04, abs=0.0175)
    assert lossy.measured["loss"]["burst"] == pytest.approx(0.04, abs=0.0175)
    assert lossy.finding("loss")["verdict"] == "note"
    assert "cable" in lossy.finding("loss")["cause"]
    assert lossy.finding("burst")["verdict"] == "ok"
    assert lossy.status == 0


def test_a_small_mtu_is_found(results: dict[str, Result]) -> None:
    small = results["small"]
    assert (small.status, small.failed()) == (1, {"mtu"})
    assert small.measured["packet_bytes"] == [128, 576, 1280, 1380]
    assert "MTU is from 1380 to 1419" in small.finding("mtu")["cause"]
    assert "1464" in small.finding("mtu")["remedy"]


def test_requests_that_do_not_reach_the_distribution_point_are_told(results: dict[str, Result]) -> None:
    filtered = results["filtered"]
    assert (filtered.status, filtered.failed()) == (1, {"unicast"})
    assert "firewall" in filtered.finding("unicast")["cause"]


def test_a_firewall_on_the_machine_is_told_from_a_network_that_passes_nothing(results: dict[str, Result]) -> None:
    firewalled = results["firewalled"]
    assert (firewalled.status, firewalled.failed()) == (1, {"passes"})
    assert firewalled.finding("passes")["cause"].startswith("a firewall on this machine")
    assert "iptables -I INPUT" in firewalled.finding("passes")["remedy"]


def test_a_port_that_drops_multicast_is_not_taken_for_a_firewall(results: dict[str, Result]) -> None:
    dead = results["dead"]
    assert (dead.status, dead.failed()) == (1, {"passes"})
    assert dead.finding("passes")["cause"].startswith("a switch between does not pass the group to this port")
    assert dead.finding("unicast")["verdict"] == "ok"


def test_policing_shows_in_the_bursts_alone(results: dict[str, Result]) -> None:
    policed = results["policed"]
    assert policed.measured["loss"]["paced"] < 0.01
    assert policed.measured["loss"]["burst"] > 0.1
    assert policed.finding("burst")["verdict"] == "note"
    assert "storm control" in policed.finding("burst")["cause"]


def test_the_operator_at_the_distribution_point_sees_every_result(results: dict[str, Result]) -> None:
    lines = results["log"].last["lines"]
    assert len(lines) == 7
    assert {(line["verdict"], line["failed"]) for line in lines} == {
        ("fit", "none"),
        ("unfit", "mtu"),
        ("unfit", "unicast"),
        ("unfit", "passes"),
    }
    assert results["metrics"].last["fit"] == 3


@pytest.fixture
def snooping(make_lan: Callable[..., Lan], tmp_path: Path) -> Iterator[tuple[Lan, str]]:
    """A switch that snoops and forgets memberships after 8 s, and asked only once, when it started."""
    lan = make_lan("server", "client")
    set_bridge(lan, querier=0)
    set_bridge(lan, query_interval=8_640_000, startup_query_interval=8_640_000, membership_interval=800)
    set_bridge(lan, querier=1)
    with Daemon(tmp_path, SETTINGS, lan["server"]):
        time.sleep(SNOOPING_BEGINS_S)
        yield lan, f"http://{lan['server'].address}:8080"


def test_snooping_without_a_querier_cuts_the_group_off_and_our_querier_cures_it(snooping: tuple[Lan, str]) -> None:
    lan, url = snooping
    without = run(lan["client"], url)
    assert without.status == 1
    assert without.failed() == {"passes", "querier"}
    assert without.measured["passes"]["now"] is True
    assert 5 < without.measured["cut_after_s"] < 14
    assert without.finding("passes")["cause"].startswith("a switch that snoops")
    assert "multicast.querier = true" in without.finding("passes")["remedy"]
    assert "no query heard" in without.finding("querier")["found"]
    with asking(lan["server"]):
        cured = run(lan["client"], url)
    assert (cured.status, cured.failed()) == (0, set())
    assert cured.measured["passes"] == {"now": True, "after 30 s": True}
    assert cured.measured["queriers"] == {lan["server"].address: 3}


def test_our_querier_is_silent_while_a_lower_address_asks(make_lan: Callable[..., Lan]) -> None:
    """The bridge's own querier, once with a lower and once with a higher address than ours."""
    lan = make_lan("server", "client", network="10.77.0.128/25")
    set_bridge(lan, querier=0)
    set_bridge(lan, query_use_ifaddr=1, query_interval=100, startup_query_interval=100, query_response_interval=50)
    for address, is_ours in (("10.77.0.1/24", 0), ("10.77.0.250/24", 1)):
        lan.switch.run("ip", "address", "flush", "dev", BRIDGE)
        lan.switch.run("ip", "address", "add", address, "dev", BRIDGE)
        set_bridge(lan, querier=1)  # before ours: a bridge that has heard another one waits for 255 s
        assert hear_queries(lan["client"], 5.0) == {address.partition("/")[0]}
        with asking(lan["server"]) as service:
            if not is_ours:
                wait_until(lambda: service.stats.is_querier == 0)
            heard = hear_queries(lan["client"], 5.0)
            assert heard == {lan["server"].address if is_ours else address.partition("/")[0]}
            assert service.stats.is_querier == is_ours
        set_bridge(lan, querier=0)


def hear_queries(host: Host, seconds: float) -> set[str]:
    """The addresses that queries come from, of the last three fifths of the time: elections take their time."""
    heard = set()
    with host.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with sock:
        begin_at = time.monotonic()
        while (passed := time.monotonic() - begin_at) < seconds:
            sock.settimeout(seconds - passed)
            try:
                packet = sock.recv(2048)
            except TimeoutError:
                break
            if packet[9] == 2 and passed > seconds * 0.4:
                decoded = decode_packet(packet)
                if isinstance(decoded.message, Query):
                    heard.add(decoded.source)
    return heard


def test_the_daemon_is_the_querier_where_its_settings_say_so(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    lan = make_lan("server", "client")
    set_bridge(lan, querier=0, snooping=0)
    with lan["client"].inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with sock, Daemon(tmp_path, SETTINGS + "querier = true\n", lan["server"]) as daemon:
        sock.settimeout(10)
        while (packet := sock.recv(2048))[9] != 2 or not isinstance(decode_packet(packet).message, Query):
            pass
        assert decode_packet(packet).source == lan["server"].address
        assert daemon.metric("dpd_querier_is_querier") == 1
        assert daemon.metric("dpd_querier_queries_total") >= 1
        assert daemon.events("IGMP querier asks", interface=DEVICE)


def test_the_querier_needs_one_capability_and_says_how_to_give_it(
    make_lan: Callable[..., Lan], tmp_path: Path, need: Callable[..., None]
) -> None:
    """With those of the unit and its drop-in it asks; with the unit's alone the daemon says what to install."""
    need("setpriv")
    lan = make_lan("server")
    config = tmp_path / "dpd.toml"
    (tmp_path / "state").mkdir()
    tables = f'[daemon]\nstate_dir = "{tmp_path}/state"\nlog_format = "json"\n[control]\nsocket = "{tmp_path}/c.sock"\n'
    config.write_text(f"{tables}{SETTINGS}querier = true\n")

    def serve(capabilities: str) -> subprocess.Popen[bytes]:
        limited = ("setpriv", f"--bounding-set=-all,{capabilities}", "--inh-caps=-all")
        command = (*limited, DPD, "serve", "--config", config)
        return lan["server"].start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    text, _ = serve("+net_bind_service").communicate(timeout=60)
    assert b"needs CAP_NET_RAW; install systemd/dpd-querier.conf" in text
    asks = serve("+net_bind_service,+net_raw")
    assert asks.stdout is not None
    lines: list[bytes] = []
    while not lines or b'"ready"' not in lines[-1]:
        lines.append(asks.stdout.readline())
        assert lines[-1], b"".join(lines)
    asks.terminate()
    rest, _ = asks.communicate(timeout=60)
    assert b"IGMP querier asks" in b"".join(lines) + rest
    assert asks.returncode == 0


def test_another_interface_is_named_where_the_group_arrives(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    lan = make_lan("server", "client")
    lan["client"].run("ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    lan["client"].run("ip", "link", "set", "spare1", "up")
    lan["client"].run("ip", "address", "add", "10.99.0.1/24", "dev", "spare0")
    lan["client"].run("ip", "link", "set", "spare0", "up")
    with Daemon(tmp_path, SETTINGS, lan["server"]):
        result = run(lan["client"], f"http://{lan['server'].address}:8080", "--interface", "spare0")
    assert (result.status, result.failed()) == (1, {"passes"})
    assert result.finding("passes")["cause"] == f"the group arrives at {DEVICE}, not at spare0"


def test_a_router_between_and_ttl_1_are_told(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    """The client is behind a real router that routes unicast alone."""
    near = make_lan("server", "router")
    far = make_lan("client", network="10.78.0.0/16")
    cable = ("link", "add", "eth1", "type", "veth", "peer", "name", "uplink", "netns", far.switch.namespace)
    subprocess.run(["ip", "-n", near["router"].namespace, *cable], check=True)
    far.switch.run("ip", "link", "set", "uplink", "master", BRIDGE, "up")
    near["router"].run("ethtool", "-K", "eth1", "tx", "off")
    near["router"].run("ip", "address", "add", "10.78.255.1/16", "dev", "eth1")
    near["router"].run("ip", "link", "set", "eth1", "up")
    near["router"].run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    near["server"].run("ip", "route", "add", "10.78.0.0/16", "via", near["router"].address)
    far["client"].run("ip", "route", "add", "10.77.0.0/16", "via", "10.78.255.1")
    with Daemon(tmp_path, SETTINGS.replace("ttl = 4", "ttl = 1"), near["server"]):
        result = run(far["client"], f"http://{near['server'].address}:8080")
    assert (result.status, result.failed()) == (1, {"passes"})
    assert "TTL 1 end at the first router" in result.finding("passes")["cause"]
    assert "multicast.ttl" in result.finding("passes")["remedy"]


def test_the_bundle_tests_the_network_for_an_ordinary_user(
    make_lan: Callable[..., Lan], tmp_path: Path, need: Callable[..., None]
) -> None:
    """No raw socket, no large buffer; the standard library alone."""
    need("setpriv")
    lan = make_lan("server", "client")
    bundle = tmp_path / "dpd-receive.pyz"
    subprocess.run([DPD.with_name("python"), "-m", "dpd.target.bundle", bundle], check=True)
    user = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", DPD.with_name("python"), "-I", "-S", bundle)
    with Daemon(tmp_path, SETTINGS, lan["server"]):
        result = run(lan["client"], f"http://{lan['server'].address}:8080", "--minutes", "0.1", program=user)
    assert (result.status, result.failed()) == (0, set())
    assert "not permitted to listen for queries" in result.finding("querier")["found"]
    granted = min(int(Path("/proc/sys/net/core/rmem_max").read_text()), BUFFER_BYTES)
    assert result.measured["buffer_bytes"] == 2 * granted
    if 2 * granted < WANTED_BUFFER_BYTES:
        assert result.finding("socket")["verdict"] == "note"
        assert "rmem_max" in result.finding("socket")["cause"]
    assert result.measured["received"]["burst"] + result.measured["socket_drops"] <= 2048
    lan["client"].run("iptables", "-A", "INPUT", "-p", "udp", "-d", "224.0.0.0/4", "-j", "DROP")
    with Daemon(tmp_path, SETTINGS, lan["server"]):  # by the kernel's counters: it may not look at packets
        result = run(lan["client"], f"http://{lan['server'].address}:8080", program=user)
    assert result.failed() == {"passes"}
    assert result.finding("passes")["cause"].startswith("a firewall on this machine")


def test_a_reverse_path_filter_is_told_from_a_firewall(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    """The client's route to the sender leads elsewhere, though it hears it here: strict filtering drops the group."""
    lan = make_lan("server", "client")
    client = lan["client"]
    lan["server"].run("ip", "address", "add", "10.77.9.9/16", "dev", DEVICE)
    client.run("ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    for name in ("spare0", "spare1"):
        client.run("ip", "link", "set", name, "up")
    client.run("ip", "route", "add", f"{lan['server'].address}/32", "dev", "spare0")
    client.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{DEVICE}/rp_filter")
    with Daemon(tmp_path, SETTINGS, lan["server"]):
        result = run(client, "http://10.77.9.9:8080", "--interface", DEVICE)
    assert (result.status, result.failed()) == (1, {"passes", "unicast"})
    assert "rp_filter" in result.finding("passes")["cause"]
    assert f"net.ipv4.conf.{DEVICE}.rp_filter=2" in result.finding("passes")["remedy"]


@pytest.mark.parametrize("groups", ["232.192.0.0/24", "ff15::6470:0/112"])
def test_source_specific_groups_and_ipv6(make_lan: Callable[..., Lan], tmp_path: Path, groups: str) -> None:
    lan = make_lan("server", "client", ipv6=True)
    for name, number in (("server", 1), ("client", 2)):
        lan[name].run("ip", "-6", "address", "add", f"fd00::{number}/64", "dev", DEVICE, "nodad")
    with Daemon(tmp_path, SETTINGS + f'group_range = "{groups}"\n', lan["server"]):
        result = run(lan["client"], f"http://{lan['server'].address}:8080", "--minutes", "0.1", "--interface", DEVICE)
    assert (result.status, result.failed()) == (0, set()), result.last
    assert result.measured["packet_bytes"][-1] == 1500
    assert result.measured["ttl"]["arrived"] == [4]


def test_a_distribution_point_that_goes_away_is_out_of_reach(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    lan = make_lan("server", "client")
    with Daemon(tmp_path, SETTINGS, lan["server"]) as daemon:
        process = begin(lan["client"], f"http://{lan['server'].address}:8080")
        wait_until(lambda: bool(daemon.events("network test begun")))
        daemon.kill_and_restart()
        result = end(process)
    assert result.status in (1, 4)
    assert result.last["event"] == "failed"
