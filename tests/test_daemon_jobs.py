# SPDX-License-Identifier: Apache-2.0
"""Jobs of a real `dpd serve` that pulls from another one, ended in the middle in every way there is."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client, RefusedByDaemon
from dpd.protocol.multicast.geometry import SLAB_BYTES

PATIENCE_S = 60.0
# Of the whole daemon. Not more: a job during each of whose tries dpd ended is given up; single steps are killed more often
# in tests/content and tests/distribution.
KILLS = min(8, int(os.environ.get("DPD_KILLS", "4")))
SIZE_BYTES = 16 << 20
MBIT_S = 64.0  # so that a pull takes two seconds


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dpd that has the package BIG in two versions and SMALL."""
    folder = tmp_path_factory.mktemp("origin")
    with DaemonProcess(folder / "state").ready() as daemon:
        client = Client(daemon.control_socket)
        content = random.Random(1).randbytes(SIZE_BYTES)
        for package, version, body in (("BIG", 1, content), ("BIG", 2, content[::-1]), ("SMALL", 7, b"small")):
            file = folder / f"{package}{version}.bin"
            file.write_bytes(body)
            order = {"path": str(file), "package_id": package, "source_version": version}
            list(client.follow("content", body=order))
        yield f"http://127.0.0.1:{http_port(client)}"


def http_port(client: Client) -> int:
    services = {service["name"]: service["ports"] for service in client.get("status")["services"]}
    return int(services["http"]["http"])


@pytest.fixture
def puller(origin: str, tmp_path: Path) -> DaemonProcess:
    daemon = DaemonProcess(tmp_path / "state")
    with daemon.config.open("a") as config:
        config.write(f"[distribution]\nretry_interval_s = 1\nrate_mbit_s = {MBIT_S}\n")
        config.write(f'[[distribution.source]]\nname = "origin"\nurl = "{origin}"\n')
    return daemon


def wait_for(client: Client, id: int, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while not until(job := client.get("jobs", str(id))):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return dict(job)


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("done", "failed", "cancelled")


def underway(job: dict[str, Any]) -> bool:
    return bool(job["state"] == "running" and 0 < job["done_bytes"] < job["total_bytes"])


def order(client: Client, kind: str = "distribute", package: str = "BIG") -> int:
    return int(client.post("jobs", body={"kind": kind, "package_id": package})["id"])


def test_a_killed_pull_goes_on_where_it_was(puller: DaemonProcess) -> None:
    with puller.ready():
        client = Client(puller.control_socket)
        id = order(client)
        wait_for(client, id, lambda job: job["done_bytes"] > SLAB_BYTES * 1.1)
        assert client.get("packages", "BIG")["state"] == "pending"
        puller.process.kill()
        puller.process.wait()
    with puller.ready():
        client = Client(puller.control_socket)
        assert order(client) == id
        begun = wait_for(client, id, lambda job: job["done_bytes"] > 0)
        assert begun["done_bytes"] >= SLAB_BYTES, "it has begun anew"
        job = wait_for(client, id, ended)
        assert (job["state"], job["attempts"], job["source_version"]) == ("done", 2, 2)
        status = client.get("packages", "BIG")
        assert (status["state"], status["versions"]) == ("installed", [2])
        assert client.get("jobs")["jobs"] == []
        list(client.follow("content", "BIG", "verify"))
        events = [each["event"] for each in client.get("events", after=0)["events"]]
        assert {"job.queued", "job.running", "job.done", "content.arrived", "content.state"} <= set(events)


def test_an_orderly_end_counts_for_no_try(puller: DaemonProcess) -> None:
    with puller.ready():
        client = Client(puller.control_socket)
        id = order(client)
        wait_for(client, id, underway)
        begun = time.monotonic()
        puller.signal(signal.SIGTERM)
        code, _ = puller.wait_ended()
        assert (code, time.monotonic() - begun < 30) == (0, True)
    with puller.ready():
        job = wait_for(Client(puller.control_socket), id, ended)
        assert (job["state"], job["attempts"]) == ("done", 1)


def test_a_cancelled_pull_stops_and_leaves_what_it_had_for_the_next(puller: DaemonProcess) -> None:
    with puller.ready():
        client = Client(puller.control_socket)
        id = order(client)
        wait_for(client, id, lambda job: job["done_bytes"] > SLAB_BYTES * 1.1)
        client.post("jobs", str(id), "cancel")
        assert wait_for(client, id, ended)["state"] == "cancelled"
        with pytest.raises(RefusedByDaemon, match="neither in the library nor on its way"):
            client.get("packages", "BIG")
        again = order(client)
        assert again == id + 1
        assert wait_for(client, again, lambda job: job["done_bytes"] > 0)["done_bytes"] >= SLAB_BYTES
        assert wait_for(client, again, ended)["state"] == "done"


def test_killed_at_random_moments_it_is_done_once(puller: DaemonProcess) -> None:
    rng = random.Random(20)
    id = 0
    for _ in range(KILLS):
        with puller.ready():
            client = Client(puller.control_socket)
            id = id or order(client, "update")
            assert order(client, "update") in (id, id + 1)
            time.sleep(rng.random() * 0.5)
            puller.process.kill()
            puller.process.wait()
    with puller.ready():
        client = Client(puller.control_socket)
        assert wait_for(client, id, ended)["state"] == "done"
        for job in client.get("jobs")["jobs"]:
            wait_for(client, job["id"], ended)
        everything = client.get("jobs", "ended")["jobs"]
        assert {job["state"] for job in everything} == {"done"}
        assert [each["source_version"] for each in client.get("content")["content"]] == [2]
        list(client.follow("content", "BIG", "verify"))


def test_maintenance_holds_over_a_restart_and_hands_nothing_out(puller: DaemonProcess) -> None:
    with puller.ready():
        client = Client(puller.control_socket)
        assert wait_for(client, order(client, package="SMALL"), ended)["state"] == "done"
        client.patch("maintenance", body={"reason": "new disks"})
    with puller.ready():
        client = Client(puller.control_socket)
        job = client.get("jobs", str(order(client)))
        assert (job["state"], job["message"]) == ("waiting", "maintenance: new disks")
        assert ask(client, "/repository/v1/packages/SMALL/newest") == 503
        assert wait_for(client, order(client, "validate", "SMALL"), ended)["state"] == "done"
        client.patch("maintenance", body={"reason": ""})
        assert ask(client, "/repository/v1/packages/SMALL/newest") == 200
        assert wait_for(client, job["id"], ended)["state"] == "done"


def ask(client: Client, target: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", http_port(client), timeout=10)
    connection.request("GET", target)
    status = connection.getresponse().status
    connection.close()
    return status


def test_what_was_lost_behind_our_back_is_fetched_again(puller: DaemonProcess, tmp_path: Path) -> None:
    with puller.ready():
        client = Client(puller.control_socket)
        assert wait_for(client, order(client, package="SMALL"), ended)["state"] == "done"
    jobs = sqlite3.connect(tmp_path / "state" / "distribution.db")
    with jobs:  # as after a restore of the library from before the package came
        jobs.execute("INSERT INTO wanted VALUES ('BIG', 1, 0)")
    jobs.close()
    with puller.ready():
        client = Client(puller.control_socket)
        job = max(client.get("jobs")["jobs"] + client.get("jobs", "ended")["jobs"], key=lambda job: job["id"])
        assert (job["package_id"], job["actor"]) == ("BIG", "reconcile")
        assert wait_for(client, job["id"], ended)["state"] == "done"
        told = [each for each in client.get("events", after=0)["events"] if each["event"] == "content.missing"]
        assert [(each["fields"]["package_id"], each["fields"]["source_version"]) for each in told] == [("BIG", 1)]
        assert client.get("packages", "BIG")["versions"] == [1]
