# SPDX-License-Identifier: Apache-2.0
"""`dpd site serve`: what it says where it cannot start. How it runs, see tests/site_server/test_server.py."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Dpd


def test_settings_that_are_not_there_are_told(dpd: Dpd, tmp_path: Path) -> None:
    ended = dpd("site", "serve", "--config", tmp_path / "none.toml")
    assert ended.code == 2
    assert "no such settings file" in ended.err


def test_settings_without_a_bus_are_told_with_what_is_expected(dpd: Dpd, tmp_path: Path) -> None:
    config = tmp_path / "dpd-site.toml"
    config.write_text(f'[daemon]\nstate_dir = "{tmp_path}"\n')
    ended = dpd("site", "serve", "--config", config)
    assert ended.code == 2
    assert 'bus.url = "": expected the NATS server of the site' in ended.err
