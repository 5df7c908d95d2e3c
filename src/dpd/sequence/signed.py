# SPDX-License-Identifier: Apache-2.0
"""A published sequence as the document that a target takes: canonical JSON, signed like manifests by the library's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from dpd.content.signatures.document import Fields, canonical, join_signature, split_signature
from dpd.errors import ContentCorrupt
from dpd.sequence.document import tell
from dpd.sequence.records import SequenceError, TaskSequence
from dpd.sequence.reference import MAX_VERSION
from dpd.sequence.tree import read_tree, write_tree

FORMAT: Final = (
    "dpd-sequence/1"  # signed with the rest, so that a signature never counts for a document of another kind
)
_WHAT: Final = "sequence"

Sign = Callable[[bytes], bytes]  # the 64 bytes for a body


def write_signed(sequence: TaskSequence, public_key: bytes, sign: Sign) -> str:
    """The document of a sequence that has its version."""
    assert sequence.version > 0, "unpublished"
    body = canonical({"format": FORMAT, "version": sequence.version, "sequence": write_tree(sequence)})
    return join_signature(_WHAT, body, public_key, sign(body)).decode("ascii")


def read_signed(document: str, public_key: bytes | None) -> tuple[TaskSequence, bytes]:
    """The sequence and who signed it. With None any key may have: that shows damage, not forgery. Raises SequenceError."""
    try:
        body, signer = split_signature(document.encode("utf-8", "replace"), public_key, _WHAT)
        fields = Fields(body, {"format", "version", "sequence"}, _WHAT, _WHAT)
        fields.choice("format", FORMAT)
        version = fields.number("version", 1, MAX_VERSION)
        tree = fields.value("sequence")
    except ContentCorrupt as error:
        raise SequenceError(str(error)) from None
    sequence, problems = read_tree(tree, lambda path: 0)
    if sequence is None:
        raise SequenceError(
            f"sequence: {tell(problems[0])}; is the boot image older than the distribution point? Build it again"
        )
    return replace(sequence, version=version), signer
