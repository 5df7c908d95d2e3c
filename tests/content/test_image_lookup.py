# SPDX-License-Identifier: Apache-2.0
"""Which file of a content holds the images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.content.wim_builder import make_wim

from dpd.content.image_lookup import find_wim, open_wim
from dpd.content.kinds import ContentFormat
from dpd.content.library import Library
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

GUID = b"the GUID of this"


def split(folder: Path, count: int = 12) -> Path:
    """More than nine, so that their order by name is another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        name = "install.swm" if number == 1 else f"install{number}.swm"
        (folder / name).write_bytes(make_wim(guid=GUID, part=(number, count)))
    return folder / "install.swm"


def test_a_wim_is_the_content_itself(library: Library, tmp_path: Path) -> None:
    (tmp_path / "install.wim").write_bytes(make_wim())
    content = library.publish(tmp_path / "install.wim", "LAB1")
    with open_wim(library, content) as opened:
        assert (opened.paths, opened.names) == (("install.wim",), ("LAB1 version 1, install.wim",))
        assert (opened.file_name, opened.size_bytes) == ("install.wim", content.size_bytes)
        assert (opened.blob_count, opened.is_solid) == (2, False)


def test_parts_of_a_split_wim_come_in_their_order(library: Library, tmp_path: Path) -> None:
    content = library.publish(split(tmp_path / "set"), "LAB1")
    assert content.format is ContentFormat.SPLIT_WIM
    with open_wim(library, content) as opened:
        assert opened.paths[:3] == ("install.swm", "install2.swm", "install3.swm")
        assert [each.part_number for each in opened.summaries] == list(range(1, 13))
        assert (opened.size_bytes, opened.blob_count) == (content.size_bytes, 24)


def test_installation_media_have_theirs_in_sources(library: Library, tmp_path: Path) -> None:
    media = tmp_path / "media"
    split(media / "Sources", 3)
    (media / "Sources" / "other.wim").write_bytes(make_wim())
    (media / "Sources" / "broken.wim").write_bytes(b"no WIM")
    content = library.publish(media, "MEDIA")
    with open_wim(library, content) as opened:
        assert opened.paths == tuple(f"Sources/{name}.swm" for name in ("install", "install2", "install3"))
    with open_wim(library, content, "Sources/other.wim") as opened:
        assert opened.paths == ("Sources/other.wim",)
    with (
        pytest.raises(ContentCorrupt, match=r"MEDIA version 1, Sources/broken\.wim: truncated"),
        open_wim(library, content, "Sources/broken.wim"),
    ):
        pass


def test_a_set_that_is_not_whole_is_told(library: Library, tmp_path: Path) -> None:
    first = split(tmp_path / "media" / "sources", 3)
    (first.parent / "install2.swm").unlink()
    content = library.publish(tmp_path / "media", "MEDIA")
    with pytest.raises(ContentError, match="part 2 of 3 of its split WIM is not in it"), open_wim(library, content):
        pass


def test_content_that_is_gone_is_not_found(library: Library, tmp_path: Path) -> None:
    (tmp_path / "install.wim").write_bytes(make_wim())
    content = library.publish(tmp_path / "install.wim", "LAB1")
    library.remove("LAB1")
    with pytest.raises(ContentNotFound), open_wim(library, content):
        pass


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["a.wim"], "a.wim"),
        (["a/b.wim", "c.esd", "setup.exe"], "c.esd"),
        (["SOURCES/INSTALL.ESD", "boot.wim"], "SOURCES/INSTALL.ESD"),
        (["sources/install.esd", "sources/install.wim"], "sources/install.wim"),
    ],
)
def test_the_likely_one_of_a_folder_is_chosen(library: Library, tmp_path: Path, paths: list[str], chosen: str) -> None:
    content = library.publish(a_folder(tmp_path), "LAB1")
    assert find_wim(content, paths) == chosen


@pytest.mark.parametrize(
    ("paths", "path", "message"),
    [
        (["setup.exe"], "", "LAB1 version 1: has no WIM in it, so it has no images"),
        (["a.wim", "b.wim"], "", r"has 2 WIMs; say which file is meant, such as a\.wim"),
        (["a/a.wim", "b/b.wim"], "", r"has 2 WIMs; say which file is meant, such as a/a\.wim"),
        (["a.wim"], "b.wim", r"has no file 'b\.wim'; name one of its files"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    library: Library, tmp_path: Path, paths: list[str], path: str, message: str
) -> None:
    content = library.publish(a_folder(tmp_path), "LAB1")
    with pytest.raises(ContentError, match=message):
        find_wim(content, paths, path)


def test_a_raw_file_has_no_images(library: Library, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"raw")
    content = library.publish(tmp_path / "disk.img", "LAB1")
    with pytest.raises(ContentError, match="has no WIM in it"), open_wim(library, content):
        pass


def a_folder(tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"content")
    return tmp_path / "folder"
