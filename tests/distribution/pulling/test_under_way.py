# SPDX-License-Identifier: Apache-2.0
"""What is known of a content on its way, and when it is over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpd.content.description import Description
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.distribution.pulling.under_way import FAILED_S, UnderWay

DESCRIPTION = Description("P", 3, ContentKind.FILE, ContentFormat.RAW, "x", 100, "ab" * 32, (), (), ())


class Part:
    """A file that grows."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._path = path
        self.verified = 0
        self.opened = 0

    def open(self) -> int:
        self.opened += 1
        return os.open(self._path, os.O_RDONLY)


def test_it_is_found_by_the_version_asked_for_and_by_the_one_that_comes() -> None:
    some = UnderWay()
    with some.begun("P", None) as incoming:
        assert some.find("P", None) is incoming
        assert some.find("P", 3) is None
        incoming.described(DESCRIPTION)
        assert some.find("P", 3) is incoming
        assert some.find("P", 4) is None
        assert some.find("Q", None) is None
    assert some.find("P", None) is None
    assert incoming.is_over
    assert incoming.failure == ""
    assert incoming.verified == 100


def test_what_is_verified_can_be_read_by_many_after_the_part_is_gone(tmp_path: Path) -> None:
    some, part = UnderWay(), Part(tmp_path / "part", b"0123456789")
    with some.begun("P", 3) as incoming:
        assert incoming.open() is None
        part.verified = 4
        incoming.grows(part)
        part.verified = 8
        incoming.grows(part)
        assert (incoming.verified, part.opened) == (8, 1)
        (tmp_path / "part").unlink()
        first, second = incoming.open(), incoming.open()
        assert first is not None
        assert second is not None
        assert os.pread(second, 8, 0) == b"01234567"
        os.close(second)
        incoming.part_changed()
        assert (incoming.verified, incoming.open()) == (0, None)
        assert os.pread(first, 8, 0) == b"01234567"
        os.close(first)


def test_a_failure_is_told_to_those_who_wait() -> None:
    now = [1000.0]
    some = UnderWay(clock=lambda: now[0])
    with pytest.raises(ValueError), some.begun("P", 3) as incoming:
        raise ValueError("the line is cut")
    assert incoming.failure == "P: does not come now: the line is cut"
    assert incoming.is_over
    assert some.find("P", 3) is None
    assert some.failed("P", None) is some.failed("P", 3) is incoming
    assert some.failed("P", 4) is None
    now[0] += FAILED_S + 1
    assert some.failed("P", None) is None
