# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about bundles."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.content.library import Content
from dpd.control.api.messages.message import Request

PackageNames = Annotated[
    str, Meta(max_length=60000, description="Such as LAB00001,LAB00002:3 for its version 3; empty is everything")
]
PublicKey = Annotated[str, Meta(max_length=64, description="The key of the exporting dpd, in 64 hexadecimal digits")]
OptionalPath = Annotated[str, Meta(max_length=4095, description="An absolute path as the daemon sees it")]


class ExportParameters(Request):
    """The body, where there is one, is the list of holdings of who will import; what it has is left out."""

    packages: PackageNames = ""


class ImportBundleParameters(Request):
    """`key` is needed for a bundle of a dpd that is none of the sources."""

    key: PublicKey = ""


class ExportRequest(Request):
    """Exactly one of `path`, a bundle to write, and `repository`, a folder for a web server. `since` is a list of holdings."""

    path: OptionalPath = ""
    repository: OptionalPath = ""
    packages: PackageNames = ""
    since: OptionalPath = ""


class ImportRequest(Request):
    path: OptionalPath
    key: PublicKey = ""


class ImportedBundle(Struct):
    """`contents` came with the bundle, `known` were here before. Bytes of files that were written, and that were here."""

    contents: list[Content]
    known: list[Content]
    received_bytes: int
    present_bytes: int


class ImportLine(Struct):
    """The only line of the reply."""

    content: ImportedBundle
