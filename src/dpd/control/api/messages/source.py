# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about sources of content."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.control.api.messages.message import _END, Request
from dpd.distribution.pulling.sources import SourceStatus

SourceName = Annotated[
    str, Meta(pattern=f"^[A-Za-z0-9._-]{{1,64}}{_END}", description="A source, as the settings call it")
]


class SourceParameters(Request):
    source: SourceName


class SourceList(Struct):
    """In the order of the settings."""

    sources: list[SourceStatus]
