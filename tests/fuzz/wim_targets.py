# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of the WIM reader: what anybody may hand in as an image.

`wim`: a whole file. `wim_xml`: its XML data, as text that is made UTF-16 before it is read, since the fuzzer would hardly
come through the header, the offsets and the encoding at once. Whatever comes is refused in one line that names the file,
or is a WIM of which everything that is told is so.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.content.wim_builder import blob_entry, encode_xml, image, image_xml, make_pipable, make_wim, set_field
from tests.content.wim_builder import solid_resource as solid_of

from dpd.content.description import TAG
from dpd.content.wim import reader as wim
from dpd.content.wim.blobs import entries
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES
from dpd.content.wim.integrity import IntegrityVerifier
from dpd.content.wim.tags import MAX_TAGS, image_tags
from dpd.content.wim.verification import verify_wim
from dpd.content.wim.xml import ImageSummary, read_images
from dpd.errors import ContentCorrupt

NAME = "fuzzed.wim"
MAX_ERROR_CHARACTERS = 600


def whole(data: bytes) -> None:
    """Read as publishing reads it: the tables, then each byte by the integrity table, then what the blobs' hashes say."""
    descriptor = os.memfd_create("wim")
    try:
        os.pwrite(descriptor, data, 0)
        _read(descriptor, data)
    except ContentCorrupt as error:
        _check_words(str(error))
    finally:
        os.close(descriptor)


def _read(descriptor: int, data: bytes) -> None:
    summary = wim.check(descriptor, NAME)
    assert summary == wim.check(descriptor, NAME)
    assert summary.size_bytes == len(data)
    assert 1 <= summary.part_number <= summary.total_parts
    assert 0 <= summary.boot_index <= len(summary.images)
    _check_images(summary.images)
    for solid in summary.blobs.solid_resources:
        assert HEADER_BYTES <= solid.offset <= solid.offset + solid.table_bytes <= solid.offset + solid.size_bytes
        assert solid.offset + solid.size_bytes <= len(data)
        assert solid.chunk_count * solid.chunk_bytes >= solid.original_size
    file = WimFile(descriptor)
    listed = list(entries(file, file.read_header()))
    assert summary.blobs.blob_count + summary.blobs.metadata_count <= len(listed)
    assert summary.blobs.stored_count <= len(listed)
    if all(each.is_stored for each in listed):  # else wimlib's program would be asked
        checked = verify_wim([descriptor], [NAME], lambda done, total: None)
        assert checked.checked <= checked.resources
    if summary.integrity is not None:
        verifier = IntegrityVerifier(summary.integrity)
        for at in range(0, len(data), 1000):
            try:
                verifier.update(data[at : at + 1000])
            except ContentCorrupt as error:
                raise ContentCorrupt(f"{NAME}: {error}") from None
        verifier.finish()


def xml(data: bytes) -> None:
    """Images of their indexes in order, or a reason."""
    text = data.decode("utf-8", "replace")
    try:
        _check_images(read_images(encode_xml(text)))
    except ContentCorrupt as error:
        _check_words(f"{NAME}: {error}")


def _check_images(images: tuple[ImageSummary, ...]) -> None:
    assert [each.index for each in images] == list(range(1, len(images) + 1))
    for each in images:
        assert ImageSummary.from_row(each.to_row()) == each
        assert each.size_bytes >= 0
        assert each.file_count >= 0
        assert each.created_at >= 0.0
    tags = image_tags(images)
    assert len(tags) <= MAX_TAGS
    assert all(TAG.fullmatch(tag) for tag in tags)


def _check_words(words: str) -> None:
    assert words.startswith(f"{NAME}: ")
    assert len(words) <= MAX_ERROR_CHARACTERS
    assert words.isprintable(), words


_WINDOWS = (
    "<WINDOWS><ARCH>9</ARCH><EDITIONID>Professional</EDITIONID><LANGUAGES><LANGUAGE>de-DE</LANGUAGE>"
    "<DEFAULT>de-DE</DEFAULT></LANGUAGES><VERSION><MAJOR>10</MAJOR><MINOR>0</MINOR><BUILD>26100</BUILD>"
    "<SPBUILD>1</SPBUILD></VERSION></WINDOWS><FILECOUNT>7</FILECOUNT><DIRCOUNT>2</DIRCOUNT>"
    "<HARDLINKBYTES>5</HARDLINKBYTES><FLAGS>Core</FLAGS><DESCRIPTION>d</DESCRIPTION>"
    "<CREATIONTIME><HIGHPART>0x01DD79F0</HIGHPART><LOWPART>0x00000001</LOWPART></CREATIONTIME>"
)
_TWO = image_xml(image(1, extra=_WINDOWS), image(2, "two"))


def _solid_wim() -> bytes:
    resource = solid_of((b"c" * 100, b"d" * 50), 2000)
    blobs = blob_entry(len(resource), HEADER_BYTES, flags=0x10, original_size=1 << 32)
    blobs += blob_entry(1500, 0, flags=0x10, original_size=0) + blob_entry(500, 1500, flags=0x10, original_size=0)
    return make_wim(resources=(resource,), blobs=blobs, version=0xE00)


def _compressed_wim() -> bytes:
    blobs = blob_entry(300, HEADER_BYTES, flags=4, original_size=90_000)
    blobs += blob_entry(200, HEADER_BYTES + 300, flags=6, original_size=40_000)
    return make_wim(resources=(b"r" * 500,), blobs=blobs)


SEEDS: dict[str, list[bytes]] = {
    "wim": [
        make_wim(),
        make_wim(chunk_bytes=0),
        make_pipable(make_wim()),
        make_wim(xml=encode_xml(_TWO), image_count=2),
        make_wim(part=(2, 3), guid=b"g" * 16),
        set_field(make_wim(), "boot_index", 1),
        _solid_wim(),
        _compressed_wim(),
    ],
    "wim_xml": [_TWO.encode(), image_xml(image(1)).encode(), b"<WIM></WIM>"],
}
TARGETS: dict[str, Callable[[bytes], None]] = {"wim": whole, "wim_xml": xml}
MAX_BYTES = {"wim": 8192, "wim_xml": 4096}
