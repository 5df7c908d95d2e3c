# SPDX-License-Identifier: Apache-2.0
"""Names as boot loaders write them."""

from __future__ import annotations

import pytest

from dpd.boot.names import spellings, split_name


@pytest.mark.parametrize("name", ["\\Boot\\BCD", "/boot/bcd", "boot//BCD", "Boot/./bcd", "BOOT\\\\bcd"])
def test_case_and_slashes_make_no_difference(name: str) -> None:
    assert split_name(name) == ("boot", "bcd")


@pytest.mark.parametrize("name", ["", "/", "\\\\", "./."])
def test_a_name_without_parts_is_none(name: str) -> None:
    assert split_name(name) == ()
    assert spellings(split_name(name)) == ("",)


def test_the_most_exact_spelling_comes_first() -> None:
    assert spellings(("efi", "microsoft", "boot", "fonts", "wgl4_boot.ttf")) == (
        "efi/microsoft/boot/fonts/wgl4_boot.ttf",
        "fonts/wgl4_boot.ttf",
        "wgl4_boot.ttf",
    )
    assert spellings(("bcd",)) == ("bcd",)
