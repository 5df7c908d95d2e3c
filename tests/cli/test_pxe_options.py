# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe options`: which lines are printed, for whom, with which address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dpd.toml"
    path.write_text('[pxe]\nserver_address = "192.0.2.7"\n[http]\nport = 8123\n')
    return path


def test_every_lease_server_gets_its_lines_with_the_address_of_the_settings(dpd: Dpd, config: Path) -> None:
    printed = dpd("pxe", "options", "--config", config).out
    assert [line for line in printed.splitlines() if line.startswith("### ")] == [
        "### dnsmasq, IPv4",
        "### kea, IPv4",
        "### isc, IPv4",
        "### windows, IPv4",
    ]
    assert 'dhcp-boot=tag:!ipxe,tag:uefi-x64,"ipxe.efi",192.0.2.7,192.0.2.7' in printed
    assert "http://192.0.2.7:8123/boot/ipxe.efi" in printed


def test_one_server_one_architecture_and_another_address(dpd: Dpd, config: Path) -> None:
    words = ("--server", "dnsmasq", "--arch", "uefi-arm64", "--address", "10.0.0.9", "--json")
    told = dpd("pxe", "options", "--config", config, *words).json
    assert list(told) == ["dnsmasq4"]
    assert "ipxe-arm64.efi" in told["dnsmasq4"]
    assert "10.0.0.9" in told["dnsmasq4"]
    assert "undionly" not in told["dnsmasq4"]


def test_ipv6_lines_need_an_ipv6_address(dpd: Dpd, config: Path) -> None:
    told = dpd("pxe", "options", "--config", config, "--server", "kea", "--address6", "fd00::1", "--json").json
    assert list(told) == ["kea4", "kea6"]
    assert "tftp://[fd00::1]/ipxe.efi" in json.dumps(told["kea6"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arch", "vax"), "vax: no rule has a loader for it"),
        (("--address", "fd00::1"), "fd00::1: expected an IPv4 address"),
        (("--address6", "here"), "here: expected an IPv6 address"),
    ],
)
def test_what_cannot_be_written_for_is_told(dpd: Dpd, config: Path, words: tuple[str, ...], message: str) -> None:
    ended = dpd("pxe", "options", "--config", config, *words)
    assert ended.code == 1
    assert message in ended.err
