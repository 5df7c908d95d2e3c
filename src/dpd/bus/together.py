# SPDX-License-Identifier: Apache-2.0
"""Tasks that begin and end together, also where one of them does not heed the first cancel.

Python 3.11's asyncio.wait_for, which nats-py awaits for each request, drops a cancel that comes in the same turn of the loop as
the answer (python/cpython#86296; asyncio.timeout, since 3.12 inside of wait_for, does not). A TaskGroup cancels once and would wait
for ever. So here a task is cancelled until it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

PAUSE_S = 0.1  # before a task that goes on is cancelled again


async def run_together(*works: Coroutine[Any, Any, None]) -> None:
    """Until all have ended, one has failed, or this is cancelled; then none runs any more. Raises what the first one raised."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end_all(tasks)
    for task in tasks:
        if task in done:
            task.result()


async def end_all(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel them until they have ended, also where this is cancelled meanwhile."""
    is_cancelled = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=PAUSE_S)
        except asyncio.CancelledError:
            is_cancelled = True
    for task in tasks:
        if not task.cancelled():
            task.exception()  # whoever wants to know has asked
    if is_cancelled:
        raise asyncio.CancelledError
