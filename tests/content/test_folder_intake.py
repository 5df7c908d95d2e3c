# SPDX-License-Identifier: Apache-2.0
import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dpd.content.folder import scan
from dpd.content.folder_intake import BATCH_FILES, SMALL_BYTES, FolderIntake, take_all
from dpd.content.stock import Stock
from dpd.errors import ContentError


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    with closing(Stock(tmp_path / "library")) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Just as large as is read whole, one byte more, and twice the same of each."""
    (tmp_path / "folder").mkdir()
    for name, size_bytes in (("a", SMALL_BYTES), ("b", SMALL_BYTES + 1)):
        content = os.urandom(size_bytes)
        for number in (1, 2):
            (tmp_path / "folder" / f"{name}{number}").write_bytes(content)
    return tmp_path / "folder"


def intake_of(stock: Stock, folder: Path) -> FolderIntake:
    found = scan(folder)
    intake = FolderIntake(stock, found.size_bytes, lambda done, total: None, chunks=True)
    take_all(intake, found.files)
    return intake


def test_equal_files_are_kept_once_and_large_ones_are_cut(stock: Stock, folder: Path) -> None:
    intake = intake_of(stock, folder)
    assert [entry.path for entry in intake.files] == ["a1", "a2", "b1", "b2"]
    ready = sorted(intake.ready, key=lambda each: each.size_bytes)
    assert [each.size_bytes for each in ready] == [SMALL_BYTES, SMALL_BYTES + 1]
    assert [each.chunk_index is not None for each in ready] == [False, True]
    for each, name in zip(ready, ("a1", "b1"), strict=True):
        assert each.part.read_bytes() == (folder / name).read_bytes()
    stock.adopt(intake.ready)
    intake.close()
    assert stock.held() == frozenset()


def test_what_is_here_is_not_kept_again_and_held_meanwhile(stock: Stock, folder: Path) -> None:
    first = intake_of(stock, folder)
    stock.adopt(first.ready)
    first.close()
    second = intake_of(stock, folder)
    assert second.ready == []
    assert stock.held() == {entry.sha256 for entry in second.files}
    second.close()


def test_what_is_here_but_damaged_is_kept_anew(stock: Stock, folder: Path) -> None:
    first = intake_of(stock, folder)
    stock.adopt(first.ready)
    row = stock.blobs.blob(first.files[0].sha256)
    assert row is not None
    stock.path_of(row).write_bytes(b"short")
    first.close()
    second = intake_of(stock, folder)
    assert [each.sha256 for each in second.ready] == [row.sha256]
    second.close()


def test_closing_leaves_no_part(stock: Stock, folder: Path, tmp_path: Path) -> None:
    intake_of(stock, folder).close()
    assert list((tmp_path / "library" / "incoming").iterdir()) == []


def test_a_file_that_is_gone_by_now_is_told(stock: Stock, folder: Path) -> None:
    found = scan(folder)
    (folder / "a2").unlink()
    with (
        closing(FolderIntake(stock, 1, lambda done, total: None, chunks=False)) as intake,
        pytest.raises(ContentError, match="a2: no such file"),
    ):
        take_all(intake, found.files)


@pytest.mark.parametrize("swapped", ["sub", "sub/secret"])
def test_a_link_that_comes_between_the_look_and_the_reading_is_not_followed(
    stock: Stock, tmp_path: Path, swapped: str
) -> None:
    for folder, content in (("published/sub", b"mine"), ("elsewhere/sub", b"of somebody else")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "secret").write_bytes(content)
    (tmp_path / "given").symlink_to("published")  # the folder itself may be a link: that one is the operator's
    found = scan(tmp_path / "given")
    with closing(FolderIntake(stock, found.size_bytes, lambda done, total: None, chunks=True)) as intake:
        take_all(intake, found.files)
        (tmp_path / "published" / swapped).rename(tmp_path / "away")
        (tmp_path / "published" / swapped).symlink_to(tmp_path / "elsewhere" / swapped)
        with pytest.raises(ContentError, match=r"secret: cannot be opened: (Not a directory|Too many levels)"):
            take_all(intake, found.files)
        assert len(intake.files) == 1


def test_a_part_that_cannot_go_keeps_nothing_else_from_going(
    stock: Stock, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = intake_of(stock, folder)
    first, real = intake.ready[0].part, Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == first:
            raise OSError(errno.EIO, "Input/output error")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(OSError, match="Input/output error"):
        intake.close()
    assert stock.held() == frozenset()
    assert list((tmp_path / "library" / "incoming").iterdir()) == [first]


def test_many_small_files_are_asked_for_and_kept_some_at_a_time(stock: Stock, tmp_path: Path) -> None:
    """Equal ones within one go and across several, and empty ones."""
    (tmp_path / "many").mkdir()
    contents = [b"%d" % (number % 1000) for number in range(1, 2 * BATCH_FILES + 700)] + [b"", b""]
    for number, content in enumerate(contents):
        (tmp_path / "many" / f"{number:05}").write_bytes(content)
    intake = intake_of(stock, tmp_path / "many")
    assert [entry.size_bytes for entry in intake.files] == [len(content) for content in contents]
    assert {each.part.read_bytes() for each in intake.ready} == set(contents)
    assert len(intake.ready) == len(set(contents))
    stock.adopt(intake.ready)
    intake.adopted()
    intake.close()
    assert intake_of(stock, tmp_path / "many").ready == []
