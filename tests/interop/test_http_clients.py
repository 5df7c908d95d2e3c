# SPDX-License-Identifier: Apache-2.0
"""HTTP clients that others wrote fetch from the real service on loopback; what arrives is what was served, byte by byte."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.service.http_site import IMAGE, LOADER, Site, opened_site

from dpd.settings import HttpSettings, Settings

ROOT = Path(__file__).parent.parent.parent
CURL = ("curl", "-sS", "--noproxy", "*", "-m", "30")
PARALLEL = 8
SENDFILE = re.compile(r"sendfile\(.*\) = (\d+)$", re.MULTILINE)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        site.service.apply(Settings(http=HttpSettings(max_connections=64)))
        yield site


@pytest.fixture
def url(site: Site) -> str:
    return f"http://127.0.0.1:{site.port}"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


async def test_curl_resumes(url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("curl")
    part = tmp_path / "part"
    part.write_bytes(IMAGE[:1_234_567])
    run(*CURL, "-f", "-C", "-", "-o", part, f"{url}/content/LAB00001")
    assert part.read_bytes() == IMAGE


async def test_curl_fetches_pieces_in_any_order(url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("curl")
    image = bytearray(len(IMAGE))
    for start in (2_000_000, 0, 1_000_000, 3_000_000):
        run(*CURL, "-f", "-r", f"{start}-{start + 999_999}", "-o", tmp_path / "piece", f"{url}/content/LAB00001")
        piece = (tmp_path / "piece").read_bytes()
        image[start : start + len(piece)] = piece
    assert image == IMAGE


@pytest.mark.parametrize("option", ["--http1.0", "--compressed", "--http2", "--tr-encoding"])
async def test_curl_gets_the_same_whatever_it_offers(
    option: str, url: str, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("curl")
    head = run(*CURL, "-f", option, "-D", "-", "-o", tmp_path / "image", f"{url}/content/LAB00001").lower()
    assert (tmp_path / "image").read_bytes() == IMAGE
    assert f"content-length: {len(IMAGE)}\r\n" in head
    assert "chunked" not in head
    assert "content-encoding" not in head


async def test_curl_keeps_its_connection(url: str, need: Callable[..., None]) -> None:
    need("curl")
    paths = ["/boot/grubx64.efi", "/boot/missing", "/content/LAB00001", "/healthz", "/empty.img"]
    told = run(*CURL, "-w", "%{http_code} %{num_connects}\n", *["-o/dev/null"] * 5, *[url + path for path in paths])
    assert told.split() == ["200", "1", "404", "0", "200", "0", "200", "0", "200", "0"]


async def test_curl_saves_the_transfer_of_what_it_has(url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("curl")
    etag = tmp_path / "etag"
    command = (*CURL, "--etag-save", etag, "--etag-compare", etag, "-w", "%{http_code}", "-o", tmp_path / "image")
    assert run(*command, f"{url}/content/LAB00001") == "200"
    assert run(*command, f"{url}/content/LAB00001") == "304"
    assert run(*CURL, "-z", tmp_path / "image", "-w", "%{http_code}", "-o/dev/null", f"{url}/content/LAB00001") == "304"


async def test_curl_posts_a_join(url: str, need: Callable[..., None]) -> None:
    need("curl")
    answer = run(*CURL, "-f", "-d", '{"member": "a1"}', f"{url}/mc/sessions/LAB00001/join?source_version=3")
    assert '"session_id": "s1"' in answer
    large = "x" * 2_000_000  # curl sends Expect: 100-continue with a body of this size
    refused = subprocess.run(
        [*CURL, "-d", "@-", "-w", "%{http_code}", "-o/dev/null", f"{url}/mc/sessions/LAB00001/join"],
        input=large.encode(),
        capture_output=True,
        check=False,
    )
    assert refused.stdout == b"413"


async def test_wget_resumes(url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("wget")
    (tmp_path / "LAB00001").write_bytes(IMAGE[:999_999])
    run("wget", "-q", "--no-proxy", "-c", "-P", tmp_path, f"{url}/content/LAB00001")
    assert (tmp_path / "LAB00001").read_bytes() == IMAGE


async def test_busybox_fetches_a_loader(url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("busybox")
    run("busybox", "wget", "-q", "-Y", "off", "-O", tmp_path / "loader", f"{url}//GRUBX64.EFI")
    assert (tmp_path / "loader").read_bytes() == LOADER


async def test_many_at_once_get_the_same_bytes(site: Site, url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("curl")
    targets = [tmp_path / f"copy{number}" for number in range(PARALLEL)]
    clients = [subprocess.Popen([*CURL, "-f", "-o", target, f"{url}/content/LAB00001"]) for target in targets]
    assert [client.wait() for client in clients] == [0] * PARALLEL
    assert all(target.read_bytes() == IMAGE for target in targets)
    assert site.service.stats.sent_bytes == PARALLEL * len(IMAGE)


def test_the_kernel_sends_the_bytes_also_of_ranges(tmp_path: Path, need: Callable[..., None]) -> None:
    """Every byte of a file leaves by sendfile(2): through Python it costs 3.6 x the CPU."""
    need("curl", "strace")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "image.bin").write_bytes(IMAGE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trace = tmp_path / "trace"
    serve = (sys.executable, "-m", "bench.http_files", "--serve", str(tmp_path), str(port))
    strace = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=sendfile", "-o", trace, *serve], cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}/boot/image.bin"
        run(*CURL, "-f", "--retry", "60", "--retry-delay", "1", "--retry-connrefused", "-o/dev/null", url)
        run(*CURL, "-f", "-r", "1000-2000999", "-o/dev/null", url)
    finally:
        children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)  # strace itself blocks it, and ends with its child
        strace.wait(10)
    sent = sum(int(count) for count in SENDFILE.findall(trace.read_text()))
    assert sent == len(IMAGE) + 2_000_000
