# SPDX-License-Identifier: Apache-2.0
"""A site server and a point, full of secrets, over a bus that asks for a token: none of them comes out on the way."""

from __future__ import annotations

import http.client
import json
import signal
import time
from pathlib import Path
from typing import Any

from tests.control.document_examples import Drained
from tests.daemon_process import DaemonProcess
from tests.nats_server import PATIENCE_S, NatsServer, free_port, needs_nats

from dpd.control.access.callers import Role
from dpd.control.access.roles_file import add_token

pytestmark = needs_nats
BUS_TOKEN = "SECRETbustoken0123456789"
URL = "http://127.0.0.1:1/x.img?token=SECRETurltoken"
BUS = '[bus]\nurl = "{url}"\nsite = "lab"\npoint = "p1"\ntoken_file = "{folder}/bus-token"\nask_timeout_s = 5\n'


def test_secrets_come_out_nowhere_between_site_server_and_point(tmp_path: Path) -> None:
    place = _Place(tmp_path)
    with NatsServer(tmp_path / "nats", extra=f'authorization {{ token: "{BUS_TOKEN}" }}') as nats:
        place.configure(nats.url)
        with place.site.ready() as site, place.point.ready() as point:
            logs = [Drained(each) for each in (site, point)]
            place.wait_present()
            _ask(place)
            for each in (site, point):
                each.signal(signal.SIGTERM)
                each.process.wait(PATIENCE_S)
    for log in logs:
        log.end()
    everything = [*place.said, *(b"".join(log.lines).decode() for log in logs)]
    for folder in (place.site.state, place.point.state):
        everything += [path.read_bytes().decode("latin-1") for path in folder.glob("messages.db*")]
    for secret in ("SECRET", place.token):
        around = [text.partition(secret) for text in everything if secret in text]
        assert not around, [before[-200:] + secret + after[:100] for before, _, after in around]


class _Place:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.site = DaemonProcess(folder / "site", command=("site", "serve"))
        self.point = DaemonProcess(folder / "point")
        self.port = free_port()
        self.token = add_token(folder / "roles.toml", "bea", Role.OPERATOR)
        self.said: list[str] = []

    def configure(self, url: str) -> None:
        (self._folder / "bus-token").write_text(BUS_TOKEN)
        (self._folder / "bus-token").chmod(0o600)
        control = f'[control]\nlisten = "127.0.0.1:{self.port}"\nroles_file = "{self._folder}/roles.toml"\n'
        for each in (self.site, self.point):
            text = each.config.read_text().replace("[daemon]\n", '[daemon]\nlog_level = "debug"\n')
            each.config.write_text(text + BUS.format(url=url, folder=self._folder) + "[distribution]\nattempts = 1\n")
        self.site.config.write_text(self.site.config.read_text().replace("[control]\n", control))

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """The site server, by TCP. What it says is kept."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        self.said.append(text)
        return response.status, json.loads(text)

    def wait_present(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(each["state"] == "present" for each in self.ask("GET", "/v1/points")[1]["points"]):
            assert time.monotonic() < deadline, self.said[-1]
            time.sleep(0.2)


def _ask(place: _Place) -> None:
    order = {"kind": "distribute", "package_id": "LAB00001", "url": URL, "sha256": "0" * 64}
    status, job = place.ask("POST", "/v1/points/p1/jobs", order)
    assert (status, job["options"]["url"]) == (200, "http://127.0.0.1:1/x.img?…")
    assert job["actor"] == "token bea by site lab"
    deadline = time.monotonic() + PATIENCE_S
    while place.ask("GET", f"/v1/points/p1/jobs/{job['id']}")[1]["state"] != "failed":
        assert time.monotonic() < deadline, place.said[-1]
        time.sleep(0.2)
    while "job.failed" not in json.dumps(place.ask("GET", "/v1/messages?limit=50")[1]):
        assert time.monotonic() < deadline, place.said[-1]
        time.sleep(0.2)
    assert place.ask("GET", "/v1/points/p1/status", token="SECRETguess")[0] == 401
    assert place.ask("POST", "/v1/points/p1/roots", {"path": "/SECRET"})[0] == 403
    refused = place.ask("POST", "/v1/points/p1/jobs", order | {"url": "http://bea:SECRETpassword@h/x"})
    assert refused[0] == 400
    for path in ("status", "jobs", "jobs/ended", "packages", "messages", "state", "bus", "sources"):
        assert place.ask("GET", f"/v1/points/p1/{path}")[0] == 200
