# SPDX-License-Identifier: Apache-2.0
"""`dpd check-config` and the start of `dpd serve`: what settings files are worth, by exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Dpd

REFERENCE = Path(__file__).parents[2] / "config" / "dpd.toml"


def test_a_good_file_is_0_and_shows_what_differs(dpd: Dpd, tmp_path: Path) -> None:
    path = tmp_path / "dpd.toml"
    path.write_text("[http]\nport = 80\n[pxe]\ninterfaces = ['eth0']\n")
    ended = dpd("check-config", path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"{path}: ok, 2 settings differ from the defaults"
    assert "http.port" in ended.out
    assert dpd("check-config", path, "--json").json == {
        "path": str(path),
        "ok": True,
        "changed": {"pxe.interfaces": ["eth0"], "http.port": 80},
        "refused": [],
    }


def test_a_broken_secure_boot_chain_is_told_and_a_manifest_that_cannot_be_used_is_2(dpd: Dpd, tmp_path: Path) -> None:
    path, manifest = tmp_path / "dpd.toml", tmp_path / "chain.toml"
    path.write_text(f'[boot]\ndirectory = "{tmp_path}/boot"\nchain_manifest = "{manifest}"\n')
    manifest.write_text(f'[[file]]\nname = "shimx64.efi"\nsha256 = "{"0" * 64}"\n')
    ended = dpd("check-config", path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("Not handed out: shimx64.efi; `dpd boot-file check` says why\n")
    assert dpd("check-config", path, "--json").json["refused"] == ["shimx64.efi"]
    manifest.unlink()
    ended = dpd("check-config", path)
    assert (ended.code, ended.err) == (2, f"dpd: {manifest}: chain manifest: No such file or directory\n")


def test_the_reference_differs_in_nothing(dpd: Dpd) -> None:
    assert dpd("check-config", REFERENCE).out == f"{REFERENCE}: ok, 0 settings differ from the defaults\n"


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
def test_a_wrong_file_is_2_with_one_line(dpd: Dpd, tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "dpd.toml"
    path.write_text("[http]\nport = 'x'\n")
    ended = dpd(*command, path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f'dpd: {path}: http.port = "x": expected a whole number from 0 to 65535 (TCP port)\n'


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
def test_a_missing_file_is_2(dpd: Dpd, tmp_path: Path, command: list[str]) -> None:
    ended = dpd(*command, tmp_path / "none.toml")
    assert ended.code == 2
    assert ended.err.startswith(f"dpd: {tmp_path}/none.toml: no such settings file; ")


def test_without_a_file_the_usual_place_is_read_and_else_the_defaults_hold(
    dpd: Dpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "dpd.toml"
    monkeypatch.setattr("dpd.settings.DEFAULT_PATH", usual)
    assert dpd("check-config").out == "defaults: ok, 0 settings differ from the defaults\n"
    usual.touch()
    assert dpd("check-config").out == f"{usual}: ok, 0 settings differ from the defaults\n"
