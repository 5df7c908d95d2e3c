# SPDX-License-Identifier: Apache-2.0
"""The texts for all lease servers, by their names."""

import pytest

from dpd.explain.lease_server_options import lease_server_options

LOADERS = {"ipxe": "boot.ipxe", "uefi-x64": "ipxe.efi"}


@pytest.mark.parametrize(
    ("server4", "server6", "families"),
    [("10.0.0.1", "fd00::1", "46"), ("10.0.0.1", "", "4"), ("", "fd00::1", "6"), ("", "", "")],
)
def test_an_address_that_is_not_there_leaves_its_family_out(server4: str, server6: str, families: str) -> None:
    texts = lease_server_options(server4, server6, LOADERS)
    assert list(texts) == [f"{name}{family}" for family in families for name in ("dnsmasq", "kea", "isc", "windows")]


def test_each_text_names_the_loader_and_ends_its_last_line() -> None:
    for name, text in lease_server_options("10.0.0.1", "fd00::1", LOADERS).items():
        assert "ipxe.efi" in text, name
        assert text.endswith("\n"), name
        assert ("fd00::1" in text) == name.endswith("6"), name


def test_http_boot_is_led_to_the_port_that_dpd_serves_on() -> None:
    texts = lease_server_options("10.0.0.1", "fd00::1", {"uefi-x64-http": "x.efi"}, http_port=9000)
    assert "http://10.0.0.1:9000/boot/x.efi" in texts["kea4"]
    assert "http://[fd00::1]:9000/boot/x.efi" in texts["isc6"]
