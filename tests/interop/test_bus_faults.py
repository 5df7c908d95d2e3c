# SPDX-License-Identifier: Apache-2.0
"""What a distribution point does when the bus does not: real nats-servers, real `dpd serve` processes, and all that breaks."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.bus.site_side import CALLER, SITE, SiteSide, until
from tests.bus.test_trust import Files
from tests.daemon_process import DaemonProcess
from tests.line import Line
from tests.nats_server import HUB_DOMAIN, NatsServer, free_port, needs_nats

from dpd.bus.documents import pack_policy
from dpd.bus.messages import encode
from dpd.bus.subjects import POLICY_HEAD, chunk_key
from dpd.cli.client import Client
from dpd.errors import DpdError
from dpd.protocol.pxe.client import PxeClient
from dpd.site.model import SiteModel, encode_model
from dpd.site.records import Computer, Deployment, Purpose

pytestmark = needs_nats

QUICK_PINGS = (
    'ping_interval: "1s"\nping_max: 2'  # a server notices a dead line after three seconds instead of six minutes
)
IMAGE_DEPLOYMENT = 7


def mac(number: int) -> str:
    return f"52:54:00:00:01:{number:02x}"


def model(*numbers: int) -> SiteModel:
    """These computers, each to be given one required deployment."""
    return SiteModel(
        computers=tuple(Computer(f"PC-{number}", (mac(number),)) for number in numbers),
        deployments=(Deployment(IMAGE_DEPLOYMENT, "all", "", Purpose.REQUIRED),),
    )


class Point:
    """A `dpd serve` of its own, on loopback."""

    def __init__(self, state: Path, url: str, *, log_level: str = "info", **bus: str) -> None:
        """With much to say, `log_level` keeps its log within what a pipe holds that nobody reads."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.metrics_port = free.getsockname()[1]
        self.daemon = DaemonProcess(state, metrics_port=self.metrics_port)
        (state / "boot").mkdir(exist_ok=True)
        (state / "boot" / "ipxe.efi").write_bytes(b"MZ a loader")
        lines = [f'{key} = "{value}"' for key, value in {"url": url, "site": SITE, "point": "p1", **bus}.items()]
        text = self.daemon.config.read_text().replace("[daemon]", f'[daemon]\nlog_level = "{log_level}"')
        self.daemon.config.write_text("\n".join([text, "[bus]", *lines, ""]))
        self._client = Client(self.daemon.control_socket)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.daemon.ready():
            yield

    async def get(self, *parts: str, **query: Any) -> Any:
        return await asyncio.to_thread(lambda: self._client.get(*parts, **query))

    async def bus(self) -> Any:
        return await self.get("bus")

    async def say(self, reason: str) -> None:
        """Something that becomes a status message."""
        await asyncio.to_thread(lambda: self._client.patch("maintenance", body={"reason": reason}))

    async def age_s(self) -> float:
        """The staleness of the policy as Prometheus reads it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        (line,) = [line for line in page.splitlines() if line.startswith("dpd_bus_policy_age_seconds ")]
        return float(line.split()[1])

    async def decision(self, number: int) -> dict[str, Any]:
        """What the machine of that number is told when it asks for a network boot now."""
        services = {each["name"]: each["ports"] for each in (await self.get("status"))["services"]}
        client = PxeClient(mac=mac(number), relay="127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.sendto(client.discover(secrets.randbits(32)), ("127.0.0.1", services["pxe"]["port"]))
        decision: dict[str, Any] = await until(lambda: self._last_decision(number), f"a decision about {number}")
        return decision

    async def _last_decision(self, number: int) -> dict[str, Any] | None:
        try:
            events = (await self.get("pxe", "machines", mac(number)))["events"]
        except DpdError:
            return None
        found = [each["fields"] for each in events if each["event"] == "decision"]
        return found[-1] if found else None

    async def own_messages(self) -> list[int]:
        """The sequences of all that the point has noted."""
        found: list[int] = []
        position: Any = 0
        while True:
            page = await self.get("messages", after=position, limit=500)
            if not page["messages"]:
                return found
            found += [each["sequence"] for each in page["messages"]]
            position = page["position"]

    async def all_is_there_once(self, site: SiteSide) -> None:
        """Each message of the point is in the hub's stream, and none twice."""
        await until(self._nothing_waits, "all shipped")
        own = await self.own_messages()
        came = [(each.epoch, each.sequence) for each in await site.statuses()]
        assert len(came) == len(set(came)), "a message came twice"
        epoch = (await self.bus())["status_epoch"]
        assert {(epoch, sequence) for sequence in own} <= set(came), "a message was lost"
        assert own == list(range(1, own[-1] + 1))

    async def _nothing_waits(self) -> bool:
        bus = await self.bus()
        return bool(bus["state"] == "connected" and bus["status_backlog"] == 0)

    async def holds(self, version: int) -> bool:
        return bool((await self.bus())["policy_version"] == version)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def site(hub: NatsServer) -> AsyncIterator[SiteSide]:
    async with SiteSide(hub.url) as site:
        yield site


async def test_a_hub_that_is_killed_and_comes_back_costs_no_boot_and_no_message(site: SiteSide, hub: NatsServer, tmp_path: Path) -> None:  # fmt: skip
    point = Point(tmp_path / "p1", hub.url)
    with point.running():
        await site.publish(model(1, 2), 1)
        await until(lambda: point.holds(1), "the policy")
        assert (await point.decision(1))["cause"] == "required"
        await until(lambda: site.runs(), "the run at the hub")

        hub.kill()
        await until(lambda: _is(point, "away"), "the loss")
        told = await point.decision(2)
        assert (told["computer"], told["deployment"]) == ("PC-2", str(IMAGE_DEPLOYMENT))
        assert (await point.decision(3))["computer"] == ""  # not one of the site's
        for number in range(30):
            await point.say(f"while away {number}")
        before = await point.age_s()
        await until(lambda: _is_older(point, before), "an age that grows")

        hub.start()
        await until(lambda: _has_run(site, "pc-2"), "the run of meanwhile at the hub")
        await site.notice()
        await until(lambda: _is_younger(point, before), "the age to begin anew")
        await site.publish(model(1, 2, 3), 2)
        await until(lambda: point.holds(2), "the next policy")
        assert (await point.decision(3))["computer"] == "PC-3"
        await point.all_is_there_once(site)


async def test_a_branch_whose_line_is_cut_boots_and_keeps_its_messages_at_the_leaf(tmp_path: Path) -> None:
    """The line swallows everything and says nothing, as a wide-area line does."""
    with ExitStack() as stack:
        folder = tmp_path / "nats"
        leaf_port = free_port()
        line = stack.enter_context(Line(("127.0.0.1", leaf_port)))
        hub = stack.enter_context(NatsServer(folder, domain=HUB_DOMAIN, leaf_port=leaf_port, leaf_by=line.port))
        leaf_url = f"nats-leaf://127.0.0.1:{line.port}"
        leaf = stack.enter_context(
            NatsServer(folder, name="branch", domain="branch", leaf_of=leaf_url, extra=QUICK_PINGS)
        )
        async with SiteSide(hub.url, leaf_domains=("branch",)) as site:
            await site.publish(model(1, 2), 1)
            point = Point(tmp_path / "p1", leaf.url, domain="branch")
            with point.running():
                await until(lambda: point.holds(1), "the policy through the leaf")
                await until(lambda: _count(site), "first messages at the hub")

                line.cut()
                await site.publish(model(1, 2, 3), 2)
                assert (await point.decision(2))["computer"] == "PC-2"
                assert (await point.decision(3))["computer"] == ""
                for number in range(30):
                    await point.say(f"while cut {number}")
                await until(point._nothing_waits, "all stored at the leaf, without the hub")
                own = await point.own_messages()
                assert await _count(site) < len(own)
                assert await point.holds(1)
                before = await point.age_s()
                await until(lambda: _is_older(point, before), "an age that grows though the leaf is there")

                line.mend()
                await until(lambda: point.holds(2), "the policy of meanwhile")
                assert (await point.decision(3))["computer"] == "PC-3"
                await until(lambda: _has_run(site, "pc-2"), "the run of meanwhile at the hub")
                await until(lambda: _count_is(site, point), "all messages at the hub")
                await point.all_is_there_once(site)


async def test_a_server_upgraded_under_load_does_each_ask_once_and_loses_nothing(site: SiteSide, hub: NatsServer, tmp_path: Path) -> None:  # fmt: skip
    """Ended as for an upgrade and killed, in turn, while asks come and messages go."""
    point = Point(tmp_path / "p1", hub.url, log_level="error")
    with point.running():
        await site.publish(model(1), 1)
        await until(lambda: point.holds(1), "the policy")
        is_over = asyncio.Event()
        asked: list[str] = []

        async def ask_on() -> None:
            while not is_over.is_set():
                asked.append(f"ask {len(asked)}")
                await _ask_until_answered(site, {"reason": asked[-1]})

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask_on())
            for end in (hub.stop, hub.kill, hub.stop, hub.kill):
                count = len(asked)
                await until(partial(_has_more, asked, count + 20), "asks that are answered")
                await asyncio.to_thread(end)
                await asyncio.to_thread(hub.start)
            is_over.set()
        await point.all_is_there_once(site)
        reports = [each for each in await site.statuses() if each.event == "maintenance.on"]
        assert [each.fields["reason"] for each in reports] == asked


async def test_a_point_that_is_killed_while_it_ships_sends_the_rest_and_nothing_twice(hub: NatsServer, tmp_path: Path) -> None:  # fmt: skip
    point = Point(tmp_path / "p1", hub.url, log_level="error")
    hub.kill()
    with point.running():
        for number in range(400):
            await point.say(f"backlog {number}")
        waiting = (await point.bus())["status_backlog"]
        assert waiting >= 400
    for _ in range(2):
        with point.running():
            hub.start()
            async with SiteSide(hub.url) as site:
                before = await _count(site)
                await until(partial(_more_than, site, before), "some of it at the hub")
                point.daemon.signal(signal.SIGKILL)
                point.daemon.wait_ended()
            hub.kill()
    hub.start()
    async with SiteSide(hub.url) as site:
        with point.running():
            await point.all_is_there_once(site)
        reasons = [each.fields["reason"] for each in await site.statuses() if each.event == "maintenance.on"]
        assert reasons == [f"backlog {number}" for number in range(400)]


async def test_a_server_that_answers_nothing_keeps_a_point_neither_from_starting_nor_from_stopping(site: SiteSide, hub: NatsServer, tmp_path: Path) -> None:  # fmt: skip
    point = Point(tmp_path / "p1", hub.url)
    hub.pause()
    with point.running():
        assert (await point.decision(1))["computer"] == ""
        hub.go_on()
        await until(lambda: _is(point, "connected"), "the connection")
        await until(point._nothing_waits, "all shipped")
        hub.pause()
        await point.say("to a server that answers nothing")
        point.daemon.signal(signal.SIGTERM)
        code, _ = await asyncio.to_thread(point.daemon.wait_ended)
        assert code == 0
    hub.go_on()
    with point.running():
        await point.all_is_there_once(site)


@pytest.mark.parametrize("wrong", ["damaged", "older"])
async def test_a_policy_that_is_damaged_or_older_is_refused_and_the_last_one_goes_on(site: SiteSide, hub: NatsServer, tmp_path: Path, wrong: str) -> None:  # fmt: skip
    point = Point(tmp_path / "p1", hub.url)
    with point.running():
        await site.publish(model(1), 5)
        await until(lambda: point.holds(5), "the policy")
        head, chunks = pack_policy(SITE, 6 if wrong == "damaged" else 4, encode_model(SiteModel()), at=1.0, slot=0)
        await site.put(
            site.subjects.policy_bucket, chunk_key(0, 0), chunks[0][:-1] if wrong == "damaged" else chunks[0]
        )
        await site.put(site.subjects.policy_bucket, POLICY_HEAD, encode(head))
        await until(lambda: _refusal(point, wrong), "the refusal")
        assert (await point.decision(1))["computer"] == "PC-1"
        line = point.daemon.wait_logged("policy of the site refused; what is held goes on")
        assert (line["level"], line["held"]) == ("error", 5)
        await site.publish(model(1, 2), 7)
        await until(lambda: point.holds(7), "the next sound policy")
        events = [each.event for each in await site.statuses()]
        assert events.count("bus.policy_refused") == 1


async def test_wrong_credentials_are_told_in_one_clear_line_and_cost_no_boot(tmp_path: Path) -> None:
    right, token = secrets.token_hex(16), tmp_path / "token"
    token.write_text(secrets.token_hex(16))
    token.chmod(0o600)
    with NatsServer(tmp_path / "nats", extra=f'authorization {{ token: "{right}" }}') as hub:
        point = Point(tmp_path / "p1", hub.url, token_file=str(token))
        with point.running():
            line = point.daemon.wait_logged("no connection to the bus; dpd serves on and keeps trying")
            assert "the server refuses dpd's credentials; look at bus.credentials_file, bus.token_file" in line["cause"]
            assert (await point.decision(1))["computer"] == ""
            token.write_text(right)
            await until(lambda: _is(point, "connected"), "the connection, without a restart")
            assert right not in json.dumps(point.daemon.log) + json.dumps(await point.bus())


async def test_a_server_with_client_certificates_takes_who_has_one_and_tells_who_has_none(tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    with NatsServer(tmp_path / "nats", extra=files.tls) as hub:
        url = f"tls://127.0.0.1:{hub.port}"
        known = {"ca_file": str(files.ca), "certificate": str(files.client), "private_key": str(files.client_key)}
        point = Point(tmp_path / "p1", url, **known)
        with point.running():
            await until(lambda: _is(point, "connected"), "the connection")
        other = Point(tmp_path / "p2", url, ca_file=str(files.ca))
        with other.running():
            line = other.daemon.wait_logged("no connection to the bus; dpd serves on and keeps trying")
            assert "look at bus.certificate and bus.private_key" in line["cause"]
            assert (await other.decision(1))["computer"] == ""


class TestWithoutNatsPy:
    """As where the extra was not installed."""

    @pytest.fixture(autouse=True)
    def hidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text('import sys\nsys.modules["nats"] = None\n')
        monkeypatch.setenv("PYTHONPATH", str(folder))

    def test_a_bus_in_the_settings_is_refused_and_the_extra_is_named(self, tmp_path: Path) -> None:
        point = Point(tmp_path / "p1", "nats://127.0.0.1:4222")
        with point.daemon:
            code, told = point.daemon.wait_ended()
        assert code == 2
        assert 'dpd: bus.url = "nats://127.0.0.1:4222": needs nats-py, which is not installed; `pip install "dpd[bus]"`' in told  # fmt: skip

    def test_check_config_names_it_too(self, tmp_path: Path) -> None:
        point = Point(tmp_path / "p1", "nats://127.0.0.1:4222")
        command = [sys.executable, "-m", "dpd", "check-config", str(point.daemon.config)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.returncode, 'pip install "dpd[bus]"' in run.stderr) == (2, True)

    def test_a_point_without_a_bus_needs_none(self, tmp_path: Path) -> None:
        with DaemonProcess(tmp_path / "p1").ready() as daemon:
            assert Client(daemon.control_socket).get("bus")["state"] == "off"


# ---- what is waited for


async def _is(point: Point, state: str) -> bool:
    return bool((await point.bus())["state"] == state)


async def _is_older(point: Point, than: float) -> bool:
    return await point.age_s() > than + 1


async def _is_younger(point: Point, than: float) -> bool:
    return await point.age_s() < than


async def _has_run(site: SiteSide, machine: str) -> bool:
    return (IMAGE_DEPLOYMENT, machine) in await site.runs()


async def _refusal(point: Point, word: str) -> bool:
    return word in (await point.bus())["policy_refusal"]


async def _count(site: SiteSide) -> int:
    link = await site.linked()
    return int((await link.jetstream.stream_info(site.subjects.status_stream)).state.messages)


def _has_more(asked: list[str], count: int) -> bool:
    return len(asked) > count


async def _more_than(site: SiteSide, count: int) -> bool:
    return await _count(site) > count


async def _count_is(site: SiteSide, point: Point) -> bool:
    return await _count(site) == len(await point.own_messages())


async def _ask_until_answered(site: SiteSide, body: dict[str, str]) -> None:
    """With one id, however often the server goes away meanwhile."""
    id = secrets.token_hex(8)

    async def ask() -> bool:
        try:
            status, text = await site.ask("p1", "PATCH", "/v1/maintenance", json.dumps(body), id=id, caller=CALLER)
        except Exception:  # whatever a connection that breaks makes of it
            return False
        assert status == 200, text
        return True

    await until(ask, f"an answer to {body}")
