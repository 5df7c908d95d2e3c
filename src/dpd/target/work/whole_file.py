# SPDX-License-Identifier: Apache-2.0
"""Files that a kill or a power failure leaves as they were, or as they are to be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(place: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """The file anew, empty; it takes its place, on the disk, when the `with` ends well. Raises OSError."""
    fresh = beside(place)
    with open(fresh, "wb", opener=partial(os.open, mode=mode)) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, place)


def beside(place: Path) -> Path:
    """Where it is meanwhile."""
    return place.with_name(place.name + ".dpd-new")
