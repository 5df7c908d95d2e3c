# SPDX-License-Identifier: Apache-2.0
"""Who the probe pretends to be."""

from __future__ import annotations

from dpd_probe.client import ARCHITECTURES, Client


def test_the_vendor_class_is_that_of_firmware() -> None:
    assert Client("52:54:00:00:00:01", "uefi-x64").vendor_class == "PXEClient:Arch:00007:UNDI:003016"
    assert Client("52:54:00:00:00:01", "uefi-arm64-http").vendor_class == "HTTPClient:Arch:00019:UNDI:003016"


def test_no_two_architectures_have_one_code() -> None:
    assert len(set(ARCHITECTURES.values())) == len(ARCHITECTURES)


def test_the_hardware_address_as_bytes() -> None:
    assert Client("52:54:00:00:00:01", "bios").hardware == b"\x52\x54\0\0\0\1"
