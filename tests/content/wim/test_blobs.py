# SPDX-License-Identifier: Apache-2.0
"""The blob table and the geometry of what it names; real ones are compared with wimlib's view in tests/interop."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.content.wim_builder import HEADER_BYTES, RESOURCES, blob_entry, make_wim, set_field, solid_resource

from dpd.content.wim.blobs import BlobSummary, SolidResource, check_blobs, chunk_table_bytes, entries
from dpd.content.wim.file import WimFile
from dpd.errors import ContentCorrupt

FREE, METADATA, COMPRESSED, SOLID = 0x1, 0x2, 0x4, 0x10
MAGIC_SIZE = 1 << 32
VERSION_SOLID = 0xE00
CHUNKS = (b"a" * 700, b"b" * 1024, b"c" * 9)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[WimFile]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield WimFile(descriptor)
    finally:
        os.close(descriptor)


def summed_up(tmp_path: Path, content: bytes) -> BlobSummary:
    (tmp_path / "image.wim").write_bytes(content)
    with opened(tmp_path / "image.wim") as file:
        return check_blobs(file, file.read_header())


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ContentCorrupt) as refused:
        summed_up(tmp_path, content)
    return str(refused.value)


def solid_wim(*blobs: bytes, resource: bytes = b"") -> bytes:
    """One solid resource of 2100 bytes, and entries of blobs in it."""
    body = resource or solid_resource(CHUNKS, 2100)
    table = blob_entry(len(body), HEADER_BYTES, flags=SOLID, original_size=MAGIC_SIZE)
    return make_wim(resources=(body,), blobs=table + b"".join(blobs), version=VERSION_SOLID)


def in_solid(size: int, offset: int) -> bytes:
    return blob_entry(size, offset, flags=SOLID, original_size=0)


def test_the_entries_stand_as_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "image.wim").write_bytes(make_wim())
    with opened(tmp_path / "image.wim") as file:
        first, second = entries(file, file.read_header())
    assert (first.number, first.offset, first.blob_bytes, first.is_stored) == (0, 208, len(RESOURCES[0]), True)
    assert (second.sha1, second.part) == (hashlib.sha1(RESOURCES[1]).digest(), 1)


def test_blobs_and_metadata_are_counted(tmp_path: Path) -> None:
    table = (
        blob_entry(9, 208, flags=METADATA)
        + blob_entry(10, 208)
        + blob_entry(20, 300, flags=COMPRESSED, original_size=99)
    )
    assert summed_up(tmp_path, make_wim(blobs=table)) == BlobSummary(2, 1, 109, 2, 0, ())


@pytest.mark.parametrize(
    ("original_size", "table_bytes"),
    [(0, 0), (1, 0), (32768, 0), (32769, 4), ((1 << 32) - 1, 131071 * 4), (1 << 32, 131071 * 8)],
)
def test_a_chunk_table_has_no_entry_for_the_first_chunk(original_size: int, table_bytes: int) -> None:
    assert chunk_table_bytes(original_size, 32768) == table_bytes


def test_a_resource_behind_the_end_is_named(tmp_path: Path) -> None:
    table = blob_entry(10, HEADER_BYTES) + blob_entry(1 << 30, HEADER_BYTES)
    assert "the resource of blob 1 is at bytes 208 to 1073742031" in refusal(tmp_path, make_wim(blobs=table))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (blob_entry(10, 207), "blob 0 is at byte 207, within the header"),
        (blob_entry(10, 208, original_size=11), "blob 0 is stored in 10 bytes, but has 11"),
        (
            blob_entry(8, 208, flags=COMPRESSED, original_size=32768 * 3),
            "a resource of 8, where its chunk table alone takes 8",
        ),
        (blob_entry(0, 208, flags=COMPRESSED, original_size=1), "1 bytes in a resource of 0"),
        (blob_entry(9, 208, flags=COMPRESSED, original_size=2**64 - 1), "where its chunk table alone takes"),
    ],
)
def test_a_resource_that_cannot_hold_its_blob_is_named(tmp_path: Path, entry: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, make_wim(blobs=entry))


def test_compression_that_the_header_does_not_tell_is_refused(tmp_path: Path) -> None:
    packed = make_wim(blobs=blob_entry(9, 208, flags=COMPRESSED, original_size=10))
    assert "blob 0 is compressed, but the header" in refusal(tmp_path, set_field(packed, "flags", 0))
    assert "chunk size 1000, expected a power of two" in refusal(tmp_path, set_field(packed, "chunk_bytes", 1000))


def test_free_entries_and_those_of_other_parts_count_not(tmp_path: Path) -> None:
    table = blob_entry(1 << 30, 208, flags=FREE) + blob_entry(1 << 30, 208, part=2)
    assert summed_up(tmp_path, make_wim(blobs=table)).blob_count == 0


def test_a_blob_table_longer_than_one_read_is_checked_to_its_end(tmp_path: Path) -> None:
    table = blob_entry(1, HEADER_BYTES) * 20_000 + blob_entry(1 << 30, HEADER_BYTES)
    assert "the resource of blob 20000 " in refusal(tmp_path, make_wim(blobs=table))


def test_a_solid_resource_tells_its_geometry(tmp_path: Path) -> None:
    found = summed_up(tmp_path, solid_wim(in_solid(2000, 0), in_solid(100, 2000)))
    size = 16 + 12 + sum(map(len, CHUNKS))
    assert found == BlobSummary(2, 0, 2100, 0, 0, (SolidResource(208, size, 2100, "lzms", 1024, 3, 28),))


def test_the_bit_means_nothing_before_windows_8(tmp_path: Path) -> None:
    plain = make_wim(blobs=blob_entry(10, 208, flags=SOLID))
    assert summed_up(tmp_path, plain).stored_count == 1


def test_offsets_count_through_all_resources_of_a_run(tmp_path: Path) -> None:
    first, second = solid_resource((b"x",), 10), solid_resource((b"y",), 20)
    places = [
        blob_entry(len(first), 208, flags=SOLID, original_size=MAGIC_SIZE),
        in_solid(20, 10),  # a resource may stand behind the blobs in it
        blob_entry(len(second), 208 + len(first), flags=SOLID, original_size=MAGIC_SIZE),
    ]

    def wim(*more: bytes) -> bytes:
        return make_wim(resources=(first, second), blobs=b"".join([*places, *more]), version=VERSION_SOLID)

    assert len(summed_up(tmp_path, wim(in_solid(10, 0))).solid_resources) == 2
    assert "blob 3 is at bytes 9 to 10 of solid resources" in refusal(tmp_path, wim(in_solid(2, 9)))
    assert "of which there are 30" in refusal(tmp_path, wim(in_solid(2, 29)))
    assert "of which there are 30" in refusal(tmp_path, wim(in_solid(1, 30)))
    apart = wim(blob_entry(1, 208), in_solid(1, 0))  # another entry ends a run
    assert "blob 4 is at bytes 0 to 0 of solid resources, of which there are 0" in refusal(tmp_path, apart)


SOLID_DAMAGE = {
    "chunk size": (solid_resource(CHUNKS, 2100, chunk_bytes=1000), "chunk size 1000, expected a power of two"),
    "no chunk size": (solid_resource(CHUNKS, 2100, chunk_bytes=0), "chunk size 0, expected a power of two"),
    "compression": (solid_resource(CHUNKS, 2100, compression=4), "compression 4 is unknown, expected 0 to 3"),
    "size": (solid_resource(CHUNKS, 2**64 - 1), "chunks, whose table takes"),
    "too short": (bytes(15), "solid resource 0 has 15 bytes, expected at least 16"),
    "empty chunk": (solid_resource((CHUNKS[0], b"", CHUNKS[2]), 2100), "chunk 1 has 0 bytes, expected 1 to 1024"),
    "large chunk": (solid_resource((b"x" * 1025,), 1000), "chunk 0 has 1025 bytes, expected 1 to 1024"),
    "behind its end": (solid_resource(CHUNKS, 2100)[:-4], "its chunks end 4 bytes behind its end"),
}


@pytest.mark.parametrize("case", SOLID_DAMAGE)
def test_a_damaged_solid_resource_is_named(tmp_path: Path, case: str) -> None:
    resource, reason = SOLID_DAMAGE[case]
    assert reason in refusal(tmp_path, solid_wim(resource=resource))


def test_solid_resources_that_overlap_are_not_all_read(tmp_path: Path) -> None:
    body = solid_resource(CHUNKS, 2100)
    table = blob_entry(len(body), HEADER_BYTES, flags=SOLID, original_size=MAGIC_SIZE) * 3
    wim = make_wim(resources=(body,), blobs=table, version=VERSION_SOLID)
    assert "blob table damaged: solid resource 1 overlaps with others" in refusal(tmp_path, wim)


@given(
    table=st.lists(
        st.builds(
            blob_entry,
            st.integers(0, 4000) | st.integers(0, 2**56 - 1),
            st.integers(0, 4000) | st.integers(0, 2**64 - 1),
            flags=st.sampled_from([0, FREE, METADATA, COMPRESSED, SOLID, SOLID | COMPRESSED, 0xFF]),
            original_size=st.integers(0, 4000) | st.just(MAGIC_SIZE) | st.integers(0, 2**64 - 1),
            part=st.integers(1, 2),
        ),
        max_size=6,
    ),
    resource=st.binary(max_size=200) | st.builds(solid_resource, st.just(CHUNKS), st.integers(0, 2**64 - 1)),
    version=st.sampled_from([0x10D00, VERSION_SOLID]),
)
def test_any_table_gives_a_summary_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, table: list[bytes], resource: bytes, version: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-table.wim"
    path.write_bytes(make_wim(resources=(resource,), blobs=b"".join(table), version=version))
    with opened(path) as file, contextlib.suppress(ContentCorrupt):
        assert check_blobs(file, file.read_header()).blob_count <= len(table)
