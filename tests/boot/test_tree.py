# SPDX-License-Identifier: Apache-2.0
"""Names of a boot image and the bytes behind them."""

from __future__ import annotations

import os

from dpd.boot.tree import BootContext, in_memory


def test_bytes_in_memory_read_like_a_file_each_time() -> None:
    content = bytes(range(256)) * 1000
    made = in_memory("Boot/BCD", content)
    assert made.size_bytes == len(content)
    for _ in range(2):
        descriptor = made.open()
        with os.fdopen(descriptor, "rb") as file:
            assert file.read() == content


def test_other_bytes_have_another_etag() -> None:
    assert in_memory("BCD", b"one").etag != in_memory("BCD", b"two").etag


def test_a_host_of_ipv6_stands_in_brackets() -> None:
    def context(server: str) -> BootContext:
        return BootContext("", "", "", "uefi-x64", server, 80, "boot")

    assert context("fd00::1").host == "[fd00::1]"
    assert context("192.0.2.1").host == "192.0.2.1"
