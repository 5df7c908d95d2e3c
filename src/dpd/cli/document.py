# SPDX-License-Identifier: Apache-2.0
"""Documents that commands read, write and tell the faults of. What goes wrong is each command's to put into words."""

from __future__ import annotations

import sys
from pathlib import Path


def read(file: str) -> bytes:
    """A file, or standard input for "-". Raises OSError."""
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def write(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def problem_line(file: str, line: int, place: str, message: str) -> str:
    """As editors know where to go to; line 0 and place "" are none."""
    where = f"{file}:{line}" if line else file
    return printable(": ".join(part for part in (where, place, message) if part))


def printable(text: str) -> str:
    """Nothing that a document says moves the terminal's cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)
