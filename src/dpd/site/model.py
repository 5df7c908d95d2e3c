# SPDX-License-Identifier: Apache-2.0
"""All that a site says, as one value: what a declaration is compared with and what distribution points are told."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dpd.site.records import (
    AffinityMode,
    ApprovalRule,
    Boundary,
    Collection,
    Computer,
    Deployment,
    Point,
    SiteError,
    Variable,
)
from dpd.site.sequences import SequenceNumber, SequenceVersion


@dataclass(frozen=True, slots=True)
class SiteModel:
    """Each part in the order of its names or ids; an id 0 is one that is still to be given. `maintenance` "" is none."""

    computers: tuple[Computer, ...] = ()
    collections: tuple[Collection, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    boundaries: tuple[Boundary, ...] = ()
    points: tuple[Point, ...] = ()
    rules: tuple[ApprovalRule, ...] = ()
    maintenance: str = ""
    affinity_mode: AffinityMode = AffinityMode.NONE
    variables: tuple[Variable, ...] = ()
    sequences: tuple[SequenceVersion, ...] = ()
    sequence_numbers: tuple[SequenceNumber, ...] = ()  # also of what was taken out


def encode_model(model: SiteModel) -> bytes:
    """As JSON, with what is secret: for distribution points, and for nobody's eyes."""
    return msgspec.json.encode(model)


def decode_model(text: bytes) -> SiteModel:
    """Raises SiteError."""
    try:
        return msgspec.json.decode(text, type=SiteModel)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SiteError(f"site model: {error}") from None
