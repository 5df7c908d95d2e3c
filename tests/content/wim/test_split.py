# SPDX-License-Identifier: Apache-2.0
"""Which files make up a split WIM; sets that wimlib has split are in tests/interop/test_wim.py."""

import shutil
from pathlib import Path

import pytest
from tests.content.wim_builder import make_wim, set_field

from dpd.content.wim.split import find_parts, part_name
from dpd.errors import ContentCorrupt, ContentError

GUID, OTHER_GUID = b"the GUID of this", b"another set's ID"


def split(folder: Path, count: int = 3, guid: bytes = GUID, name: str = "install.swm") -> list[Path]:
    paths = [folder / part_name(name, number) for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(make_wim(guid=guid, part=(number, count)))
    return paths


def refusal(path: Path) -> str:
    with pytest.raises(ContentError) as refused:
        find_parts(path)
    return str(refused.value)


def test_the_parts_come_in_their_order(tmp_path: Path) -> None:
    paths = split(tmp_path, 12)
    found = find_parts(paths[0])
    assert found.parts == tuple(paths)
    assert found.size_bytes == sum(path.stat().st_size for path in paths)
    assert [image.name for image in found.images] == ["one"]


def test_names_are_a_habit_and_no_rule(tmp_path: Path) -> None:
    first, second, third = split(tmp_path)
    second.rename(tmp_path / "ZWEI.SWM")
    assert find_parts(first).parts == (first, tmp_path / "ZWEI.SWM", third)


def test_what_else_lies_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    paths = split(tmp_path)
    split(tmp_path, 2, OTHER_GUID, "other.swm")
    (tmp_path / "broken.swm").write_bytes(b"MSWIM")
    (tmp_path / "folder.swm").mkdir()
    (tmp_path / "install2.txt").write_bytes(paths[1].read_bytes())
    assert find_parts(paths[0]).parts == tuple(paths)


def test_a_copy_of_a_part_is_told_by_its_name(tmp_path: Path) -> None:
    paths = split(tmp_path)
    shutil.copy(paths[1], tmp_path / "copy.swm")
    assert find_parts(paths[0]).parts == tuple(paths)
    paths[1].rename(tmp_path / "another.swm")
    assert "part 2 is there more than once, as another.swm and copy.swm" in refusal(paths[0])


def test_missing_parts_are_named(tmp_path: Path) -> None:
    paths = split(tmp_path, 12)
    paths[3].unlink()
    assert f"{paths[0]}: part 4 of 12 not beside it; expected install4.swm of the same set" in refusal(paths[0])
    paths[1].unlink()
    assert "parts 2 and 4 of 12 not beside it; expected install2.swm and install4.swm" in refusal(paths[0])
    for path in paths[1:]:
        path.unlink(missing_ok=True)
    assert "parts 2, 3, 4, 5, 6 and 6 more of 12" in refusal(paths[0])


def test_a_part_of_another_set_is_a_missing_one(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[2].write_bytes(make_wim(guid=OTHER_GUID, part=(3, 3)))
    assert "part 3 of 3 not beside it" in refusal(paths[0])


def test_a_later_part_points_to_the_first(tmp_path: Path) -> None:
    paths = split(tmp_path)
    assert f"{paths[1]}: part 2 of 3; publish {paths[0]} instead" in refusal(paths[1])
    paths[0].unlink()
    assert "publish part 1 instead" in refusal(paths[1])


def test_a_whole_wim_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "install.wim").write_bytes(make_wim())
    assert "one whole WIM and no part" in refusal(tmp_path / "install.wim")


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].write_bytes(make_wim(guid=GUID, part=(2, 4)))
    with pytest.raises(ContentCorrupt, match=r"install2\.swm: has the GUID of install\.swm, but parts in all: 4, exp"):
        find_parts(paths[0])
    paths[1].write_bytes(set_field(make_wim(guid=GUID, part=(2, 3)), "flags", 0x20002))
    with pytest.raises(ContentCorrupt, match="compression: xpress, expected lzx"):
        find_parts(paths[0])


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    with pytest.raises(ContentCorrupt, match=r"install3\.swm: truncated"):
        find_parts(paths[0])
