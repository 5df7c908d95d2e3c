# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about task sequences, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.control.api.messages.message import _END, Request
from dpd.sequence.reference import MAX_VERSION, NAME_PATTERN
from dpd.site.sequences import PublishedVersion

SequenceName = Annotated[str, Meta(pattern=f"^{NAME_PATTERN}{_END}", description="A task sequence's name")]
Version = Annotated[int, Meta(ge=0, le=MAX_VERSION, description="One version of it; 0 is the newest")]
NewVersion = Annotated[int, Meta(ge=0, le=MAX_VERSION, description="The number that it gets; 0 is the next one")]
GoneVersion = Annotated[int, Meta(ge=0, le=MAX_VERSION, description="One version of it; 0 is every one")]


class SequenceParameters(Request):
    sequence: SequenceName
    version: Version = 0


class PublishSequenceParameters(Request):
    version: NewVersion = 0


class RemoveSequenceParameters(Request):
    sequence: SequenceName
    version: GoneVersion = 0


class SequenceList(Struct):
    """The newest version of each, by name."""

    sequences: list[PublishedVersion]


class SequenceText(Struct):
    """A version as it was written, and as targets take it: signed; "" at a site server, whose points sign."""

    name: str
    version: int
    text: str
    document: str


class SequencesRemoved(Struct):
    """What there was, the newest first."""

    removed: list[PublishedVersion]
