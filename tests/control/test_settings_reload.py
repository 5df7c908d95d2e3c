# SPDX-License-Identifier: Apache-2.0
"""Settings read again: what changed is told, what is broken changes nothing, systemd hears both ends."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from dpd.control.settings_reload import read_settings_again, reloading
from dpd.settings import load_settings


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == message]


def test_what_changed_is_told_and_returned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dpd.toml"
    path.write_text("[site]\nkeep_events_days = 3\n")
    settings = load_settings(path)
    path.write_text("[site]\nkeep_events_days = 5\n[metrics]\nlisten = '127.0.0.1:9'\n")
    with caplog.at_level(logging.INFO, "dpd"):
        new = read_settings_again(settings, path)
    assert new is not None
    assert (new.site.keep_events_days, new.metrics.listen) == (5, "127.0.0.1:9")
    told = {line["key"]: (line["old"], line["new"], line["takes_effect"]) for line in lines(caplog, "setting changed")}
    assert told["site.keep_events_days"] == (3, 5, "now")
    assert told["metrics.listen"][2] == "at restart"


def test_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dpd.toml"
    path.write_text("")
    settings = load_settings(path)
    path.write_text("[site]\nkeep_events_days = 'many'\n")
    assert read_settings_again(settings, path) is None
    (line,) = lines(caplog, "settings kept as they were")
    assert "site.keep_events_days" in line["error"]
    assert read_settings_again(settings, None) is settings


def test_systemd_hears_that_it_begins_and_that_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with pytest.raises(ValueError, match="a fault"), reloading():
            raise ValueError("a fault")
        assert notify.recv(4096).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert notify.recv(4096) == b"READY=1"
