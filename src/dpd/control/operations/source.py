# SPDX-License-Identifier: Apache-2.0
"""The verbs about sources of content: which there are and how each is now, and forgetting the key that was pinned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from dpd.distribution.pulling.source import Source, Terms
from dpd.distribution.pulling.sources import TEST_STALL_S, SourceStatus, look_at
from dpd.distribution.pulling.trust import KeyRing
from dpd.errors import ContentNotFound

log = logging.getLogger(__name__)

LOOKERS = 8


class Sources(Protocol):
    """What is asked of whoever pulls."""

    @property
    def sources(self) -> Sequence[Source]: ...

    @property
    def keys(self) -> KeyRing: ...

    def terms(self, check: Callable[[], object]) -> Terms: ...


class SourceOperations:
    """The verbs over the sources of the settings, none where nothing is pulled. Asking one may take seconds, so all are asked
    at once."""

    def __init__(self, puller: Sources | None) -> None:
        self._puller = puller
        # Not one for each request: to leave its `with` block would hold the loop where a client went away meanwhile.
        self._threads = ThreadPoolExecutor(LOOKERS, "look-at-source")

    async def sources(self) -> list[SourceStatus]:
        """Each as it is now, in the order of the settings."""
        loop = asyncio.get_running_loop()
        looks = (loop.run_in_executor(self._threads, self._look, each) for each in self._all())
        return await asyncio.gather(*looks)

    async def test(self, name: str) -> SourceStatus:
        """One as it is now. Raises ContentNotFound."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look, self._find(name))

    async def forget(self, name: str) -> SourceStatus:
        """The key that was pinned counts no more; the next pull pins the one that is found. Raises ContentNotFound."""
        source = self._find(name)
        had_one = await asyncio.to_thread(self._sources().keys.forget, source)
        log.warning("source key forgotten", extra={"source": name, "was_pinned": had_one})
        return await self.test(name)

    def _look(self, source: Source) -> SourceStatus:
        puller = self._sources()
        usual = puller.terms(lambda: None)
        terms = Terms(usual.check, usual.limit, min(usual.stall_s, TEST_STALL_S), usual.via)
        return look_at(source, puller.keys, terms)

    def _find(self, name: str) -> Source:
        for source in self._all():
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self._all()) or "none"
        raise ContentNotFound(
            f"no source is called {name[:64]!r}; [[distribution.source]] in the settings has: {known}"
        )

    def _all(self) -> list[Source]:
        return [] if self._puller is None else list(self._puller.sources)

    def _sources(self) -> Sources:
        assert self._puller is not None  # or there would be no source to ask for
        return self._puller
