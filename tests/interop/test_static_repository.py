# SPDX-License-Identifier: Apache-2.0
"""The repository layout on nginx: exported as a folder, or a bundle that tar unpacked; another dpd pulls from it, and mends
what it loses."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client

SIZE_BYTES = 20 << 20
PATIENCE_S = 60.0
_CONFIG = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  log_format ranges '$request_uri $http_range $body_bytes_sent'; access_log {folder}/ranges.log ranges;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """The URL of `root`; what was asked is in folder/ranges.log."""
    if shutil.which("nginx") is None:
        pytest.skip("missing: nginx")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    folder.mkdir()
    (folder / "nginx.conf").write_text(
        ("user root;" if _is_root() else "") + _CONFIG.format(folder=folder, port=port, root=root)
    )
    process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _is_root() -> bool:
    return os.geteuid() == 0


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of a dpd that has an image and a tree, and the same as a bundle."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "image.img").write_bytes(random.Random(1).randbytes(SIZE_BYTES))
    (folder / "tree" / "sub").mkdir(parents=True)
    for number in range(50):
        (folder / "tree" / "sub" / f"file {number}").write_bytes(random.Random(number).randbytes(number * 997))
    with DaemonProcess(folder / "state").ready() as daemon:
        client = Client(daemon.control_socket)
        for name, package in (("image.img", "LAB00001"), ("tree", "LAB00002")):
            list(client.follow("content", body={"path": str(folder / name), "package_id": package}))
        job = client.post("bundles", "export-jobs", body={"repository": str(folder / "web")})
        ended(client, job)
        with (folder / "bundle.tar").open("wb") as bundle:
            list(client.download("bundles", "export", body=b"", write=bundle.write))
    return folder


def ended(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (job := client.get("jobs", str(job["id"])))["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    assert job["state"] == "done", job
    return job


@contextmanager
def point(state: Path, url: str) -> Iterator[Client]:
    """A dpd with that one source."""
    daemon = DaemonProcess(state)
    with daemon.config.open("a", encoding="utf-8") as config:
        config.write(f'[[distribution.source]]\nname = "web"\nurl = "{url}"\n')
    with daemon.ready():
        yield Client(daemon.control_socket)


def unpack(exported: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "-xf", exported / "bundle.tar", "-C", folder], check=True)
    return folder


@pytest.mark.parametrize("made", ["folder", "bundle"])
def test_another_dpd_pulls_from_nginx(exported: Path, tmp_path: Path, made: str) -> None:
    root = exported / "web" if made == "folder" else unpack(exported, tmp_path / "unpacked")
    with nginx(tmp_path / "nginx", root) as url, point(tmp_path / "state", url) as client:
        for package in ("LAB00001", "LAB00002"):
            ended(client, client.post("jobs", body={"kind": "distribute", "package_id": package}))
            list(client.follow("content", package, "verify"))
        content = client.get("content", "LAB00001")
        assert (content["size_bytes"], content["format"]) == (SIZE_BYTES, "raw")
        assert client.get("content", "LAB00002")["file_count"] == 50


def test_a_slab_that_was_lost_comes_from_nginx_alone(exported: Path, tmp_path: Path) -> None:
    """Two bytes in two slabs of some 5.5 MiB: those are asked for, and no more."""
    with nginx(tmp_path / "nginx", exported / "web") as url, point(tmp_path / "state", url) as client:
        ended(client, client.post("jobs", body={"kind": "distribute", "package_id": "LAB00001"}))
        content = client.get("content", "LAB00001")
        blob = tmp_path / "state" / "library" / "blobs" / content["sha256"][:2] / content["sha256"]
        before = blob.read_bytes()
        with blob.open("r+b") as file:
            for place in (100, SIZE_BYTES - 100):
                file.seek(place)
                file.write(bytes([before[place] ^ 1]))
        log = tmp_path / "nginx" / "ranges.log"
        asked = len(log.read_text().splitlines())
        job = ended(client, client.post("jobs", body={"kind": "validate"}))
        assert job["message"].endswith("1 files damaged, 1 of them mended")
        assert blob.read_bytes() == before
        lines = log.read_text().splitlines()[asked:]
        sent = [int(line.rpartition(" ")[2]) for line in lines]
        assert all(re.search(rf"/blobs/{content['sha256']} bytes=\d+-\d* ", line) for line in lines), lines
        assert sum(sent) <= 12_000_000
        (found,) = client.get("validation", "damage")["damage"]
        assert (found["state"], found["note"]) == ("repaired", "from web")
