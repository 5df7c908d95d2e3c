# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.content.wim_builder import (
    FIELDS,
    encode_xml,
    image,
    image_xml,
    make_pipable,
    make_wim,
    set_field,
)

from dpd.content.wim.integrity import IntegrityVerifier
from dpd.content.wim.reader import WimSummary, check, has_magic
from dpd.errors import ContentCorrupt, ContentError

SOUND = make_wim()
Checked = Callable[[bytes], WimSummary]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """Writes bytes to image.wim and checks them."""

    def run(content: bytes) -> WimSummary:
        path = tmp_path / "image.wim"
        path.write_bytes(content)
        return check(path)

    return run


def refusal(checked: Checked, content: bytes) -> str:
    with pytest.raises(ContentCorrupt) as refused:
        checked(content)
    text = str(refused.value)
    assert "image.wim: " in text
    return text


def test_a_sound_wim_is_summed_up(checked: Checked) -> None:
    summary = checked(SOUND)
    assert (summary.compression, summary.chunk_bytes, summary.solid, summary.pipable) == ("lzx", 32768, False, False)
    assert (summary.part_number, summary.total_parts, summary.boot_index) == (1, 1, 0)
    assert [image.name for image in summary.images] == ["one"]
    assert summary.size_bytes == len(SOUND)
    assert summary.integrity is not None
    verifier = IntegrityVerifier(summary.integrity)
    verifier.update(SOUND)
    verifier.finish()


def test_a_descriptor_is_as_good_as_a_path_and_stays_open(tmp_path: Path) -> None:
    (tmp_path / "image.wim").write_bytes(SOUND)
    descriptor = os.open(tmp_path / "image.wim", os.O_RDONLY)
    try:
        assert check(descriptor) == check(tmp_path / "image.wim")
        assert os.read(descriptor, 5) == b"MSWIM"
    finally:
        os.close(descriptor)


def test_the_table_is_optional(checked: Checked) -> None:
    assert checked(make_wim(chunk_bytes=0)).integrity is None


def test_a_pipable_wim_is_read_from_its_closing_header(checked: Checked) -> None:
    summary = checked(make_pipable(SOUND))
    assert summary.pipable
    assert len(summary.images) == 1


def test_a_pipable_wim_without_its_end_is_truncated(checked: Checked) -> None:
    assert "closing header is not at the end" in refusal(checked, make_pipable(SOUND)[:-1])


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 207])
def test_less_than_a_header_is_truncated(checked: Checked, keep: int) -> None:
    assert f"truncated: {keep} bytes, a WIM header alone has 208" in refusal(checked, SOUND[:keep])


@pytest.mark.parametrize("keep", range(208, len(SOUND), 61))
def test_a_wim_cut_anywhere_is_truncated(checked: Checked, keep: int) -> None:
    assert f"truncated: integrity table is at bytes {len(SOUND) - 112} to {len(SOUND) - 1}" in refusal(
        checked, SOUND[:keep]
    )


@pytest.mark.parametrize("keep", range(208, len(make_wim(chunk_bytes=0)), 61))
def test_without_a_table_the_xml_data_or_the_blob_table_tell(checked: Checked, keep: int) -> None:
    assert f"but the file ends at byte {keep}" in refusal(checked, make_wim(chunk_bytes=0)[:keep])


FIELD_DAMAGE = [
    ("magic", b"MSCF\0\0\0\0", "no WIM: starts with 4d 53 43 46"),
    ("header_bytes", 148, "header size 148, expected 208"),
    ("version", 0x20000, "version 0x20000 is unknown, expected 0x10d00 or 0xe00"),
    ("flags", 0x40042, "unfinished: marked as being written"),
    ("flags", 0x2, "name none that is known as compression"),
    ("flags", 0x60002, "name lzx and xpress as compression"),
    ("part_number", 0, "part 0 of 1"),
    ("part_number", 2, "part 2 of 1"),
    ("total_parts", 0, "part 1 of 0"),
    ("image_count", 2, "1 images, but the header counts 2"),
    ("boot_index", 2, "boot index 2 of 1 images"),
    ("blob_table_size", 99, "blob table damaged: 99 bytes"),
    ("blob_table_size", 0, "blob table damaged: 0 bytes"),
    ("blob_table_size", 100 | 0x4 << 56, "blob table damaged: marked as compressed"),
    ("blob_table_offset", 1 << 63, "truncated: blob table is at bytes"),
    ("blob_table_offset", 100, "blob table damaged: at byte 100, within the header"),
    ("xml_size", 0, "no XML data, so it was never finished"),
    ("xml_size", 2**56 - 1, "truncated: XML data is at bytes"),
    ("xml_offset", 2**64 - 1, "truncated: XML data is at bytes"),
    ("xml_original_size", 9, "XML data damaged: 164 bytes for 9, expected it uncompressed"),
    ("boot_metadata_size", 1 << 40, "truncated: boot metadata is at bytes"),
    ("integrity_size", 1 << 40, "truncated: integrity table is at bytes"),
    ("integrity_offset", 208, "integrity table damaged"),
]


@pytest.mark.parametrize(("field", "value", "reason"), FIELD_DAMAGE)
def test_a_damaged_header_field_is_named(checked: Checked, field: str, value: int | bytes, reason: str) -> None:
    assert reason in refusal(checked, set_field(SOUND, field, value))


def test_damaged_xml_data_is_named(checked: Checked) -> None:
    assert "XML data damaged: starts with 3c 57 49 4d" in refusal(checked, make_wim(xml=b"<WIM/>"))


def test_xml_data_beyond_the_limit_is_not_read(checked: Checked) -> None:
    assert "XML data refused: 16777218 bytes" in refusal(checked, make_wim(xml=encode_xml(" " * (8 << 20))))


def test_no_entities_reach_the_parser(checked: Checked) -> None:
    xml = encode_xml('<!DOCTYPE WIM [<!ENTITY a "b">]>' + image_xml(image(1, "&a;")))
    assert "document type" in refusal(checked, make_wim(xml=xml))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContentError, match="pipe: not a regular file"):
        check(tmp_path / "pipe")
    with pytest.raises(ContentError, match=r"absent\.wim: cannot be opened: No such file"):
        check(tmp_path / "absent.wim")


def test_the_magic_tells_a_wim_by_its_start() -> None:
    assert has_magic(SOUND)
    assert has_magic(make_pipable(SOUND))
    assert not has_magic(b"MSWIM")


@given(
    changes=st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), st.integers(0, 2**64 - 1)), min_size=1, max_size=3),
    pipable=st.booleans(),
    keep=st.integers(0, 4000),
)
def test_any_fields_in_a_whole_file_give_a_summary_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int]], pipable: bool, keep: int
) -> None:
    content = SOUND
    for field, value in changes:
        offset, code = FIELDS[field]
        size = struct.calcsize(code)
        content = content[:offset] + value.to_bytes(8, "little")[:size].ljust(size, b"\0") + content[offset + size :]
    path = tmp_path_factory.getbasetemp() / "any.wim"
    path.write_bytes((make_pipable(content) if pipable else content)[:keep])
    with contextlib.suppress(ContentCorrupt):
        assert check(path).size_bytes == path.stat().st_size
