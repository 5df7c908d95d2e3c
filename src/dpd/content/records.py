# SPDX-License-Identifier: Apache-2.0
"""What the catalogue's rows say, as values: contents, their files, blobs and the folders that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.wim.xml import ImageSummary


@dataclass(frozen=True, slots=True)
class Content:
    """One published version of a package. `name` is the source's, `size_bytes` that of all its files, `added_at` is seconds
    since 1970. `sha256` is that of the file, where there is one, else that of the list of files; `slab_count` is 0 then. A
    tag is a word or "key=value"."""

    package_id: str
    source_version: int
    kind: ContentKind
    format: ContentFormat
    name: str
    size_bytes: int
    sha256: str
    slab_count: int
    file_count: int
    images: tuple[ImageSummary, ...]
    tags: tuple[str, ...]
    added_at: float

    def __str__(self) -> str:
        return f"{self.package_id} version {self.source_version}"

    @property
    def is_one_file(self) -> bool:
        """Whether it is a single blob with slabs, which multicast and receivers can take."""
        return self.format in (ContentFormat.WIM, ContentFormat.RAW)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a content. `path` is relative, with "/" between its parts."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ContentQuery:
    """Which contents: all that is given must hold. `text` stands in the package ID or the name, in any case; a tag without
    "=" also finds every value of that key; `newest` leaves older versions out."""

    text: str = ""
    kind: ContentKind | None = None
    tags: tuple[str, ...] = ()
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """The library in numbers. `saved_bytes` is what would be kept twice if equal files were."""

    contents: int
    content_bytes: int
    blobs: int
    blob_bytes: int
    saved_bytes: int


class BlobState(StrEnum):
    """Whether a blob may be given out."""

    HERE = "here"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob and the root it lies in."""

    sha256: str
    size_bytes: int
    root: int
    state: BlobState


class RootState(StrEnum):
    """Whether a root takes new blobs; one that drains gives its own away."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class RootRow:
    """A folder that holds blobs. The one with id 0 is the library's own, and its path is empty: it goes where that goes."""

    id: int
    path: str
    reserve_bytes: int
    state: RootState


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file of a blob is or may be."""

    sha256: str
    root: int
