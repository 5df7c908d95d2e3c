# SPDX-License-Identifier: Apache-2.0
"""nginx with the files of a repository as a source: no dpd runs there, and a pull cannot tell."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.distribution.origin import SLAB_BYTES, Site, opened, repository_files
from tests.interop.tls_authority import TlsAuthority

from dpd.content.library import Library
from dpd.content_settings import SourceSettings
from dpd.errors import SourceUnavailable

NGINX = Path("/usr/sbin/nginx")
IMAGE = random.Random(1).randbytes(16 << 20)
CONF = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; {user}
events {{}}
http {{
  access_log {folder}/access.log; sendfile on; gzip on; gzip_types *; default_type application/octet-stream;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl; root {folder}/web;
    ssl_certificate {certificate}; ssl_certificate_key {key}; location / {{ {extra} }} }}
}}
"""


class Nginx:
    """It, with a folder of files, over HTTP and TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "web").mkdir(parents=True)
        authority = TlsAuthority()
        self._certificate, self._key = authority.issue(folder, "127.0.0.1")
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        self.port, self.tls_port = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def put(self, files: dict[str, bytes]) -> None:
        for name, body in files.items():
            path = self.folder / "web" / "dpd" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

    def start(self, extra: str = "") -> None:
        conf = self.folder / "nginx.conf"
        conf.write_text(
            CONF.format(
                folder=self.folder,
                port=self.port,
                tls_port=self.tls_port,
                certificate=self._certificate,
                key=self._key,
                extra=extra,
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        self._process = subprocess.Popen([NGINX, "-e", "stderr", "-c", conf], stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "error.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def sent_bytes(self) -> int:
        """Of bodies and heads, from its own log of accesses."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return sum(int(line.split('"')[2].split()[1]) for line in lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def nginx(tmp_path: Path, need: Callable[..., None]) -> Iterator[Nginx]:
    need(NGINX)
    found = Nginx(tmp_path / "nginx")
    yield found
    found.stop()


@contextmanager
def publisher(folder: Path) -> Iterator[Callable[[bytes | Path, int], dict[str, bytes]]]:
    with Library(folder, slab_bytes=SLAB_BYTES) as library:

        def publish(source: bytes | Path, version: int) -> dict[str, bytes]:
            if isinstance(source, bytes):
                path = folder.with_name(f"image{version}.bin")
                path.write_bytes(source)
                source = path
            return repository_files(library, library.publish(source, "LAB00001", version))

        yield publish


def stored(site: Site) -> bytes:
    with open(site.library.open_blob(site.library.find("LAB00001")), "rb") as file:
        return file.read()


def test_versions_come_from_a_static_web_server_and_the_second_by_ranges(tmp_path: Path, nginx: Nginx) -> None:
    newer = IMAGE[: 5 << 20] + random.Random(2).randbytes(1 << 20) + IMAGE[6 << 20 :]
    with publisher(tmp_path / "publisher") as publish:
        nginx.put(publish(IMAGE, 1))
        nginx.start()
        sources = (
            SourceSettings(name="mirror", url=f"https://127.0.0.1:{nginx.tls_port}/dpd", ca_file=str(nginx.ca_file)),
        )
        with opened(tmp_path / "site", sources, stall_timeout_s=10.0) as site:
            site.pull()
            assert stored(site) == IMAGE
            before = nginx.sent_bytes()
            nginx.put(publish(newer, 2))
            site.pull()
            assert stored(site) == newer
            assert site.moved_bytes() - len(IMAGE) <= 1.2 * (1 << 20) + (256 << 10)
            assert nginx.sent_bytes() - before <= 2.0 * (1 << 20)
            assert site.outcomes() == {}


def test_a_tree_of_small_files(tmp_path: Path, nginx: Nginx) -> None:
    rng = random.Random(3)
    for number in range(500):
        path = tmp_path / "tree" / f"d{number % 7}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(0, 9000)))
    with publisher(tmp_path / "publisher") as publish:
        nginx.put(publish(tmp_path / "tree", 1))
    nginx.start()
    with opened(tmp_path / "site", {"mirror": f"http://127.0.0.1:{nginx.port}/dpd"}, stall_timeout_s=10.0) as site:
        content = site.pull()
        assert site.library.damage(content) == []
        assert content.file_count == 500


def test_a_server_that_goes_away_in_the_middle_is_waited_for(tmp_path: Path, nginx: Nginx) -> None:
    with publisher(tmp_path / "publisher") as publish:
        nginx.put(publish(IMAGE, 1))
    nginx.start("limit_rate 4m;")
    with opened(tmp_path / "site", {"mirror": f"http://127.0.0.1:{nginx.port}/dpd"}, stall_timeout_s=10.0) as site:
        threading.Timer(1.5, nginx.stop).start()
        with pytest.raises(SourceUnavailable):
            site.pull()
        first = site.moved_bytes()
        assert 0 < first < len(IMAGE)
        while nginx._process is not None:
            time.sleep(0.05)
        nginx.start()
        site.pull()
        assert stored(site) == IMAGE
        assert site.moved_bytes() <= len(IMAGE) + SLAB_BYTES
