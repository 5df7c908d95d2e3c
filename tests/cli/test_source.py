# SPDX-License-Identifier: Apache-2.0
"""`dpd source …` against a daemon with sources in its settings, one of which is a real dpd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess
from tests.distribution.origin import Origin

from dpd.content import repository

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin:
        yield origin


@pytest.fixture(scope="module")
def pulling(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path_factory.mktemp("pulling"))
    tables = f"""
[[distribution.source]]
name = "hq"
url = "{origin.url}"
[[distribution.source]]
name = "strict"
url = "{origin.url}/"
priority = 2
public_key = "{OTHER.hex()}"
[[distribution.source]]
name = "gone"
url = "http://127.0.0.1:1"
priority = 3
"""
    daemon.config.write_text(daemon.config.read_text() + tables)
    with daemon.ready():
        yield daemon


@pytest.fixture
def ask(pulling: DaemonProcess, monkeypatch: pytest.MonkeyPatch, dpd: Dpd) -> Dpd:
    monkeypatch.setenv("DPD_SOCKET", pulling.control_socket)
    return dpd


def test_sources_are_listed_with_how_they_are(ask: Dpd, origin: Origin) -> None:
    lines = ask("source", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "PRIORITY", "ANSWERS", "LATENCY", "KEY", "URL"]
    hq, strict, gone = (line.split() for line in lines[1:4])
    assert (hq[:3], hq[4:], hq[-1]) == (["hq", "1", "yes"], ["ms", "unknown", origin.url], origin.url)
    assert strict[:3] == ["strict", "2", "yes"]
    assert gone[:5] == ["gone", "3", "no", "-", "unknown"]
    assert lines[-1] == "gone: Connection refused"
    listed = ask("source", "list", "--json").json["sources"]
    assert [each["name"] for each in listed] == ["hq", "strict", "gone"]
    assert [each["offered_key"] for each in listed] == [KEY.hex(), KEY.hex(), ""]
    assert [each["latency_ms"] is None for each in listed] == [False, False, True]


def test_one_is_tested_and_fails_where_nothing_could_be_pulled(ask: Dpd, origin: Origin) -> None:
    good = ask("source", "test", "hq")
    assert good.code == 0
    assert origin.url in good.out
    assert KEY.hex() in good.out
    refused = ask("source", "test", "gone")
    assert (refused.code, refused.err) == (1, "dpd: gone: Connection refused\n")
    strict = ask("source", "test", "strict")
    assert strict.code == 1
    assert "set public_key of this source" in strict.err
    assert ask("source", "test", "hq", "--json").json["key_state"] == "unknown"


def test_a_key_is_forgotten(ask: Dpd) -> None:
    assert ask("source", "forget", "hq").out == f"hq: the next pull pins its key, {KEY.hex()}\n"
    assert "cannot be asked now" in ask("source", "forget", "gone").out


def test_a_name_that_is_not_in_the_settings(ask: Dpd) -> None:
    refused = ask("source", "test", "nowhere")
    assert refused.code == 1
    assert "no source is called 'nowhere'; [[distribution.source]] in the settings has: hq, strict, gone" in refused.err


def test_a_daemon_without_sources_says_what_to_write(asked: Dpd, tmp_path: Path) -> None:
    assert "add [[distribution.source]] with a name and a url" in asked("source", "list").out
