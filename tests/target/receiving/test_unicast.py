# SPDX-License-Identifier: Apache-2.0
"""Slabs over HTTP: in ranges, past broken connections, checked, and beside a session that runs."""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest
from blake3 import blake3
from tests.target.canned import Canned, serving

from dpd.content.manifest import Manifest, SlabCheck
from dpd.errors import ContentNotFound, DpdError
from dpd.target.distribution_point.connection import Connection
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.receiving import unicast
from dpd.target.receiving.unicast import Herald, JoinAnew, SlabFetcher

SLAB_BYTES = 1 << 20
CONTENT = random.Random(3).randbytes(2 * SLAB_BYTES + 777)


def manifest_of(content: bytes) -> Manifest:
    slabs = [content[at : at + SLAB_BYTES] for at in range(0, len(content), SLAB_BYTES)]
    return Manifest(
        "LAB00001", 3, len(content), sha256(content).hexdigest(), SLAB_BYTES,
        tuple(sha256(slab).digest() for slab in slabs), tuple(blake3(slab).digest() for slab in slabs),
    )  # fmt: skip


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.slabs: dict[int, bytes] = {}
        self._check = SlabCheck(manifest_of(CONTENT))

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        if not self._check.fits(slab, content):
            return False
        self.slabs[slab] = bytes(content)
        return True

    def sync(self) -> None:
        """Nothing is to be made durable."""


class Server:
    """Answers ranges of an image; `spoil` changes an answer's bytes, `breaks` cuts as many answers short."""

    def __init__(self, canned: Canned) -> None:
        self.breaks = 0
        self.spoil: Callable[[bytes], bytes] = lambda piece: piece
        canned.answer_with = self.answer

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        first, last = (int(n) for n in re.findall(r"\d+", handler.headers["Range"]))
        piece = self.spoil(CONTENT[first : last + 1])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(piece)))
        handler.end_headers()
        if self.breaks:
            self.breaks -= 1
            piece = piece[: len(piece) // 2]
            handler.close_connection = True
        handler.wfile.write(piece)


@pytest.fixture
def canned() -> Iterator[Canned]:
    with serving() as canned:
        yield canned


@pytest.fixture
def server(canned: Canned) -> Server:
    return Server(canned)


@pytest.fixture
def connection(canned: Canned) -> Iterator[Connection]:
    connection = DistributionPoint(canned.url).open_connection()
    yield connection
    connection.close()


@pytest.fixture
def fetcher(connection: Connection, server: Server) -> SlabFetcher:
    return SlabFetcher(connection, manifest_of(CONTENT), Kept(), time.sleep)


def kept(fetcher: SlabFetcher) -> dict[int, bytes]:
    store = fetcher._store
    assert isinstance(store, Kept)
    return store.slabs


def test_each_slab_is_fetched_from_its_place(fetcher: SlabFetcher, canned: Canned) -> None:
    assert [fetcher.fetch(slab) for slab in (2, 0, 1)] == [True] * 3
    assert b"".join(kept(fetcher)[slab] for slab in range(3)) == CONTENT
    assert fetcher.fetched_bytes == len(CONTENT)
    assert {path for _, path, _ in canned.asked} == {"/content/LAB00001/3"}
    assert canned.connections == 1


def test_a_broken_connection_costs_what_was_under_way_on_it(
    fetcher: SlabFetcher, server: Server, canned: Canned
) -> None:
    server.breaks = 3
    assert fetcher.fetch(0)
    assert kept(fetcher)[0] == CONTENT[:SLAB_BYTES]
    begins = [int((asked or "").partition("=")[2].partition("-")[0]) for asked in canned.ranges]
    assert begins == [0, SLAB_BYTES // 2, SLAB_BYTES * 3 // 4, SLAB_BYTES * 7 // 8]


def test_a_slab_that_is_not_the_manifests_is_refused(fetcher: SlabFetcher, server: Server) -> None:
    server.spoil = lambda piece: piece[:-1] + b"!"
    assert not fetcher.fetch(1)
    assert kept(fetcher) == {}
    assert fetcher.fetched_bytes == 0


def test_a_server_away_is_waited_for(canned: Canned, connection: Connection, server: Server) -> None:
    waits: list[float] = []

    def pause(wait_s: float) -> None:
        if wait_s:
            waits.append(wait_s)
        if len(waits) == 3:
            canned.answer_with = server.answer

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(503)

    canned.answer_with = refuse
    fetcher = SlabFetcher(connection, manifest_of(CONTENT), Kept(), pause)
    assert fetcher.fetch(0)
    assert waits == [0.2, 0.4, 0.8]


def test_an_image_that_is_gone_is_told(fetcher: SlabFetcher, canned: Canned) -> None:
    canned.answer_with = None
    canned.answer(404, {"error": {"message": "no package LAB00001"}})
    with pytest.raises(ContentNotFound, match="no package LAB00001"):
        fetcher.fetch(0)


def test_pause_may_end_a_slab_between_two_requests(fetcher: SlabFetcher, server: Server) -> None:
    class Enough(Exception):
        pass

    def pause(_: float) -> None:
        raise Enough

    server.breaks = 1
    fetcher._pause = pause
    with pytest.raises(Enough):
        fetcher.fetch(0)


def test_requests_grow_with_the_line_and_shrink_with_it(
    fetcher: SlabFetcher, canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dpd.target.receiving.unicast.time", SimpleNamespace(monotonic=partial(next, itertools.count()))
    )
    monkeypatch.setattr(unicast, "LEAST_EXTENT_BYTES", 1000)
    fetcher._extent_bytes = 100_000
    assert fetcher.fetch(0)
    sizes = []
    for asked in canned.ranges:
        first, last = (int(n) for n in re.findall(r"\d+", asked or ""))
        sizes.append(last - first + 1)
    assert sizes[:3] == [100_000, 150_000, 225_000], "100 kB came in a second: 1.5 s of that next"
    assert sum(sizes) == SLAB_BYTES


# ---- signs of life


def test_progress_is_told_at_once_and_then_now_and_then(canned: Canned, connection: Connection) -> None:
    herald = Herald(DistributionPoint(canned.url), connection, "4d", 255)
    for _ in range(5):
        herald.tell(0b101, 3)
    assert len(canned.asked) == 1
    assert canned.asked[0][1] == "/mc/sessions/4d/progress"


@pytest.mark.parametrize("status", [404, 409])
def test_a_session_that_knows_us_no_more_is_joined_anew(canned: Canned, connection: Connection, status: int) -> None:
    canned.answer(status, {"error": {"message": "no such member"}})
    with pytest.raises(JoinAnew, match="no such member"):
        Herald(DistributionPoint(canned.url), connection, "4d", 255).tell(0, 3)


@pytest.mark.parametrize("status", [400, 405, 500])
def test_other_trouble_with_progress_is_no_reason_to_stop(canned: Canned, connection: Connection, status: int) -> None:
    canned.answer(status, {})
    Herald(DistributionPoint(canned.url), connection, "4d", 255).tell(0, 3)


def test_a_fetch_under_way_can_be_broken_off(canned: Canned, connection: Connection) -> None:
    hanging = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        hanging.set()
        time.sleep(5)

    canned.answer_with = hang
    errors: list[DpdError] = []

    def ask() -> None:
        try:
            connection.ask("GET", "/")
        except DpdError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert hanging.wait(5)
    started = time.monotonic()
    connection.interrupt()
    thread.join()
    assert time.monotonic() - started < 2.0
    assert len(errors) == 1
