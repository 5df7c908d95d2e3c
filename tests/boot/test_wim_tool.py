# SPDX-License-Identifier: Apache-2.0
"""wimlib's program as we run it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.boot.wims import make_wim, with_wimlib

from dpd.boot.wim_tool import extract, list_paths
from dpd.errors import ContentError

TREE = {"Windows/Boot/ä (1)/x*y.txt": b"one", "Windows/Boot/b.txt": b"two", "@list": b"three"}


@with_wimlib
def test_what_is_listed_can_be_taken_out_whatever_its_name(tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "a.wim", TREE)
    paths = list_paths(wim, 1)
    assert {f"/{name}" for name in TREE} <= set(paths)
    into = tmp_path / "into"
    into.mkdir()
    extract(wim, 1, ["/Windows/Boot/ä (1)/x*y.txt", "/@list"], into)
    found = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert found == {"Windows/Boot/ä (1)/x*y.txt": b"one", "@list": b"three"}


@with_wimlib
def test_a_refusal_is_told_in_wimlibs_words(tmp_path: Path) -> None:
    (tmp_path / "no.wim").write_bytes(bytes(1000))
    with pytest.raises(ContentError, match=r"wimlib-imagex dir: .*no\.wim.*magic"):
        list_paths(tmp_path / "no.wim", 1)
    wim = make_wim(tmp_path / "a.wim", TREE)
    with pytest.raises(ContentError, match="wimlib-imagex extract: "):
        extract(wim, 1, ["/none"], tmp_path)


def test_without_wimlib_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContentError, match="apt install wimtools"):
        list_paths(tmp_path / "a.wim", 1)
