# SPDX-License-Identifier: Apache-2.0
"""Published task sequences as targets take them: read, and signed by this point's own key.

The site's word is the text; each point signs what it gives its machines, so that a boot image with the point's key in it takes that
point's sequences, whoever wrote them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from dpd.sequence.document import read_document, tell
from dpd.sequence.records import SequenceError, TaskSequence
from dpd.sequence.signed import Sign, write_signed
from dpd.site.sequences import SequenceVersion

KEPT_IN_MEMORY: Final = 64  # read and signed; a target asks every few seconds

Find = Callable[[str, int], SequenceVersion]  # `SequenceBook.find`


@dataclass(frozen=True, slots=True)
class SignedSequence:
    """One version: the signed `document` that targets take, and the sequence itself."""

    version_text: SequenceVersion
    document: str = field(repr=False)
    sequence: TaskSequence = field(repr=False)

    @property
    def name(self) -> str:
        return self.version_text.name

    @property
    def version(self) -> int:
        return self.version_text.version


class SignedSequences:
    """Any thread. `find` tells the version that is there now."""

    def __init__(self, find: Find, public_key: bytes, sign: Sign) -> None:
        self._find = find
        self._public_key, self._sign = public_key, sign
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], SignedSequence] = OrderedDict()

    def find(self, name: str, version: int = 0) -> SignedSequence:
        """This version, or with 0 the newest. Raises SequenceNotFound, and SequenceError where this dpd cannot read it."""
        there = self._find(name, version)
        key = there.name.lower(), there.version
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.version_text == there:
                self._kept.move_to_end(key)
                return kept
        signed = self._signed(there)
        with self._lock:
            self._kept[key] = signed
            while len(self._kept) > KEPT_IN_MEMORY:
                self._kept.popitem(last=False)
        return signed

    def _signed(self, there: SequenceVersion) -> SignedSequence:
        read = read_document(there.text)
        if read.sequence is None:
            raise SequenceError(
                f"{there.reference}: {tell(read.problems[0])}; is this dpd older than the one that it was published at? Else publish it once more, and check the disk"
            )
        if read.sequence.name.lower() != there.name.lower():
            raise SequenceError(f"{there.reference}: its text is of {read.sequence.name}; publish it once more")
        sequence = replace(read.sequence, version=there.version)
        return SignedSequence(there, write_signed(sequence, self._public_key, self._sign), sequence)
