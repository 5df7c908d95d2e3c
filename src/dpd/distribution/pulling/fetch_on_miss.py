# SPDX-License-Identifier: Apache-2.0
"""Content that a client asks for and that is not here: ordered from the sources at high priority, or joined where it is on
its way already.

A client may ask for whatever it makes up, so the sources are asked before a job is made; that costs them one small
request, is remembered for a minute, and is done by two threads, behind which only so many wait.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from dpd.content.repository import MAX_HOPS
from dpd.distribution.pulling.pull import SourcePuller
from dpd.distribution.pulling.under_way import Incoming
from dpd.errors import ContentNotFound, SourceUnavailable, Unavailable

ASKERS = 2
MAX_WAITING = 64
REMEMBERED_S = 60.0
MAX_REMEMBERED = 1000

# Makes the job, or finds it; the last are the dpds that the request has come through. Raises Unavailable in maintenance.
Submit = Callable[[str, int | None, tuple[str, ...]], object]


class FetchOnMiss:
    """What the HTTP service calls its FetchDoor. From any thread."""

    def __init__(self, puller: SourcePuller, submit: Submit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._puller = puller
        self._submit = submit
        self._clock = clock
        self._lock = threading.Lock()
        self._asking: dict[tuple[str, int | None], Future[bool]] = {}
        self._absent: OrderedDict[tuple[str, int | None], tuple[float, str]] = OrderedDict()
        self._threads = ThreadPoolExecutor(ASKERS, "fetch-on-miss")
        self._is_closed = False

    def close(self) -> None:
        """Nobody is answered any more; who asks a source stops, for the process waits for these threads at its end."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def fetch(self, package_id: str, source_version: int | None, via: tuple[str, ...]) -> Future[bool]:
        """As `FetchDoor.fetch`."""
        key = package_id, source_version
        if self._is_closed or not self._puller.settings.fetch_on_miss:
            return _answer(False)
        if self._puller.own_id in via or len(via) >= MAX_HOPS:
            why = "that asked this one" if self._puller.own_id in via else f"through {len(via)} of them"
            return _answer(ContentNotFound(f"package {package_id} is not here, and is not fetched for a dpd {why}"))
        if self._puller.under_way.find(package_id, source_version) is not None:
            return _answer(True)
        with self._lock:
            if (absent := self._remembered(key)) is not None:
                return _answer(ContentNotFound(absent))
            if key in self._asking:
                return self._asking[key]
            if len(self._asking) >= MAX_WAITING:
                return _answer(Unavailable("too many packages that are not here are asked for; try again soon"))
            future = self._asking[key] = self._threads.submit(self._order, key, via)
        future.add_done_callback(lambda _: self._asked(key))
        return future

    def incoming(self, package_id: str, source_version: int | None) -> Incoming | None:
        """As `FetchDoor.incoming`."""
        under_way = self._puller.under_way
        return under_way.find(package_id, source_version) or under_way.failed(package_id, source_version)

    def _order(self, key: tuple[str, int | None], via: tuple[str, ...]) -> bool:
        package_id, source_version = key
        try:
            has_it = self._puller.is_offered(package_id, source_version, via, self._check)
        except SourceUnavailable as error:
            raise SourceUnavailable(f"package {package_id} is not here, and {error}") from None
        if not has_it:
            version = "" if source_version is None else f" version {source_version}"
            text = f"package {package_id}{version} is neither here nor at any source"
            with self._lock:
                self._absent[key] = self._clock(), text
                while len(self._absent) > MAX_REMEMBERED:
                    self._absent.popitem(last=False)
            raise ContentNotFound(text)
        self._submit(package_id, source_version, via)
        return True

    def _check(self) -> None:
        if self._is_closed:
            raise Unavailable("dpd ends; try again soon")

    def _remembered(self, key: tuple[str, int | None]) -> str | None:
        at, text = self._absent.get(key, (-REMEMBERED_S, ""))
        return text if self._clock() - at < REMEMBERED_S else None

    def _asked(self, key: tuple[str, int | None]) -> None:
        with self._lock:
            self._asking.pop(key, None)


def _answer(answer: bool | Exception) -> Future[bool]:
    future: Future[bool] = Future()
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
    return future
