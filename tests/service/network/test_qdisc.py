# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of its queues."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest

from dpd.service.network.qdisc import TC_H_INGRESS, TC_H_ROOT, TCA_KIND, _read_queue, heeds_pacing, queue_kinds

NAME = f"dpdq{os.getpid() % 10000}"


def test_loopback_has_no_queue_that_would_heed() -> None:
    assert queue_kinds("lo") <= {"noqueue"}
    assert not heeds_pacing(queue_kinds("lo"))


def test_an_interface_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no interface"):
        queue_kinds("nope7")


@pytest.mark.parametrize(
    ("kinds", "heeds"),
    [({"fq"}, True), ({"fq_codel"}, False), ({"fq", "pfifo_fast"}, False), (set(), False), ({"etf"}, False)],
)
def test_fq_alone_heeds(kinds: set[str], heeds: bool) -> None:
    assert heeds_pacing(frozenset(kinds)) is heeds


def test_the_queue_under_a_real_interface_is_found() -> None:
    """pfifo, since every kernel has it; the answer is the kernel's own."""
    if os.geteuid() or not shutil.which("tc") or not shutil.which("ip"):
        pytest.skip("needs root and iproute2")
    made = subprocess.run(
        ["ip", "link", "add", NAME, "type", "veth", "peer", NAME + "p"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this kernel makes no veth")
    try:
        subprocess.run(["tc", "qdisc", "replace", "dev", NAME, "root", "pfifo"], check=True)
        assert queue_kinds(NAME) == {"pfifo"}
    finally:
        subprocess.run(["ip", "link", "delete", NAME], check=True)


def test_a_queue_is_read_past_attributes_of_other_kinds() -> None:
    def attribute(kind: int, content: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)

    def message(parent: int, *attributes: bytes) -> bytes:
        return struct.pack("=BBHiIII", 0, 0, 0, 7, 0x10000, parent, 0) + b"".join(attributes)

    kind = attribute(TCA_KIND, b"fq\0")
    assert _read_queue(message(TC_H_ROOT, attribute(12, b"12345"), kind)) == (7, TC_H_ROOT, "fq")
    assert _read_queue(message(TC_H_INGRESS)) == (7, TC_H_INGRESS, "")
