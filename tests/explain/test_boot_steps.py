# SPDX-License-Identifier: Apache-2.0
"""Events in plain words."""

from __future__ import annotations

import pytest
from tests.explain.stories import event

from dpd.explain.boot_steps import in_words

STEPS = [
    ("discover", {"client_class": "iPXE", "client_arch": "bios", "family": 6, "relay": "10.1.0.1"}, "asks for a network boot over IPv6 as iPXE, bios, by way of relay 10.1.0.1"),
    ("boot_request", {"address": "10.0.0.5"}, "comes to the boot server (4011) from 10.0.0.5 for its file"),
    ("decision", {"outcome": "abort", "cause": "already_run", "computer": "PC-7", "deployment": "win11"}, "policy: go on with the next boot device (already_run, computer PC-7, deployment win11)"),
    ("decision", {"outcome": "wait", "cause": "unknown_pending", "code": "7KQ4DM"}, "policy: wait for approval (unknown_pending, code 7KQ4DM)"),
    ("image_fetched", {"file": "boot.wim"}, "has all of its boot image; the last of it was boot.wim"),
    ("offer", {"loader": "ipxe.efi", "server": "10.0.0.1", "rule": "uefi-x64"}, "is told to load ipxe.efi from 10.0.0.1 (rule uefi-x64)"),
    ("offer", {"loader": "", "server": "10.0.0.1", "rule": ""}, "is given a boot menu in place of a file by 10.0.0.1"),
    ("ignored", {"reason": "lease_request", "lease_server": "10.0.0.2", "address": "10.0.0.5"}, "asks the lease server 10.0.0.2 for 10.0.0.5; dpd stays out of it"),
    ("ignored", {"reason": "too_early"}, "not answered yet: it has been asking for ? s, less than the response delay"),
    ("ignored", {"reason": "some_new_reason", "detail": "x"}, "not answered: some_new_reason: x"),
    ("ticket", {"id": "0011", "boot_image": "winpe", "expires_in_s": 3600}, "gets boot ticket 0011 for boot image winpe, good for 3600 s"),
    ("tftp", {"file": "a", "verdict": "probe"}, "has asked by TFTP how large a is"),
    ("tftp", {"file": "a", "verdict": "refused", "detail": "no such file"}, "was refused a by TFTP: no such file"),
    ("tftp", {"file": "a", "verdict": "timeout", "bytes": 7, "blksize": 512}, "TFTP of a ended without success (timeout) after 7 bytes in blocks of 512"),
    ("http", {"file": "a", "step": "finished", "bytes": 7}, "has fetched a by HTTP (7 bytes)"),
    ("refused_file", {"file": "a", "reason": "no_ticket"}, "was refused a: no ticket"),
    ("loader_fault", {"file": "a.efi", "detail": "its signature does not hold"}, "a.efi has a fault: its signature does not hold"),
    ("approval", {"state": "approved", "by": "lab"}, "approval: approved by lab"),
    ("target", {"step": "hello", "offers": 1}, "has booted and shown its proof; task sequences for it: 1"),
    ("target", {"step": "refused", "reason": "proof_used", "detail": "boot again"}, "is refused a task sequence (proof_used): boot again"),
    ("target", {"step": "taken", "sequence": "debian", "version": 3, "execution": "00ff"}, "takes task sequence debian version 3, execution 00ff"),
    ("foreign_offer", {"server": "10.0.0.9", "flags": "lease file", "loader": "x"}, "another server, 10.0.0.9, offers a lease, a boot file: x"),
    ("wire_request", {"file": "a"}, "asks again by TFTP for a: seen at the network card"),
    ("conflict", {"kind": "duplicate_guid", "guid": "feed", "others": "aa"}, "its GUID feed is also told by aa"),
    ("send_failed", {"destination": "10.0.0.5:68"}, "the answer could not be sent to 10.0.0.5:68"),
    ("an_event_of_tomorrow", {"speed": 5}, "an_event_of_tomorrow speed=5"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "text"), STEPS)
def test_a_step_is_told(name: str, fields: dict[str, str | int], text: str) -> None:
    assert in_words(event(0, name, **fields)) == text
