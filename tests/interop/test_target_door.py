# SPDX-License-Identifier: Apache-2.0
"""From a network boot to a task sequence that is done: a running daemon, DHCP as iPXE speaks it, the script by HTTP, and the target's
own client for all that it asks after that; through a kill of dpd."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.boot.conftest import bz_image
from tests.daemon_process import DaemonProcess
from tests.service.certificates import write_certificate

from dpd.cli.client import Client
from dpd.errors import DpdError
from dpd.protocol.pxe.client import BootAnswer, PxeClient
from dpd.protocol.pxe.rules import ClientClass
from dpd.sequence.exchange import Hello, Report, Resume, StepState
from dpd.sequence.signed import read_signed
from dpd.sequence.variables import Variable
from dpd.target.distribution_point.connection import Refused
from dpd.target.distribution_point.desk import Desk

SERVER, MAC = "127.0.0.1", "52:54:00:00:00:01"
PATIENCE_S = 60.0
SEQUENCE = """
name = "check"
[[step]]
name = "Check"
do = "check_readiness"
minimum_cpus = 1
"""


@dataclass
class Point:
    """A dpd whose HTTP has TLS too, and the machine that boots from it."""

    daemon: DaemonProcess
    http_port: int
    ca_file: str

    @property
    def api(self) -> Client:
        return Client(self.daemon.control_socket)

    def dpd(self, *arguments: object) -> str:
        """A command of its own process; what it says."""
        command = [sys.executable, "-m", "dpd", *map(str, arguments), "--socket", self.daemon.control_socket]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    def boot(self, mac: str = MAC) -> dict[str, str]:
        """iPXE asks by DHCP and fetches its script: the words for a target on the kernel's command line; none where it is told to go
        on with its next boot device."""
        ports = {service["name"]: service["ports"] for service in self.api.get("status")["services"]}["pxe"]
        client = PxeClient(mac, 7, ClientClass.IPXE, relay=SERVER)
        if not self._ask(client, ports["port"], client.discover).loader:
            return {}
        self._ask(client, ports["boot_port"], lambda xid: client.boot_request(xid, SERVER))
        return self.words_of("boot.ipxe")

    def boot_by_http(self) -> str:
        """Firmware asks by DHCP for an HTTP boot: the URL that it is told."""
        port = next(each["ports"]["port"] for each in self.api.get("status")["services"] if each["name"] == "pxe")
        client = PxeClient(MAC, 16, ClientClass.HTTP, relay=SERVER)
        return self._ask(client, port, client.discover).loader

    def words_of(self, script: str) -> dict[str, str]:
        """For a target, in what a loader is told to do."""
        return dict(re.findall(r"(dpd\.server|dpd\.proof)=([^\s']+)", self._fetch(script)))

    def is_refused(self, script: str, address: str) -> bool:
        """Whether another machine gets none."""
        command = ["curl", "-sS", "-m", "60", "-w", "%{http_code}", "--interface", address]
        url = f"http://{SERVER}:{self.http_port}/boot/{script}"
        told = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
        return told.endswith("404") and "dpd.proof" not in told

    def _ask(self, client: PxeClient, port: int, build: Callable[[int], bytes]) -> BootAnswer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((SERVER, 0))
            sock.settimeout(PATIENCE_S)
            xid = sock.getsockname()[1]
            sock.sendto(build(xid), (SERVER, port))
            while True:
                if answer := client.read(sock.recv(2048), xid):
                    return answer

    def _fetch(self, name: str) -> str:
        url = f"http://{SERVER}:{self.http_port}/boot/{name}"
        return subprocess.run(["curl", "-sSf", "-m", "60", url], capture_output=True, text=True, check=True).stdout

    def hello(self, desk: Desk, proof: str, boot: str = "0" * 16, mac: str = MAC) -> Any:
        return desk.hello(Hello(proof, (mac,), "", "x64", "uefi", "test", boot))


def free_port() -> int:
    with socket.create_server((SERVER, 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def point(tmp_path: Path, need: Callable[..., None]) -> Point:
    need("curl")
    pem, key = write_certificate(tmp_path)
    http_port, tls_port = free_port(), free_port()
    daemon = DaemonProcess(tmp_path / "daemon")
    http = f'[http]\nlisten = "{SERVER}"\nport = {http_port}\ntls_port = {tls_port}\ncertificate = "{pem}"\nprivate_key = "{key}"\n'
    text = daemon.config.read_text().replace(f'[http]\nlisten = "{SERVER}"\nport = 0\n', http)
    daemon.config.write_text(text)
    (daemon.state / "boot").mkdir()
    (tmp_path / "vmlinuz").write_bytes(bz_image())
    (tmp_path / "initrd.img").write_bytes(b"initrd")
    (tmp_path / "check.toml").write_text(SEQUENCE)
    return Point(daemon, http_port, str(pem))


def deployed(point: Point, folder: Path) -> None:
    """A required deployment of the sequence to the machine, with a secret for it."""
    files = "--kernel", folder / "vmlinuz", "--initrd", folder / "initrd.img"
    point.dpd("boot-image", "add", *files, "--id", "LINUX1")
    api = point.api
    api.post("computers", body={"name": "PC-1", "macs": [MAC]})
    api.post("variables", body={"target": "PC-1", "name": "Pass", "value": "hunter2", "secret": True})
    api.post("variables", body={"target": "all", "name": "Zone", "value": "UTC"})
    deployment = {"target": "PC-1", "boot_image": "LINUX1", "purpose": "required", "sequence": "check"}
    with pytest.raises(DpdError, match="no task sequence check; `dpd sequence list` shows"):
        api.post("deployments", body=deployment)
    assert "check@1: published" in point.dpd("sequence", "publish", folder / "check.toml")
    api.post("deployments", body=deployment)


def test_a_machine_boots_takes_its_sequence_and_is_deployed_through_a_kill_of_dpd(point: Point, tmp_path: Path) -> None:
    with point.daemon.ready():
        deployed(point, tmp_path)
        assert point.boot_by_http() == f"http://{SERVER}:{point.http_port}/boot/ipxe.efi"  # which asks again
        told = point.boot()
        assert told["dpd.server"].startswith(f"https://{SERVER}:")
        assert point.words_of("grub/grub.cfg") == told
        assert point.is_refused("grub/grub.cfg", "127.0.0.9")
        with closing(Desk(told["dpd.server"], point.ca_file)) as desk:
            with pytest.raises(Refused, match="not that of its last boot") as refused:
                point.hello(desk, "00" * 16)
            assert refused.value.code == "proof_wrong"
            welcome = point.hello(desk, told["dpd.proof"])
            assert (welcome.computer, [each.sequence for each in welcome.offers]) == ("PC-1", ["check"])
            taken = desk.take(welcome.offers[0].deployment)
            assert taken.variables == (Variable("Pass", "hunter2", True), Variable("Zone", "UTC"))
            sequence, _ = read_signed(taken.document, None)
            assert [step.name for step in sequence.steps()] == ["Check"]
            reports = [
                Report(1, time.time(), "1", StepState.STARTED),
                Report(2, time.time(), "1", StepState.RESTARTING),
            ]
            assert desk.report(taken.execution, tuple(reports)).next == 3
            assert point.boot() == {}  # it is to start what it has on its disk
            with pytest.raises(Refused):
                point.hello(desk, told["dpd.proof"], boot="1" * 16)
        point.daemon.signal(signal.SIGKILL)
        point.daemon.wait_ended()
    with (
        point.daemon.ready(),
        closing(Desk(told["dpd.server"], point.ca_file)) as desk,
    ):
        assert point.boot() == {}
        desk.continue_with(Resume(taken.execution, taken.resume))
        done = [
            *reports,
            Report(3, time.time(), "1", StepState.DONE),
            Report(4, time.time(), "", StepState.SEQUENCE_DONE),
        ]
        assert desk.report(taken.execution, tuple(done)).next == 5
        (run,) = point.api.get("deployments", "1")["runs"]
        assert run["finished_at"] > 0
        assert point.boot() == {}
    assert "hunter2" not in json.dumps(point.daemon.log)
    assert told["dpd.proof"] not in json.dumps(point.daemon.log)


def test_what_is_secret_is_not_given_in_the_clear(point: Point, tmp_path: Path) -> None:
    with point.daemon.ready():
        deployed(point, tmp_path)
        told = point.boot()
        with closing(Desk(f"http://{SERVER}:{point.http_port}")) as desk:
            welcome = point.hello(desk, told["dpd.proof"])
            with pytest.raises(Refused, match="secret variables") as refused:
                desk.take(welcome.offers[0].deployment)
            assert refused.value.code == "tls_required"
        point.api.delete("variables", "PC-1", "Pass")
        with closing(Desk(f"http://{SERVER}:{point.http_port}")) as desk:
            assert point.hello(desk, told["dpd.proof"]).session == welcome.session
            assert desk.take(welcome.offers[0].deployment).variables == (Variable("Zone", "UTC"),)
