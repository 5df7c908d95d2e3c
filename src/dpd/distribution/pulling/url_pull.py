# SPDX-License-Identifier: Apache-2.0
"""A file at a plain URL, for which the operator has given the SHA-256: nobody describes it, so its description is made of
what the server says of its size and, for a WIM, of what its own header and XML say, read by two small ranges before the
rest comes. The hash is what counts in the end."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from dpd.content import repository
from dpd.content.description import Description
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Library
from dpd.content.records import FileEntry
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES, has_magic
from dpd.content.wim.tags import image_tags
from dpd.content.wim.xml import MAX_XML_BYTES, ImageSummary, read_images
from dpd.distribution.jobs.events import Tell
from dpd.distribution.pulling.http_connection import Origin, shown
from dpd.distribution.pulling.http_source import UrlHead, UrlSession, UrlSource
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure
from dpd.distribution.pulling.supply import Lane, Supply
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, JobError
from dpd.telemetry.events import Value

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, slots=True)
class UrlOrder:
    """What a job's options ask for."""

    url: str
    sha256: str
    ca_file: str = ""

    @classmethod
    def of(cls, options: Mapping[str, object]) -> UrlOrder | None:
        """None where they name no URL. Raises JobError."""
        url, sha256 = str(options.get("url", "")), str(options.get("sha256", "")).lower()
        if not url:
            return None
        if not re.match(r"https?://[^\s/]", url):
            raise JobError(f'url "{shown(url)[:200]}": expected one that begins with http:// or https://')
        try:
            Origin.of(url)
        except ValueError as error:
            raise JobError(f'url "{shown(url)[:200]}": {error}') from None
        if not _SHA256.fullmatch(sha256):
            raise JobError(
                f'sha256 "{sha256[:80]}": expected the 64 hexadecimal digits of what `sha256sum` says of the file'
            )
        return cls(url, sha256, str(options.get("ca_file", "")))

    def supply(self, rng: random.Random, stats: PullStats, tell: Tell, told: Mapping[str, Value]) -> Supply:
        """The one place that has it."""
        return Supply((UrlSource(self.url, self.sha256, self.ca_file),), rng, stats, tell, told)


def describe_url(
    library: Library, lane: Lane, order: UrlOrder, package_id: str, source_version: int | None
) -> Description:
    """What will come. Raises SourceUnavailable."""

    def ask(source: Source, session: Session) -> tuple[UrlHead, tuple[ImageSummary, ...] | None]:
        assert isinstance(session, UrlSession)
        head = session.head(HEADER_BYTES)
        return head, _images(source.name, session, head, order)

    head, images = lane.ask(shown(order.url), ask)
    name = _NAME.sub("_", unquote(urlsplit(order.url).path).rpartition("/")[2])[:200].strip(".") or "file"
    return Description(
        package_id=package_id,
        source_version=source_version or _version(library, package_id, order.sha256),
        kind=ContentKind.FILE if images is None else ContentKind.OS_IMAGE,
        content_format=ContentFormat.RAW if images is None else ContentFormat.WIM,
        name=name,
        size_bytes=head.size_bytes,
        sha256=order.sha256,
        images=images or (),
        tags=image_tags(images or ()),
        files=(FileEntry(name, head.size_bytes, order.sha256),),
    )


def _version(library: Library, package_id: str, sha256: str) -> int:
    """That of the same file, if it is the newest one; else the next one."""
    try:
        newest = library.find(package_id)
    except ContentNotFound:
        return 1
    return newest.source_version + (newest.sha256 != sha256)


def _images(name: str, session: UrlSession, head: UrlHead, order: UrlOrder) -> tuple[ImageSummary, ...] | None:
    """What is in a WIM; None of anything else, and where the server has no ranges to look into it."""
    if not has_magic(head.begin) or not head.has_ranges:
        return None
    remote = _RemoteWim(session, head.size_bytes, repository.blob(order.sha256))
    try:
        header = remote.read_header()
        images = read_images(remote.read_resource(header.xml_data, "XML data", MAX_XML_BYTES))
    except ContentCorrupt as error:
        raise SourceFailure(name, Outcome.WRONG, f"{shown(order.url)}: {error}") from None
    if header.total_parts != 1:
        raise ContentError(
            f"{shown(order.url)}: part {header.part_number} of a WIM split into {header.total_parts}; fetch all parts and `dpd content publish` the first"
        )
    return images


class _RemoteWim(WimFile):
    """A WIM at the other end, of which only what is asked for comes."""

    def __init__(self, session: UrlSession, size_bytes: int, path: str) -> None:
        self.size_bytes = size_bytes
        self._session = session
        self._path = path

    def read(self, offset: int, length: int) -> bytes:
        """Raises SourceFailure."""
        stream = self._session.open(self._path, offset, offset + length, self.size_bytes)
        try:
            content, piece = bytearray(), memoryview(bytearray(64 << 10))
            while count := stream.readinto(piece):
                content += piece[:count]
            return bytes(content)
        finally:
            stream.close()
