# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about the folders that hold blobs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.content.storage.roots import RootStatus
from dpd.control.api.messages.message import AbsolutePath, Request

RootNumber = Annotated[int, Meta(ge=0, le=2**53 - 1, description="A root, by the number it is listed under")]
ReserveBytes = Annotated[int, Meta(ge=0, le=2**60 - 1, description="Bytes that new content leaves free there")]


class RootParameters(Request):
    root: RootNumber


class AddRootRequest(Request):
    """A folder that this machine sees; it is made if it is not there, and may be the mount point of a disk."""

    path: AbsolutePath
    reserve_bytes: ReserveBytes = 0


class ChangeRootRequest(Request):
    """What is not given stays. With `active` false a root takes no new content, and keeps what it has until it is drained."""

    reserve_bytes: ReserveBytes | None = None
    active: bool | None = None


class RootList(Struct):
    roots: list[RootStatus]
