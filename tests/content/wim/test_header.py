# SPDX-License-Identifier: Apache-2.0
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.content.wim_builder import HEADER_BYTES, make_pipable, make_wim, set_field

from dpd.content.wim.header import has_magic, parse_header
from dpd.errors import ContentCorrupt

SOUND = make_wim(guid=b"0123456789abcdef", part=(2, 3))


def test_the_fields_are_told_apart() -> None:
    header = parse_header(SOUND)
    assert (header.guid, header.part_number, header.total_parts) == (b"0123456789abcdef", 2, 3)
    assert (header.chunk_bytes, header.image_count, header.blob_table.flags) == (32768, 1, 2)
    assert header.xml_data.offset == header.blob_table.end


@pytest.mark.parametrize(
    ("flags", "compression"),
    [(0, "none"), (0x20002, "xpress"), (0x200002, "xpress"), (0x40002, "lzx"), (0x80082, "lzms")],
)
def test_the_flags_tell_the_compression(flags: int, compression: str) -> None:
    assert parse_header(set_field(SOUND, "flags", flags)).compression == compression


def test_the_magic_tells_a_wim_by_its_start() -> None:
    assert has_magic(SOUND)
    assert has_magic(make_pipable(SOUND))
    assert not has_magic(b"MSWIM")


@given(st.binary(max_size=300))
def test_any_bytes_are_no_header(content: bytes) -> None:
    with pytest.raises(ContentCorrupt):
        parse_header(content)


@given(content=st.binary(min_size=200, max_size=200), magic=st.sampled_from([b"MSWIM\0\0\0", b"WLPWM\0\0\0"]))
def test_any_bytes_behind_the_magic_are_a_header_or_refused(content: bytes, magic: bytes) -> None:
    with contextlib.suppress(ContentCorrupt):
        assert parse_header(magic + content).header_bytes == HEADER_BYTES
