# SPDX-License-Identifier: Apache-2.0
"""What the header names is read whole or refused; every case of damage in a file is in test_wim.py."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.content.wim_builder import make_pipable, make_wim

from dpd.content.wim.file import WimFile
from dpd.content.wim.header import RESOURCE_COMPRESSED, Resource
from dpd.errors import ContentCorrupt

SOUND = make_wim()
Opened = Callable[[bytes], WimFile]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    descriptors = []

    def run(content: bytes) -> WimFile:
        (tmp_path / "image.wim").write_bytes(content)
        descriptors.append(os.open(tmp_path / "image.wim", os.O_RDONLY))
        return WimFile(descriptors[-1])

    yield run
    for descriptor in descriptors:
        os.close(descriptor)


def test_the_header_of_a_pipable_wim_is_its_last_one(opened: Opened) -> None:
    plain, pipable = opened(SOUND).read_header(), opened(make_pipable(SOUND)).read_header()
    assert (pipable.xml_data, pipable.magic) == (plain.xml_data, b"WLPWM\0\0\0")


def test_what_the_file_does_not_have_is_not_read(opened: Opened) -> None:
    with pytest.raises(ContentCorrupt, match="truncated: it ends within bytes 8 to 17"):
        opened(bytes(17)).read(8, 10)


def test_a_table_is_read_as_long_as_it_says(opened: Opened) -> None:
    file = opened(SOUND)
    table = file.read_header().xml_data
    assert file.read_resource(table, "XML data", 1000) == SOUND[table.offset : table.end]
    assert file.read_resource(Resource(0, 0, 1 << 63, 0), "XML data", 1000) == b""


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (Resource(4, 0, len(SOUND) - 3, 4), "truncated: XML data is at bytes"),
        (Resource(4, 0, 204, 4), "XML data damaged: at byte 204, within the header"),
        (Resource(4, RESOURCE_COMPRESSED, 208, 4), "4 bytes for 4, expected it uncompressed"),
        (Resource(4, 0, 208, 5), "4 bytes for 5, expected it uncompressed"),
        (Resource(101, 0, 208, 101), "XML data refused: 101 bytes, expected at most 100"),
    ],
)
def test_a_table_that_cannot_be_is_refused(opened: Opened, resource: Resource, reason: str) -> None:
    with pytest.raises(ContentCorrupt, match=reason):
        opened(SOUND).read_resource(resource, "XML data", 100)
