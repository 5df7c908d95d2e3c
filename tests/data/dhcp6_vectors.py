# SPDX-License-Identifier: Apache-2.0
"""Captured DHCPv6 payloads by name; where they come from is in dhcp6.md."""

from pathlib import Path

VECTORS: dict[str, bytes] = {
    name: bytes.fromhex(content)
    for name, content in map(str.split, Path(__file__).with_name("dhcp6.txt").read_text().splitlines())
}
