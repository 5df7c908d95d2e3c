# SPDX-License-Identifier: Apache-2.0
"""Sources out of the settings, and how each of them is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.origin import Asked, Origin, Reply

from dpd.content import repository
from dpd.content_settings import DistributionSettings, SourceSettings
from dpd.distribution.database import open_database
from dpd.distribution.pulling import sources
from dpd.distribution.pulling.http_source import HttpSource
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.s3_source import S3Source
from dpd.distribution.pulling.source import Terms
from dpd.distribution.pulling.sources import look_at, source_of, sources_of
from dpd.distribution.pulling.trust import KeyRing, KeyState

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TERMS = Terms(lambda: None, RateLimit(lambda: float("inf")), 1.0)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyRing]:
    database = open_database(tmp_path / "distribution.db")
    yield KeyRing(database)
    database.close()


def test_the_settings_make_sources() -> None:
    web = SourceSettings(name="hq", url="https://mirror.example/dpd/", priority=3, public_key=KEY.hex(), ca_file="/ca")
    cloud = SourceSettings(name="s", url="s3://bucket/a/b", endpoint="http://x", region="r", credentials_file="/c")
    assert sources_of(DistributionSettings(source=(web, cloud))) == (
        HttpSource("hq", "https://mirror.example/dpd", 3, KEY.hex(), "/ca"),
        S3Source("s", "s3://bucket/a/b", 1, "", "", "http://x", "r", "/c"),
    )
    assert source_of(cloud).kind == "s3"


def test_a_source_that_answers_has_a_latency_and_pins_nothing(keys: KeyRing) -> None:
    with Origin({f"dpd/{repository.IDENTITY}": repository.encode_identity(KEY)}) as origin:
        source = HttpSource("hq", f"{origin.url}/dpd")
        found = look_at(source, keys, TERMS)
        assert (found.is_reachable, found.offered_key, found.key, found.error) == (True, KEY.hex(), "", "")
        assert found.key_state is KeyState.UNKNOWN
        assert found.latency_ms is not None
        assert 0 < found.latency_ms < 5000
        assert keys.known(source).state is KeyState.UNKNOWN


def test_a_source_with_another_key_answers_and_is_an_error(keys: KeyRing) -> None:
    with Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin:
        found = look_at(HttpSource("hq", origin.url, public_key=OTHER.hex()), keys, TERMS)
        assert (found.is_reachable, found.key, found.offered_key) == (True, OTHER.hex(), KEY.hex())
        assert "configured is" in found.error


@pytest.mark.parametrize(
    ("url", "reachable", "words"),
    [
        ("http://127.0.0.1:1", False, "Connection refused"),
        ("http://u:p@h", False, "names and passwords"),
        ("http://127.0.0.1:99999", False, "expected a port from 1 to 65535"),
    ],
)
def test_a_source_that_is_of_no_use_says_why(keys: KeyRing, url: str, reachable: bool, words: str) -> None:
    found = look_at(HttpSource("hq", url), keys, TERMS)
    assert (found.is_reachable, found.latency_ms, words in found.error) == (reachable, None, True), found.error


def test_a_source_that_sends_on_and_on_is_not_listened_to_for_ever(
    keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(asked: Asked, reply: Reply) -> None:
        reply.drip = 0.0005  # 2 KiB a second at the most, which is no stall

    monkeypatch.setattr(sources, "TEST_S", 0.5)
    with Origin({repository.IDENTITY: bytes(4000)}, run_on) as origin:
        found = look_at(HttpSource("hq", origin.url), keys, TERMS)
        assert "has not answered a small question in 0.5 s" in found.error
        assert not found.is_reachable


def test_a_web_server_without_a_repository_is_reachable_but_no_source(keys: KeyRing) -> None:
    with Origin() as origin:
        found = look_at(HttpSource("hq", origin.url), keys, TERMS)
        assert (found.is_reachable, found.error) == (True, "nothing here")
