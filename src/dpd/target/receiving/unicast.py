# SPDX-License-Identifier: Apache-2.0
"""Slabs over HTTP: ranges of the image, each slab held against the manifest and stored as if the group had brought it.

Alone where a session has no place in the group, beside a session where the group is not heard or too slow. A connection
that breaks costs what was under way on it and no more: the next request goes on at the byte that was reached.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from dpd.content.manifest import Manifest
from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.protocol.multicast.geometry import encode_slab_set
from dpd.service.receiving.receiver import ReceiverSession, Store
from dpd.target.distribution_point.connection import Connection, Unreachable
from dpd.target.distribution_point.distribution_point import DistributionPoint, content_path

PROGRESS_S = 2.0
FIRST_EXTENT_BYTES = 1 << 20
LEAST_EXTENT_BYTES = 256 << 10
EXTENT_S = 1.5  # what one request brings: between two of them progress is told, also on a slow line
FIRST_RETRY_S, MAX_RETRY_S = 0.2, 5.0
NOTHING_TO_DO_S = 0.1
UNFINISHED_S = 1.0  # slabs in assembly are left to multicast for so long, once nothing else is left


class JoinAnew(SessionError):
    """This place in the session is of no more use; what is verified stays."""


class SlabFetcher:
    """Fetches slabs of one image over one connection; `pause` is called between two requests and may raise to end it.

    `fetched_bytes`: verified and stored, so far.
    """

    def __init__(
        self, connection: Connection, manifest: Manifest, store: Store, pause: Callable[[float], object]
    ) -> None:
        self.fetched_bytes = 0
        self._connection = connection
        self._path = content_path(manifest.package_id, manifest.source_version)
        self._manifest = manifest
        self._store = store
        self._pause = pause
        self._buffer = memoryview(bytearray(min(manifest.slab_bytes, manifest.size_bytes)))
        self._extent_bytes = FIRST_EXTENT_BYTES
        self._retry_s = FIRST_RETRY_S

    def fetch(self, slab: int) -> bool:
        """Fetch a slab and store it. False: it is not what the manifest says. Raises DpdError where waiting does not help, and
        whatever `pause` raises."""
        begin, end = self._manifest.extent(slab)
        content = self._buffer[: end - begin]
        done = 0
        while done < len(content):
            done += self._fetch_some(begin + done, content[done : done + self._extent_bytes])
            self._pause(0.0)
        if not self._store.check_and_write(slab, content):
            return False
        self.fetched_bytes += len(content)
        return True

    def _fetch_some(self, offset: int, into: memoryview) -> int:
        """One request. Returns how many bytes it brought, 0 after a wait where there was no way through."""
        started = time.monotonic()
        try:
            count = self._connection.fetch_extent(self._path, offset, into)
        except Unreachable:
            count = 0
        if not count:
            self._pause(self._retry_s)
            self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
            return 0
        self._retry_s = FIRST_RETRY_S
        rate = count / max(time.monotonic() - started, 1e-6)
        self._extent_bytes = min(max(int(rate * EXTENT_S), LEAST_EXTENT_BYTES), len(self._buffer))
        return count


class Herald:
    """Tells the session where a receiver is that it does not hear of: its sign of life, and what others see of it."""

    def __init__(self, point: DistributionPoint, connection: Connection, session_id: str, member: int) -> None:
        self._point = point
        self._connection = connection
        self._session_id = session_id
        self._member = member
        self._told_at = -PROGRESS_S

    def tell(self, verified: int, slab_count: int) -> None:
        """Tell it if it is time. Raises JoinAnew where the session knows this member no more."""
        now = time.monotonic()
        if now - self._told_at < PROGRESS_S:
            return
        self._told_at = now
        try:
            encoded = encode_slab_set(verified, slab_count)
            self._point.report_progress(self._session_id, self._member, encoded, self._connection)
        except (SessionError, ContentNotFound) as error:
            raise JoinAnew(str(error)) from None
        except DpdError:  # the next one may come through
            pass


class _Ended(Exception):
    """The thread is to end."""


class UnicastSource:
    """Fetches slabs beside a session, in a thread of its own, from `start` to `stop`."""

    def __init__(
        self, point: DistributionPoint, manifest: Manifest, store: Store, session: ReceiverSession, session_id: str
    ) -> None:
        self.fetched_slabs = 0  # slab set
        self._connection = point.open_connection()
        self._session = session
        self._slabs = SessionSlabs(session)
        self._herald = Herald(point, self._connection, session_id, session.machine.member)
        self._fetcher = SlabFetcher(self._connection, manifest, store, self._pause)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unicast", daemon=True)

    @property
    def fetched_bytes(self) -> int:
        return self._fetcher.fetched_bytes

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a request under way is broken off. Idempotent."""
        self._is_ending.set()
        self._slabs.close()
        self._connection.interrupt()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        try:
            while True:
                self._fetch_next()
        except _Ended:
            pass
        except Exception as error:  # raised again by the thread that runs the session
            self._session.call_soon(_raiser(error))

    def _fetch_next(self) -> None:
        self._pause(0.0)
        slab = self._slabs.choose()
        if slab is None:
            self._pause(NOTHING_TO_DO_S)
            return
        ok = self._fetcher.fetch(slab)
        self.fetched_slabs |= ok << slab
        self._slabs.provide(slab, ok)

    def _pause(self, wait_s: float) -> None:
        """Between two requests: is it over, is progress to be told."""
        if self._is_ending.wait(wait_s) if wait_s else self._is_ending.is_set():
            raise _Ended
        self._herald.tell(self._slabs.verified(), self._session.machine.geometry.slab_count)


def _raiser(error: Exception) -> Callable[[float], None]:
    def raise_it(_: float) -> None:
        raise error

    return raise_it


class SessionSlabs:
    """What a running session still wants; its machine is asked and told in the session's own thread."""

    def __init__(self, session: ReceiverSession) -> None:
        self._session = session
        self._choices: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._idle_since: float | None = None

    def verified(self) -> int:
        return self._session.machine.verified

    def choose(self) -> int | None:
        self._session.call_soon(self._put_choice)
        return self._choices.get()

    def provide(self, slab: int, ok: bool) -> None:
        self._session.call_soon(lambda now: self._provide(slab, ok, now))

    def close(self) -> None:
        """The session calls nothing any more."""
        self._choices.put(None)

    def _put_choice(self, now: float) -> None:
        """From the end of the image, since those who listen to the group get it from the front."""
        machine = self._session.machine
        wanted = machine.unicast_candidates()
        if wanted:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= UNFINISHED_S:
            wanted = machine.geometry.every_slab & ~machine.verified
        self._choices.put(wanted.bit_length() - 1 if wanted else None)

    def _provide(self, slab: int, ok: bool, now: float) -> None:
        if ok:
            self._session.machine.provide_unicast(slab, now)
        else:
            self._session.machine.counters.bad_slabs += 1
