# SPDX-License-Identifier: Apache-2.0
"""`dpd validation …` against a real daemon whose disk loses bytes."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client
from dpd.content import repository


def test_damage_is_found_told_and_mended(asked: Dpd, daemon: DaemonProcess, image: Path) -> None:
    assert asked("content", "publish", image, "--package", "VALID001", "--json").code == 0
    before = asked("validation", "status", "--json").json
    assert before["next_at"] > before["validated_at"]
    content = asked("content", "show", "VALID001", "--json").json
    blob = daemon.state / "library" / "blobs" / content["sha256"][:2] / content["sha256"]
    blob.write_bytes(b"x" + image.read_bytes()[1:])
    ended = asked("content", "validate", "VALID001")
    assert (ended.code, "nobody has it: no source is in the settings" in ended.err) == (1, True), ended.err
    shown = asked("validation", "damage").out
    assert "VALID001 1" in shown
    assert "damaged" in shown
    assert content["sha256"][:16] in shown
    assert "1; `dpd validation damage` names them" in asked("validation", "status").out
    assert asked("content", "verify", "VALID001").code == 1
    assert [status_of(daemon, path) for path in served(content["sha256"])] == [500, 500]
    assert asked("content", "publish", image, "--package", "VALID001", "--source-version", "1").code == 0
    (found,) = asked("validation", "damage", "--json").json["damage"]
    assert (found["state"], found["note"]) == ("repaired", "published or brought again")
    assert [status_of(daemon, path) for path in served(content["sha256"])] == [200, 200]
    assert asked("content", "validate").code == 0
    status = asked("validation", "status")
    assert "everything" in status.out
    assert "Damaged files" in status.out
    assert asked("validation", "status", "--json").json["validated_at"] > before["validated_at"]
    asked("content", "remove", "VALID001")


def served(sha256: str) -> tuple[str, str]:
    """Where machines and other distribution points get it."""
    return "/content/VALID001/1", f"/{repository.blob(sha256)}"


def status_of(daemon: DaemonProcess, path: str) -> int:
    services = {each["name"]: each["ports"] for each in Client(daemon.control_socket).get("status")["services"]}
    connection = http.client.HTTPConnection("127.0.0.1", services["http"]["http"], timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_limits_have_their_bounds(asked: Dpd) -> None:
    assert asked("validation", "damage", "--limit", "0").code == 2
    assert asked("validation", "status", "--limit", "101").code == 2
