# SPDX-License-Identifier: Apache-2.0
"""What a task sequence is called, and how a deployment names one: "NAME" is the newest version, "NAME@3" that one."""

from __future__ import annotations

import re

from dpd.sequence.records import MAX_NAME, SequenceError

MAX_VERSION = 2**31 - 1
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


def check_sequence_name(name: str) -> str:
    """Raises SequenceError."""
    if not _NAME.fullmatch(name):
        raise SequenceError(
            f"sequence {name[:60]!r}: expected 1 to {MAX_NAME} of A-Z a-z 0-9 . _ - beginning with a letter or digit"
        )
    return name


def parse_reference(text: str) -> tuple[str, int]:
    """The name and the version, 0 for the newest. Raises SequenceError."""
    name, at, version = text.partition("@")
    check_sequence_name(name)
    if not at:
        return name, 0
    if not _VERSION.fullmatch(version) or int(version) > MAX_VERSION:
        raise SequenceError(f'sequence {text[:80]!r}: expected "NAME" or "NAME@VERSION" such as "{name}@3"')
    return name, int(version)


def write_reference(name: str, version: int) -> str:
    """The same as a text."""
    return f"{name}@{version}" if version else name
