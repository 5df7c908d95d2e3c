# SPDX-License-Identifier: Apache-2.0
"""Waiting in tests for what a service, its threads or the kernel are about to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 15.0


async def until(met: Callable[[], bool]) -> None:
    """Let the loop run until something holds. Raises TimeoutError where that takes longer than PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not met():
            await asyncio.sleep(0.002)
