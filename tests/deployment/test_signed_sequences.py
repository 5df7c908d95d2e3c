# SPDX-License-Identifier: Apache-2.0
"""What targets take: always of the text that is there now, signed by the key of this point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpd.deployment.signed_sequences import KEPT_IN_MEMORY, SignedSequences
from dpd.sequence.records import SequenceError, SequenceNotFound
from dpd.sequence.signed import read_signed
from dpd.site.model import SiteModel
from dpd.site.store import SiteStore

KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def text(command: str = "true") -> str:
    return f'name = "debian"\n[[step]]\nname = "Command"\ndo = "run_command_line"\ncommand = "{command}"\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SiteStore]:
    with closing(SiteStore(tmp_path / "site.db")) as store:
        yield store


@pytest.fixture
def signed(store: SiteStore) -> SignedSequences:
    return SignedSequences(store.sequences.find, PUBLIC, KEY.sign)


def test_a_version_is_signed_with_its_number(store: SiteStore, signed: SignedSequences) -> None:
    store.sequences.publish(text(), "anna", None, version=3)
    found = signed.find("Debian")
    assert (found.name, found.version) == ("debian", 3)
    assert read_signed(found.document, PUBLIC) == (found.sequence, PUBLIC)
    assert signed.find("debian", 3) is found
    with pytest.raises(SequenceNotFound, match="no task sequence debian@2"):
        signed.find("debian", 2)


def test_more_than_memory_holds_is_signed_anew(store: SiteStore, signed: SignedSequences) -> None:
    for number in range(KEPT_IN_MEMORY + 3):
        store.sequences.publish(text(f"echo {number}"), "anna", None)
        signed.find("debian")
    assert signed.find("debian", 1).sequence.steps()[0].text("command") == "echo 0"
    assert signed.find("debian").version == KEPT_IN_MEMORY + 3


def test_when_policy_becomes_a_site_s_its_text_counts_at_once(store: SiteStore, signed: SignedSequences) -> None:
    store.sequences.publish(text(), "anna", None)
    own = signed.find("debian")
    others = replace(own.version_text, text=text("false"))
    store.mirror("lab", 1, SiteModel(sequences=(others,)), 5.0)
    assert signed.find("debian").sequence.steps()[0].text("command") == "false"
    store.mirror("lab", 2, SiteModel(), 6.0)
    with pytest.raises(SequenceNotFound):
        signed.find("debian")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (text().replace("run_command_line", "run"), r"debian@1: line 4: step 1 .*; is this dpd older"),
        (text().replace('"debian"', '"other"'), "debian@1: its text is of other"),
        ("", "debian@1: "),
    ],
)
def test_what_cannot_be_read_is_not_handed_out(
    store: SiteStore, signed: SignedSequences, wrong: str, message: str
) -> None:
    store.sequences.publish(text(), "anna", None)
    broken = replace(store.sequences.find("debian"), text=wrong)
    store.mirror("lab", 1, SiteModel(sequences=(broken,)), 5.0)
    with pytest.raises(SequenceError, match=message):
        signed.find("debian")
