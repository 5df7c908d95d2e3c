# SPDX-License-Identifier: Apache-2.0
"""Pulls of a real `dpd serve`: fetched when a client asks, from a plain URL, under a ceiling that is changed meanwhile."""

from __future__ import annotations

import http.client
import random
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.daemon_process import DaemonProcess
from tests.distribution.origin import Origin, repository_files

from dpd.cli.client import Client
from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES

IMAGE = random.Random(1).randbytes(12 << 20)
RATE_BYTES_S = 2e6 / 8
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("origin")
    (folder / "image.bin").write_bytes(IMAGE)
    with Library(folder / "library", slab_bytes=SLAB_BYTES) as library:
        files = repository_files(library, library.publish(folder / "image.bin", "LAB00001", 3))
    with Origin(files | {"plain/image.bin": IMAGE}) as origin:
        yield origin


def daemon_of(folder: Path, origin: Origin, *keys: str) -> DaemonProcess:
    daemon = DaemonProcess(folder / "state")
    with daemon.config.open("a") as config:
        config.write("[distribution]\nretry_interval_s = 1\n" + "".join(f"{key}\n" for key in keys))
        config.write(f'[[distribution.source]]\nname = "hq"\nurl = "{origin.url}"\n')
    return daemon


def http_of(client: Client) -> http.client.HTTPConnection:
    services = {service["name"]: service["ports"] for service in client.get("status")["services"]}
    return http.client.HTTPConnection("127.0.0.1", int(services["http"]["http"]), timeout=PATIENCE_S)


def wait_ended(client: Client, id: int) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (job := client.get("jobs", str(id)))["state"] not in ("done", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return dict(job)


def test_a_client_gets_what_was_not_here_and_the_job_is_told(tmp_path: Path, origin: Origin) -> None:
    with daemon_of(tmp_path, origin, "fetch_on_miss = true").ready() as daemon:
        client = Client(daemon.control_socket)
        web = http_of(client)
        web.request("GET", "/content/LAB00001")
        answer = web.getresponse()
        assert (answer.status, sha256(answer.read()).digest()) == (200, sha256(IMAGE).digest())
        web.request("GET", "/content/NOBODY")
        answer = web.getresponse()
        assert (answer.status, b"neither here nor at any source" in answer.read()) == (404, True)
        web.close()
        job = wait_ended(client, 1)
        assert (job["package_id"], job["priority"], job["state"]) == ("LAB00001", 1, "done")
        assert client.get("packages", "LAB00001")["state"] == "installed"


def test_a_file_at_a_plain_url_becomes_content(tmp_path: Path, origin: Origin) -> None:
    with daemon_of(tmp_path, origin).ready() as daemon:
        client = Client(daemon.control_socket)
        order = {"kind": "distribute", "package_id": "PLAIN", "url": f"{origin.url}/plain/image.bin"}
        id = client.post("jobs", body=order | {"sha256": sha256(IMAGE).hexdigest()})["id"]
        assert wait_ended(client, id)["state"] == "done"
        (content,) = client.get("content")["content"]
        assert (content["package_id"], content["name"], content["size_bytes"]) == ("PLAIN", "image.bin", len(IMAGE))
        list(client.follow("content", "PLAIN", "verify"))


def test_a_ceiling_holds_and_another_one_counts_after_a_reload(tmp_path: Path, origin: Origin) -> None:
    with daemon_of(tmp_path, origin, "rate_mbit_s = 2.0").ready() as daemon:
        client = Client(daemon.control_socket)
        id = client.post("jobs", body={"kind": "distribute", "package_id": "LAB00001"})["id"]
        begun = time.monotonic()
        time.sleep(3.0)
        done, passed = client.get("jobs", str(id))["done_bytes"], time.monotonic() - begun
        assert done <= RATE_BYTES_S * (passed + 1.0)
        daemon.config.write_text(daemon.config.read_text().replace("rate_mbit_s = 2.0", "rate_mbit_s = 0.0"))
        daemon.signal(signal.SIGHUP)
        reloaded = time.monotonic()
        assert wait_ended(client, id)["state"] == "done"
        assert time.monotonic() - reloaded < (len(IMAGE) - done) / RATE_BYTES_S / 2


def test_a_closed_hour_keeps_a_job_waiting_and_an_opened_one_lets_it_go(tmp_path: Path, origin: Origin) -> None:
    closed = 'schedule = ["mon-sun 00-24 high-only"]'
    with daemon_of(tmp_path, origin, closed).ready() as daemon:
        client = Client(daemon.control_socket)
        id = client.post("jobs", body={"kind": "distribute", "package_id": "LAB00001"})["id"]
        time.sleep(1.0)
        assert client.get("jobs", str(id))["state"] in ("queued", "waiting")
        daemon.config.write_text(daemon.config.read_text().replace(closed, "schedule = []"))
        daemon.signal(signal.SIGHUP)
        assert wait_ended(client, id)["state"] == "done"
