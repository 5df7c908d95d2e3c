# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from tests.content.conftest import MakeFile
from tests.content.wim_builder import make_wim

from dpd.content.kinds import ContentFormat, ContentKind, guess_kind
from dpd.content.library import Library


@pytest.mark.parametrize("content_format", ContentFormat)
def test_every_format_has_a_likely_kind(content_format: ContentFormat) -> None:
    assert guess_kind(content_format) in ContentKind


def test_what_is_told_counts_and_else_what_is_likely(library: Library, make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "x.wim").write_bytes(make_wim())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    guessed = [library.publish(path, "P").kind for path in (make_file(), tmp_path / "x.wim", tmp_path / "folder")]
    assert guessed == ["file", "os-image", "package"]
    told = library.publish(tmp_path / "x.wim", "P", kind=ContentKind.BOOT_IMAGE)
    assert told.kind == "boot-image"
    assert library.publish(tmp_path / "x.wim", "P", told.source_version).kind == "boot-image"
