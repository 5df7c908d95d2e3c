# SPDX-License-Identifier: Apache-2.0
"""Signed sequences: what a target takes, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import dpd
from dpd.content.signatures.document import canonical, join_signature
from dpd.sequence.document import read_document
from dpd.sequence.records import SequenceError, TaskSequence
from dpd.sequence.signed import read_signed, write_signed

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SOURCES = Path(dpd.__path__[0]).parent
PUBLIC = KEY.public_key().public_bytes_raw()
TEXT = """\
name = "debian"
description = "Grüße"
[[step]]
name = "Restart"
do = "restart"
[[step]]
name = "Apply"
[[step.step]]
name = "Image"
do = "apply_os_image"
package = "LAB00001"
volume = "root"
condition = { none = [{ architecture = "arm64" }] }
"""


@pytest.fixture
def sequence() -> TaskSequence:
    read = read_document(TEXT).sequence
    assert read is not None
    return replace(read, version=3)


def test_what_is_signed_is_read_with_its_version_and_signer(sequence: TaskSequence) -> None:
    document = write_signed(sequence, PUBLIC, KEY.sign)
    assert read_signed(document, PUBLIC) == (sequence, PUBLIC)
    assert read_signed(document, None) == (sequence, PUBLIC)


def test_equal_sequences_are_equal_bytes(sequence: TaskSequence) -> None:
    assert write_signed(sequence, PUBLIC, KEY.sign) == write_signed(replace(sequence), PUBLIC, KEY.sign)


def test_another_key_s_is_refused(sequence: TaskSequence) -> None:
    document = write_signed(sequence, PUBLIC, KEY.sign)
    with pytest.raises(SequenceError, match="signed by the key"):
        read_signed(document, bytes(32))


@pytest.mark.parametrize("change", [("LAB00001", "LAB00002"), ('"version":3', '"version":4'), ("arm64", "x64")])
def test_a_change_is_seen(sequence: TaskSequence, change: tuple[str, str]) -> None:
    document = write_signed(sequence, PUBLIC, KEY.sign)
    with pytest.raises(SequenceError, match="signature does not fit"):
        read_signed(document.replace(*change), PUBLIC)


def signed(body: Any) -> str:
    text = canonical(body)
    return join_signature("sequence", text, PUBLIC, KEY.sign(text)).decode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "dpd-manifest/1"}, "expected 'dpd-sequence/1'"),
        ({"version": 0}, "version is 0"),
        ({"version": True}, "version"),
        ({"more": 1}, "unknown keys 'more'"),
        ({"sequence": []}, "expected a table"),
        ({"sequence": {"name": "x", "step": [{"name": "y", "do": "of_next_year"}]}}, "is the boot image older"),
    ],
)
def test_a_signed_body_of_another_form_is_refused(sequence: TaskSequence, change: dict[str, Any], told: str) -> None:
    body = json.loads(write_signed(sequence, PUBLIC, KEY.sign))["sequence"] | change
    with pytest.raises(SequenceError, match=told):
        read_signed(signed(body), PUBLIC)


@pytest.mark.parametrize("document", ["", "x", "{}", "[" * 9999, "\ud800", '{"sequence":{}}'])
def test_what_is_no_document_is_refused(document: str) -> None:
    with pytest.raises(SequenceError):
        read_signed(document, None)


def test_a_target_reads_it_with_the_standard_library_alone(sequence: TaskSequence) -> None:
    look = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r})\n"
        "import dpd.sequence.conditions, dpd.sequence.exchange\n"
        "from dpd.sequence.signed import read_signed\n"
        "from dpd.sequence.variables import Variables\n"
        f"sequence, signer = read_signed(sys.stdin.read(), bytes.fromhex({PUBLIC.hex()!r}))\n"
        "print(sequence.name, sequence.version, *(step.id for step in sequence.steps()))\n"
    )
    document = write_signed(sequence, PUBLIC, KEY.sign)
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", look], input=document, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "debian 3 1 2.1\n"
