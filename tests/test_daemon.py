# SPDX-License-Identifier: Apache-2.0
"""`dpd serve` as systemd and the operator meet it: start, ready, reload, drain, and what a failing start says."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.boot.signing import make_pe
from tests.daemon_process import PATIENCE_S, DaemonProcess

from dpd.boot.chain_manifest import format_manifest, make_chain
from dpd.cli.client import Client
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.daemon import Services, Stores, run
from dpd.errors import ServiceError, SettingsError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import BootSettings, ControlSettings, DaemonSettings, MetricsSettings, Settings
from dpd.telemetry.stats import counter


def ports_of(daemon: DaemonProcess) -> dict[str, dict[str, int]]:
    return {service["name"]: service["ports"] for service in Client(daemon.control_socket).get("status")["services"]}


@contextmanager
def download_under_way(daemon: DaemonProcess) -> Iterator[http.client.HTTPResponse]:
    """A download that has begun and is read no further: larger than every buffer between, so it cannot end."""
    image = daemon.state / "large.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    with image.open("rb") as file:
        lines = Client(daemon.control_socket).upload(
            file, "content", size_bytes=64 << 20, sent=lambda _: None, package_id="LARGE", name=image.name
        )
        assert "content" in list(lines)[-1]
    connection = http.client.HTTPConnection("127.0.0.1", ports_of(daemon)["http"]["http"], timeout=20)
    connection.request("GET", "/content/LARGE")
    response = connection.getresponse()
    assert response.status == 200
    try:
        yield response
    finally:
        connection.close()


def wait_refused(port: int) -> None:
    """The HTTP thread closes its port a moment after the drain was told."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionResetError:  # it was closed while we waited to be accepted
            continue
        except ConnectionRefusedError:
            return
    raise AssertionError(f"port {port} still takes connections")


# ---- as a process


def test_ready_is_said_when_every_port_is_bound_and_the_watchdog_beats(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, watchdog_s=0.2).ready() as daemon:
        ports = ports_of(daemon)
        assert set(ports) == {"policy", "multicast", "probe", "http", "tftp", "pxe_watch", "pxe"}
        assert all(port > 0 for each in ports.values() for port in each.values())
        daemon.wait_told("WATCHDOG=1")
        daemon.wait_told("WATCHDOG=1")
        daemon.signal(signal.SIGTERM)
        told = daemon.wait_told("STOPPING=1")
        assert told["EXTEND_TIMEOUT_USEC"] == "40000000"
        assert daemon.wait_ended()[0] == 0
    assert not Path(daemon.control_socket).exists()


def test_metrics_are_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = f"http://127.0.0.1:{port}/metrics"
    with DaemonProcess(tmp_path, metrics_port=port).ready(), urllib.request.urlopen(page, timeout=10) as response:
        text = response.read().decode()
    for name in (
        "dpd_build_info",
        "dpd_tftp_requests_total",
        "dpd_pxe_datagrams_total",
        "dpd_library_contents 0.0",
        "dpd_boot_files_refused 0.0",
    ):
        assert name in text
    assert "dpd_control_loop_lag_seconds" in text
    assert "dpd_http_loop_lag_seconds" in text


def test_a_reload_tells_systemd_and_logs_each_change(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path).ready() as daemon:
        daemon.config.write_text(daemon.config.read_text().replace("ttl = 0", "ttl = 3") + "[http2]\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_told("RELOADING=1")
        daemon.wait_told("READY=1")
        assert daemon.wait_logged("settings kept as they were")["error"].startswith(
            f"{daemon.config}: unknown table [http2]; allowed: "
        )
        daemon.config.write_text(daemon.config.read_text().replace("[http2]\n", ""))
        daemon.signal(signal.SIGHUP)
        assert int(daemon.wait_told("RELOADING=1")["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        daemon.wait_told("READY=1")
        change = daemon.wait_logged("setting changed")
        assert (change["key"], change["old"], change["new"], change["takes_effect"]) == ("multicast.ttl", 0, 3, "now")
        daemon.wait_logged("reloaded")


def test_usr1_logs_a_snapshot(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path).ready() as daemon:
        daemon.signal(signal.SIGUSR1)
        assert daemon.wait_logged("status snapshot")["state"] == "ready"
        assert daemon.wait_logged("status of a service")["service"] == "policy"


def test_a_drain_lets_the_running_transfer_end_and_takes_no_other(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path).ready() as daemon, download_under_way(daemon) as response:
        http_port = ports_of(daemon)["http"]["http"]
        daemon.signal(signal.SIGTERM)
        daemon.wait_told("STOPPING=1")
        assert Client(daemon.control_socket).get("status")["state"] == "draining"
        wait_refused(http_port)
        assert len(response.read()) == 64 << 20
        assert daemon.wait_ended()[0] == 0


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, drain_timeout_s=3600).ready() as daemon, download_under_way(daemon):
        daemon.signal(signal.SIGTERM)
        daemon.wait_told("STOPPING=1")
        daemon.signal(signal.SIGINT)
        assert daemon.wait_logged("ending with work under way")["cause"] == "second signal"
        assert daemon.wait_ended()[0] == 0


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, drain_timeout_s=0.1).ready() as daemon, download_under_way(daemon):
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_logged("ending with work under way")["cause"] == "drain timeout"
        assert daemon.wait_ended()[0] == 0


def test_two_daemons_on_one_library_are_told_apart_by_pid(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path).ready() as first:
        second = DaemonProcess(tmp_path)
        second.config = tmp_path / "second.toml"
        second.config.write_text(first.config.read_text())
        with second:
            code, text = second.wait_ended()
        assert Client(first.control_socket).get("status")["state"] == "ready"
    assert code == 1
    assert text.splitlines()[-1] == (
        f"dpd: library {tmp_path}/library is in use by process {first.process.pid} ({tmp_path}/library/lock): use that daemon through `dpd content`, or stop it first"
    )


def test_a_port_in_use_ends_the_start_with_one_line_and_nothing_left_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with DaemonProcess(tmp_path, pxe_port=port) as daemon:
            code, text = daemon.wait_ended()
    assert code == 1
    assert text.splitlines()[-1] == (
        f"dpd: proxyDHCP (127.0.0.1 UDP {port}): port {port} is in use; `ss -Hulpn 'sport = :{port}'` (as root) names the process that holds it: stop that one, or choose another port in the settings"
    )
    assert "Traceback" not in text
    Library(tmp_path / "library", slab_bytes=SLAB_BYTES).close()
    assert not Path(daemon.control_socket).exists()


# ---- in this process, with services made for the purpose


@dataclass(slots=True)
class DoorStats:
    """What a door counted."""

    opened: int = counter("Times it was opened")


class Door:
    """A service without a network: it writes down what happens to it."""

    def __init__(self, name: str, diary: list[str], *, fails_at: str = "") -> None:
        self.name = name
        self.stats = DoorStats()
        self.ports = {"door": 1}
        self._diary = diary
        self._fails_at = fails_at

    async def start(self) -> None:
        self._note("start")

    async def drain(self) -> None:
        self._note("drain")

    async def stop(self) -> None:
        self._diary.append(f"stop {self.name}")

    def apply(self, settings: Settings) -> None:
        self._note("apply")

    def _note(self, what: str) -> None:
        self._diary.append(f"{what} {self.name}")
        if self._fails_at == what:
            raise ServiceError(f"{self.name} is stuck")


def local(state: Path, **daemon: Any) -> Settings:
    return Settings(
        daemon=DaemonSettings(state_dir=str(state), **daemon),
        control=ControlSettings(socket=str(state / "control.sock")),
        metrics=MetricsSettings(listen=""),
    )


async def test_a_start_that_fails_closes_what_was_opened_in_reverse_order(tmp_path: Path) -> None:
    diary: list[str] = []

    def build(settings: Settings, stores: Stores) -> Services:
        return Services([Door("one", diary), Door("two", diary, fails_at="start"), Door("three", diary)])

    with pytest.raises(ServiceError, match="two is stuck"):
        await run(local(tmp_path), build=build)
    assert diary == ["start one", "start two", "stop two", "stop one"]
    Library(tmp_path / "library", slab_bytes=SLAB_BYTES).close()


async def test_a_service_that_cannot_drain_does_not_cut_the_others_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diary: list[str] = []

    def build(settings: Settings, stores: Stores) -> Services:
        return Services([Door("one", diary, fails_at="drain"), Door("two", diary)])

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run(local(tmp_path), build=build))
        tasks.create_task(_terminate_when_ready(tmp_path))
    assert running.result() == 0
    assert diary == ["start one", "start two", "drain one", "drain two", "stop two", "stop one"]
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["drain failed"]


async def _terminate_when_ready(state: Path) -> None:
    """The socket is the last thing to be opened, and the signals were there before it."""
    while not (state / "control.sock").exists():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


async def test_a_missing_state_directory_names_the_next_step(tmp_path: Path) -> None:
    state = tmp_path / "none"
    with pytest.raises(SettingsError) as caught:
        await run(local(state), build=lambda settings, stores: Services([]))
    assert str(caught.value) == (
        f'daemon.state_dir = "{state}": no such directory; make it with `install -d -m 750 {state}`, as the user of dpd'
    )


async def test_a_chain_manifest_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    manifest = tmp_path / "chain.toml"
    settings = replace(local(tmp_path), boot=BootSettings(str(tmp_path / "boot"), chain_manifest=str(manifest)))
    with pytest.raises(SettingsError) as caught:
        await run(settings, build=lambda settings, stores: Services([]))
    assert str(caught.value) == f"{manifest}: chain manifest: No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_a_state_directory_of_someone_else_is_told() -> None:
    with tempfile.TemporaryDirectory() as state:
        os.chmod(state, 0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(SettingsError) as caught:
                await run(local(Path(state)), build=lambda settings, stores: Services([]))
        finally:
            os.seteuid(0)
    assert str(caught.value) == (
        f'daemon.state_dir = "{state}": not writable by user 65534; `chown` it to the user of dpd'
    )


def test_services_that_are_off_are_not_built(tmp_path: Path) -> None:
    off = DaemonProcess(tmp_path)
    text = off.config.read_text()
    for table in ("pxe", "tftp", "http", "multicast"):
        text = text.replace(f"[{table}]\n", f"[{table}]\nenabled = false\n")
    off.config.write_text(text)
    with off.ready() as daemon:
        assert ports_of(daemon) == {"policy": {}}  # which listens to nothing


def test_a_broken_secure_boot_chain_is_not_served_until_a_reload_finds_it_whole(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    loader, manifest = tmp_path / "boot/shimx64.efi", tmp_path / "chain.toml"
    loader.parent.mkdir()
    loader.write_bytes(make_pe())
    manifest.write_text(format_manifest(make_chain(BootFiles(loader.parent))))
    loader.write_bytes(make_pe(filler=b"another"))
    daemon.config.write_text(daemon.config.read_text().replace("[boot]\n", f'[boot]\nchain_manifest = "{manifest}"\n'))
    with daemon.ready():
        url = f"http://127.0.0.1:{ports_of(daemon)['http']['http']}/boot/shimx64.efi"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=20)
        assert json.load(refused.value)["error"]["code"] == "chain_broken"
        assert daemon.wait_logged("secure boot chain broken")["fault"] == "wrong_hash"
        loader.write_bytes(make_pe())
        daemon.signal(signal.SIGHUP)
        daemon.wait_logged("reloaded")
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.read() == make_pe()
        manifest.unlink()
        daemon.signal(signal.SIGHUP)
        assert (
            "No such file" in daemon.wait_logged("secure boot chain not checked, refusals kept as they were")["error"]
        )
