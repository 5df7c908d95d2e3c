# SPDX-License-Identifier: Apache-2.0
"""S3 as a source, against a real S3 server on loopback: moto's, which speaks the protocol of AWS."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.distribution.origin import SLAB_BYTES, opened, repository_files

from dpd.content.library import Library
from dpd.content_settings import SourceSettings
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Outcome, SourceFailure, Terms
from dpd.distribution.pulling.sources import source_of
from dpd.errors import SourceUnavailable

IMAGE = random.Random(1).randbytes((3 << 20) + 77)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    name = f"b{abs(hash(request.node.name)):x}"
    client.create_bucket(Bucket=name)
    with contextlib.closing(client):
        yield client, name


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.toml"
    path.write_text('access_key_id = "id"\nsecret_access_key = "secret"\n')
    path.chmod(0o600)
    return path


def publish(folder: Path, image: bytes, version: int) -> dict[str, bytes]:
    source = folder / f"image{version}.bin"
    source.write_bytes(image)
    with Library(folder / "publisher", slab_bytes=SLAB_BYTES) as library:
        return repository_files(library, library.publish(source, "LAB00001", version))


def put(bucket: Any, files: dict[str, bytes], prefix: str = "lab/dpd") -> None:
    client, name = bucket
    for path, body in files.items():
        client.put_object(Bucket=name, Key=f"{prefix}/{path}", Body=body)


def source(bucket: Any, server: str, credentials: Path | str, prefix: str = "lab/dpd") -> SourceSettings:
    return SourceSettings(
        name="cloud", url=f"s3://{bucket[1]}/{prefix}", endpoint=server, credentials_file=str(credentials)
    )


def test_content_comes_out_of_a_bucket_and_a_new_version_by_ranges(
    tmp_path: Path, bucket: Any, server: str, credentials: Path
) -> None:
    put(bucket, publish(tmp_path, IMAGE, 1))
    with opened(tmp_path / "site", (source(bucket, server, credentials),), stall_timeout_s=10.0) as site:
        content = site.pull()
        assert site.library.damage(content) == []
        assert site.puller.stats.bytes == {"s3": len(IMAGE)}
        newer = IMAGE[: 1 << 20] + os.urandom(100_000) + IMAGE[(1 << 20) + 100_000 :]
        put(bucket, publish(tmp_path, newer, 2))
        assert site.pull().source_version == 2
        assert site.puller.stats.bytes["s3"] <= len(IMAGE) + 100_000 + 3 * (256 << 10)
        assert site.puller.stats.bytes_reused > len(IMAGE) // 2


def test_what_lies_in_a_bucket_is_told(tmp_path: Path, bucket: Any, server: str, credentials: Path) -> None:
    files = publish(tmp_path, IMAGE, 1)
    blob = next(path for path in files if "/blobs/" in path)
    put(bucket, files | {blob: bytes(len(IMAGE))})
    with opened(tmp_path / "site", (source(bucket, server, credentials),), stall_timeout_s=10.0) as site:
        with pytest.raises(SourceUnavailable, match="slab 0"):
            site.pull()
        assert site.library.contents() == []
        assert site.outcomes() == {"cloud": ["wrong_hash"]}
    put(bucket, {blob: IMAGE[:-1]})
    with (
        opened(tmp_path / "site", (source(bucket, server, credentials),), stall_timeout_s=10.0) as site,
        pytest.raises(SourceUnavailable, match=f"has {len(IMAGE) - 1} bytes, expected {len(IMAGE)}"),
    ):
        site.pull()


def test_an_object_that_ends_before_the_place_to_go_on_at(
    tmp_path: Path, bucket: Any, server: str, credentials: Path
) -> None:
    put(bucket, {"x": b"short"})
    terms = Terms(lambda: None, RateLimit(lambda: float("inf")), 5.0)
    session = source_of(source(bucket, server, credentials)).session(terms)
    with pytest.raises(SourceFailure) as caught:
        session.open("x", 100, 200, 200)
    assert caught.value.outcome is Outcome.WRONG


def test_what_is_not_there_is_told(tmp_path: Path, bucket: Any, server: str, credentials: Path) -> None:
    with opened(tmp_path / "site", (source(bucket, server, credentials),), stall_timeout_s=5.0) as site:
        with pytest.raises(SourceUnavailable, match="no such object"):
            site.pull()
        assert site.outcomes() == {"cloud": ["not_found"]}


def test_nobody_there(tmp_path: Path, bucket: Any, credentials: Path) -> None:
    with opened(tmp_path / "site", (source(bucket, "http://127.0.0.1:1", credentials),), stall_timeout_s=5.0) as site:
        with pytest.raises(SourceUnavailable, match="cloud: "):
            site.pull()
        assert site.outcomes() == {"cloud": ["unreachable"]}


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0o600, "cannot be read: No such file"),
        ("access_key_id = 5", 0o600, "expected lines access_key_id"),
        ('access_key_id = "a"', 0o600, "expected lines access_key_id"),
        ("=", 0o600, "expected lines access_key_id"),
        ('access_key_id = "a"\nsecret_access_key = "b"', 0o644, "others may read it; `chmod 640"),
    ],
)
def test_a_credentials_file_that_is_none(
    tmp_path: Path, bucket: Any, server: str, text: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "keys.toml"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with (
        opened(tmp_path / "site", (source(bucket, server, path),), stall_timeout_s=5.0) as site,
        pytest.raises(SourceUnavailable, match=words),
    ):
        site.pull()


def test_a_public_bucket_needs_no_credentials(tmp_path: Path, bucket: Any, server: str) -> None:
    client, name = bucket
    client.put_bucket_acl(Bucket=name, ACL="public-read")
    put(bucket, publish(tmp_path, IMAGE[:1000], 1), "p")
    for key in client.list_objects_v2(Bucket=name)["Contents"]:
        client.put_object_acl(Bucket=name, Key=key["Key"], ACL="public-read")
    with opened(tmp_path / "site", (source(bucket, server, "", "p"),), stall_timeout_s=10.0) as site:
        assert site.pull().size_bytes == 1000


def test_a_bucket_that_hangs_is_left_after_the_stall(tmp_path: Path, credentials: Path) -> None:
    """A server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kept: list[socket.socket] = []
        thread = threading.Thread(target=lambda: _keep(silent, kept), daemon=True)
        thread.start()
        settings = SourceSettings(name="cloud", url="s3://b/p", endpoint=url, credentials_file=str(credentials))
        with opened(tmp_path / "site", (settings,), stall_timeout_s=1.0) as site:
            with pytest.raises(SourceUnavailable, match="cloud: "):
                site.pull()
            assert site.outcomes() == {"cloud": ["stalled"]}
        silent.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for each in kept:
            each.close()


def _keep(silent: socket.socket, kept: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while True:
            kept.append(silent.accept()[0])
