# SPDX-License-Identifier: Apache-2.0
"""Names as boot loaders write them."""

from __future__ import annotations

import pytest

from dpd.boot.names import is_grub_configuration, spellings, split_name


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


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("/grub/grub.cfg", True),
        ("EFI/debian/GRUB.CFG", True),
        ("grub/grub.cfg-01-52-54-00-12-34-56", True),
        ("grub/grub.cfg-01-52-54-00-12-34-57", False),  # another machine's
        ("grub/grub.cfg-0A4D0001", False),
        ("grub.cfg/other", False),
        ("", False),
    ],
)
def test_a_grub_asks_what_to_do_in_any_folder(name: str, is_one: bool) -> None:
    assert is_grub_configuration(split_name(name), "52:54:00:12:34:56") == is_one
