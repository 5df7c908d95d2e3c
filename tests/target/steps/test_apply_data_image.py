# SPDX-License-Identifier: Apache-2.0
"""Data images go into folders that may hold something already."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.target.point import opened_point
from tests.target.stage import Stage, capture_tree, make_tree

from dpd.target.steps import apply_data_image
from dpd.target.work.step_failure import StepFailed

DO = 'do = "apply_data_image"\npackage = "DATA1"\nvolume = "root"\n'


async def test_it_comes_beside_what_is_there(tmp_path: Path) -> None:
    wim = capture_tree(make_tree(tmp_path / "tree"), tmp_path / "data.wim")
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(wim, "DATA1")
        stage = Stage(tmp_path / "stage", url=point.url)
        root = stage.add_folder("root")
        (root / "srv/data").mkdir(parents=True)
        (root / "srv/data/mine").write_text("mine")
        said = await asyncio.to_thread(apply_data_image.run, stage.work(DO + 'folder = "srv/data"'))
        assert said == "image 1 of DATA1 version 1 to root:/srv/data"
        assert (root / "srv/data/mine").read_text() == "mine"
        assert (root / "srv/data/etc/hostname").read_text() == "image\n"
        with pytest.raises(StepFailed, match="leads out of its volume"):
            await asyncio.to_thread(apply_data_image.run, stage.work(DO + 'folder = "../x"'))
