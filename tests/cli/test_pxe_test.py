# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe test`: the probe as its own process against the daemon's own process."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.cli import pxe_test
from dpd.protocol.pxe.architectures import ARCH_NAMES

LOADER = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """With the files that the default rules name, and an HTTP port that can be told to a client."""
    daemon = DaemonProcess(tmp_path_factory.mktemp("daemon"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    table = '[http]\nlisten = "127.0.0.1"\nport = '
    text = daemon.config.read_text()
    assert table in text
    daemon.config.write_text(text.replace(f"{table}0", f"{table}{port}"))
    (daemon.state / "boot").mkdir()
    for name in ("ipxe.efi", "undionly.kpxe"):
        (daemon.state / "boot" / name).write_bytes(LOADER)
    with daemon.ready() as running:
        yield running


def steps(out: str) -> list[str]:
    return [json.loads(line)["step"] for line in out.splitlines()]


@pytest.mark.parametrize(("arch", "protocol"), [("uefi-x64", "tftp"), ("bios", "tftp"), ("uefi-x64-http", "http")])
def test_a_boot_is_played_to_the_hash_of_the_loader(asked: Dpd, arch: str, protocol: str) -> None:
    played = asked("pxe", "test", "--arch", arch, "--mac", "02:00:00:00:00:21", "--json")
    assert played.code == 0, played.out
    last = json.loads(played.out.splitlines()[-1])
    assert (last["bytes"], last["sha256"]) == (len(LOADER), hashlib.sha256(LOADER).hexdigest())
    fetch = next(json.loads(line) for line in played.out.splitlines() if '"fetch"' in line)
    assert fetch["protocol"] == protocol
    assert asked("pxe", "why", "02:00:00:00:00:21", "--json").json["cause"] == "fine"


def test_the_steps_are_shown_in_words(asked: Dpd) -> None:
    shown = asked("pxe", "test", "--mac", "02:00:00:00:00:22").out.splitlines()
    words = [line.partition(" s  ")[2] for line in shown]
    assert words[0] == "asks for a network boot as 02:00:00:00:00:22, uefi-x64"
    assert words[1] == "is offered ipxe.efi by 127.0.0.1"
    assert words[-1].startswith(f"has {len(LOADER)} bytes in ")


def test_a_loader_that_is_not_there_is_a_failure(asked: Dpd) -> None:
    played = asked("pxe", "test", "--arch", "uefi-arm64", "--mac", "02:00:00:00:00:23")
    assert played.code == 1
    assert "FAILED: ipxe-arm64.efi: the server says:" in played.out


def test_without_a_daemon_nobody_answers(dpd: Dpd, dead_socket: str) -> None:
    played = dpd("pxe", "test", "--server", "127.0.0.9", "--timeout", "0.1", "--json", "--socket", dead_socket)
    assert played.code == 3
    assert steps(played.out) == ["discover", "silence", "silence", "silence", "failed"]


def test_wrong_words_are_refused_by_the_probe(dpd: Dpd, dead_socket: str) -> None:
    assert dpd("pxe", "test", "--mac", "nobody", "--socket", dead_socket).code == 2
    assert dpd("pxe", "test", "--server", "::1", "--socket", dead_socket).code == 2


def test_without_the_probe_the_extra_is_named(dpd: Dpd, dead_socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pxe_test, "find_spec", lambda name: None)
    ended = dpd("pxe", "test", "--socket", dead_socket)
    assert (ended.code, ended.err) == (1, "dpd: dpd-probe is not installed: `pip install dpd[probe]`\n")


def test_control_characters_of_a_server_do_not_reach_the_terminal() -> None:
    told = {"step": "offer", "at_s": 0.5, "loader": "a\x1b[31m", "server": "10.0.0.1"}
    assert pxe_test._shown(told) == "   0.500 s  is offered a?[31m by 10.0.0.1"


def test_every_architecture_that_the_probe_plays_has_a_name_in_dpd() -> None:
    from dpd_probe.client import ARCHITECTURES

    assert ARCHITECTURES.items() <= {name: code for code, name in reversed(ARCH_NAMES.items())}.items()
