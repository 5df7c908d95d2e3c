# SPDX-License-Identifier: Apache-2.0
"""A work of the bus connection for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """It runs inside the block. A fault of its own is raised at the end."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        while not task.done():  # Python 3.11's wait_for, which nats-py uses, swallows a cancel at times
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
        if not task.cancelled():
            task.result()
