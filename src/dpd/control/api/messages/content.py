# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about content."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dpd.content.garbage import GcReport
from dpd.content.library import Content
from dpd.content.records import FileEntry
from dpd.control.api.messages.message import (
    AbsolutePath,
    Failure,
    FileName,
    PackageId,
    Progress,
    Request,
    SourceVersion,
)

_END = r"(?![\s\S])"
_TAG = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(=[^\x00-\x1f\x7f=,]{1,200})?"

Kind = Literal["os-image", "boot-image", "os-upgrade-package", "driver-package", "package", "file"]
Tag = Annotated[str, Meta(pattern=rf"^{_TAG}{_END}", description='A word, or "key=value"')]
Tags = Annotated[
    str, Meta(pattern=rf"^({_TAG}(,{_TAG})*)?{_END}", max_length=20000, description="Tags, with a comma between them")
]
Limit = Annotated[int, Meta(ge=1, le=1000, description="At most so many")]
Cursor = Annotated[
    str,
    Meta(
        pattern=rf"^([A-Za-z0-9][A-Za-z0-9._-]{{0,63}}/[0-9]{{1,10}})?{_END}",
        description="What `next` of the page before says",
    ),
]


class ContentListParameters(Request):
    """All that is given must hold. A tag without "=" also finds every value of that key; `newest` leaves older versions out."""

    after: Cursor = ""
    limit: Limit = 1000
    text: Annotated[str, Meta(max_length=200, description="Stands in the package ID or the name, in any case")] = ""
    kind: Kind | None = None
    tags: Tags = ""
    newest: Literal["true", "false"] = "false"


class FileListParameters(Request):
    package_id: PackageId
    source_version: SourceVersion | None = None
    after: Annotated[str, Meta(max_length=4000, description="What `next` of the page before says")] = ""
    limit: Limit = 1000


class UploadParameters(Request):
    """Of a POST whose body is the file itself; none of them with a JSON body."""

    package_id: PackageId | None = None
    source_version: SourceVersion | None = None
    name: FileName = "image.wim"
    kind: Kind | None = None
    tags: Tags = ""


class PublishRequest(Request):
    """Publish a file, a folder, or a split WIM by its first part, that the daemon can read. Without a version it becomes the
    newest plus one; without a kind, what is likely."""

    path: AbsolutePath
    package_id: PackageId
    source_version: SourceVersion | None = None
    kind: Kind | None = None
    tags: list[Tag] = []  # noqa: RUF012 - msgspec copies it for each request


class TagRequest(Request):
    """Tags to give, and tags to take away."""

    add: list[Tag] = []  # noqa: RUF012 - msgspec copies it for each request
    remove: list[Tag] = []  # noqa: RUF012 - msgspec copies it for each request


class GcRequest(Request):
    """Without `delete` nothing is removed."""

    delete: bool = False


class ContentList(Struct):
    """`next` is what to give as `after` for the next page; empty on the last one."""

    content: list[Content]
    next: str = ""


class FileList(Struct):
    """`next` is what to give as `after` for the next page; empty on the last one."""

    files: list[FileEntry]
    next: str = ""


class GcLine(Struct, omit_defaults=True):
    """One line of a long reply: exactly one of the three is there; the last line has no `progress`, which counts files."""

    progress: Progress | None = None
    content: GcReport | None = None
    error: Failure | None = None
