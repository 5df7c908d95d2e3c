# SPDX-License-Identifier: Apache-2.0
"""A real `dpd serve` that is killed while it applies a declaration of many computers."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.control.declared_sites import declare
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client, DaemonUnreachable

COMPUTERS, COLLECTIONS = 600, 20
TOML = "application/toml"


def apply(daemon: DaemonProcess, text: str) -> float:
    """How long the second step took."""
    client = Client(daemon.control_socket)
    plan = client.post_text("site", "plan", text=text.encode(), content_type=TOML)
    assert plan["problems"] == []
    query = {"policy_version": plan["policy_version"]}
    began = time.monotonic()
    assert client.post_text("site", "apply", text=text.encode(), content_type=TOML, **query)["is_applied"]
    return time.monotonic() - began


def export(daemon: DaemonProcess) -> str:
    return str(Client(daemon.control_socket).get("site", "export")["declaration"])


def test_whenever_it_is_killed_policy_is_the_old_one_or_the_new_one_whole(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "state").ready() as daemon:
        apply(daemon, declare("a", COMPUTERS, COLLECTIONS))
        takes_s = apply(daemon, declare("b", COMPUTERS, COLLECTIONS))
    kept = "b"
    for letter, share in (("c", 0.6), ("d", 0.9)):
        with DaemonProcess(tmp_path / "state").ready() as daemon:
            kept = _kept_of(export(daemon), kept, before(letter))
            thread = threading.Thread(target=_apply_until_killed, args=(daemon, letter))
            thread.start()
            time.sleep(takes_s * (1 + share))  # the plan before it takes about as long as the apply
            daemon.signal(signal.SIGKILL)
            thread.join()
    with DaemonProcess(tmp_path / "state").ready() as daemon:
        _kept_of(export(daemon), kept, "d")
        apply(daemon, declare("e", COMPUTERS, COLLECTIONS))
        assert _is_whole(export(daemon), "e")


def before(letter: str) -> str:
    return chr(ord(letter) - 1)


def _apply_until_killed(daemon: DaemonProcess, letter: str) -> None:
    with suppress(DaemonUnreachable):
        apply(daemon, declare(letter, COMPUTERS, COLLECTIONS))


def _kept_of(text: str, old: str, new: str) -> str:
    """Whose site this is, of the two it may be."""
    (kept,) = [letter for letter in {old, new} if _is_whole(text, letter)]
    return kept


def _is_whole(text: str, letter: str) -> bool:
    """Whether everything of this site is there and nothing of another."""
    names = [line for line in text.splitlines() if line.startswith("name = ")]
    return len(names) == COMPUTERS + 2 * COLLECTIONS and all(line.startswith(f'name = "{letter}-') for line in names)
