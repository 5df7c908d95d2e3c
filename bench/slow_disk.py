# SPDX-License-Identifier: Apache-2.0
"""`dpd receive` on a disk that writes so many bytes a second and no more: python -m bench.slow_disk BYTES_S RECEIVE-ARGUMENTS

The receiver is the real one; its writes take as long as that disk would, one after the other, whatever thread they come from.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from dpd.target.receiving.receive import main

Write = Callable[[int, memoryview, int], int]


def slow_down(write: Write, bytes_s: float) -> Write:
    """The same write, no faster than this; those who come meanwhile queue up, as at a disk."""
    disk = threading.Lock()

    def slow_write(descriptor: int, content: memoryview, offset: int) -> int:
        with disk:
            free_at = time.monotonic() + len(content) / bytes_s
            written = write(descriptor, content, offset)
            time.sleep(max(free_at - time.monotonic(), 0.0))
            return written

    return slow_write


if __name__ == "__main__":
    os.pwrite = slow_down(os.pwrite, float(sys.argv[1]))  # type: ignore[assignment]
    sys.exit(main(sys.argv[2:]))
