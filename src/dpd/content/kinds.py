# SPDX-License-Identifier: Apache-2.0
"""What content is for (its kind) and what it is made of (its format)."""

from __future__ import annotations

from enum import StrEnum


class ContentKind(StrEnum):
    """What an operator publishes something as; it changes nothing of how the bytes are kept."""

    OS_IMAGE = "os-image"
    BOOT_IMAGE = "boot-image"
    OS_UPGRADE_PACKAGE = "os-upgrade-package"
    DRIVER_PACKAGE = "driver-package"
    PACKAGE = "package"
    FILE = "file"


class ContentFormat(StrEnum):
    """One WIM, the parts of a split one, any other single file, or a folder with all below it."""

    WIM = "wim"
    SPLIT_WIM = "split-wim"
    RAW = "raw"
    TREE = "tree"


_GUESSES = {
    ContentFormat.WIM: ContentKind.OS_IMAGE,
    ContentFormat.SPLIT_WIM: ContentKind.OS_IMAGE,
    ContentFormat.RAW: ContentKind.FILE,
    ContentFormat.TREE: ContentKind.PACKAGE,
}


def guess_kind(content_format: ContentFormat) -> ContentKind:
    """The kind of what was published without one."""
    return _GUESSES[content_format]
