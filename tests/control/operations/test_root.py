# SPDX-License-Identifier: Apache-2.0
"""The verbs about roots run in a worker, and what they change is logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dpd.content.library import Library
from dpd.content.storage.roots import RootStatus
from dpd.control.operations.root import Looked, RootOperations
from dpd.errors import ContentError, ContentNotFound


class Worker:
    """Runs what blocks in a thread of its own, and counts."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, work: Callable[[], Looked]) -> Looked:
        self.runs += 1
        results = list[Looked | BaseException]()

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        (result,) = results
        if isinstance(result, BaseException):
            raise result
        return result


async def test_changes_are_logged_and_refusals_pass_through(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()
    roots = RootOperations(library, worker)
    with caplog.at_level(logging.INFO, "dpd.control.operations.root"):
        added = await roots.add(tmp_path / "2", 7)
        assert isinstance(added, RootStatus)
        assert await roots.roots() == [*library.roots()]
        assert (await roots.change(1, None, False)).reserve_bytes == 7
        assert (await roots.remove(1)).path == str(tmp_path / "2")
    assert [record.message for record in caplog.records] == ["root added", "root changed", "root removed"]
    with pytest.raises(ContentNotFound):
        await roots.remove(1)
    with pytest.raises(ContentError, match="not an absolute path"):
        await roots.add(Path("relative"), 0)
    assert worker.runs == 6
