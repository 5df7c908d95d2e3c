# SPDX-License-Identifier: Apache-2.0
"""Tasks that end together, though one does not heed its first cancel."""

from __future__ import annotations

import asyncio
import time

import pytest

from dpd.bus.together import end_all, run_together


class Stubborn:
    """Drops so many cancels, as asyncio.wait_for may."""

    def __init__(self, drops: int) -> None:
        self.drops = drops
        self.is_over = False

    async def run(self) -> None:
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if not self.drops:
                        raise
                    self.drops -= 1
        finally:
            self.is_over = True


async def test_a_task_that_drops_cancels_ends_all_the_same() -> None:
    one, other = Stubborn(0), Stubborn(3)
    running = asyncio.get_running_loop().create_task(run_together(one.run(), other.run()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    assert (one.is_over, other.is_over) == (True, True)


async def test_a_cancel_that_comes_while_the_others_end_is_not_lost() -> None:
    stubborn = Stubborn(3)
    task = asyncio.get_running_loop().create_task(stubborn.run())
    await asyncio.sleep(0)
    ending = asyncio.get_running_loop().create_task(end_all([task]))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(ending, 30)
    assert stubborn.is_over


async def test_what_one_raises_ends_the_others_and_goes_up() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    other = Stubborn(1)
    with pytest.raises(ValueError, match="broken"):
        await run_together(other.run(), fail())
    assert other.is_over


async def test_all_that_end_by_themselves_are_waited_for() -> None:
    ended: list[float] = []

    async def end(after_s: float) -> None:
        await asyncio.sleep(after_s)
        ended.append(time.monotonic())

    await run_together(end(0.02), end(0.0))
    assert len(ended) == 2


async def test_nats_pys_wait_for_is_ended_though_its_answer_comes_with_the_cancel() -> None:
    """What happens on 3.11: the future is done in the same turn in which the task is cancelled."""
    answers: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def ask_for_ever() -> None:
        while True:
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            answers.put_nowait(answer)
            await asyncio.wait_for(answer, 60)

    task = asyncio.get_running_loop().create_task(ask_for_ever())
    answer = await answers.get()
    await asyncio.sleep(0)
    answer.set_result(1)
    task.cancel()
    await asyncio.wait_for(end_all([task]), 30)
    assert task.done()
