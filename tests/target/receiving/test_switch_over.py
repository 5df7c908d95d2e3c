# SPDX-License-Identifier: Apache-2.0
"""HTTP beside a session whose group is not heard: a real session on a group where nobody sends, a real HTTP server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.target.canned import serving
from tests.target.receiving.test_unicast import CONTENT, Kept, Server, manifest_of

from dpd.protocol.multicast import receiver as machine
from dpd.protocol.multicast.fec import StandardCodec
from dpd.protocol.multicast.geometry import SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.receiver import SessionFact
from dpd.service.receiving.receiver import Membership, Progress, ReceiverSession, open_group
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.receiving import fall_back
from dpd.target.receiving.fall_back import FallBack
from dpd.target.receiving.switch_over import SwitchOver
from dpd.target.receiving.unicast import JoinAnew, UnicastSource

GROUP, PORT = "239.192.79.66", 63990


class Stage:
    """One session, and what is beside it."""

    def __init__(self, url: str) -> None:
        self.store = Kept()
        self.point = DistributionPoint(url)
        self.reasons: list[str] = []
        self.session = ReceiverSession(
            membership=Membership(1, 2, 3, GROUP, PORT, ("127.0.0.1", 9)),
            group_socket=open_group(GROUP, PORT, "127.0.0.1"),
            geometry=Geometry(len(CONTENT)),
            verified=0,
            slots=4,
            store=self.store,
            codec=StandardCodec(),
            on_progress=self._watch,
        )
        manifest = manifest_of(CONTENT)
        self.switch = SwitchOver(
            self.session,
            FallBack(256, None, time.monotonic()),
            lambda: UnicastSource(self.point, manifest, self.store, self.session, "4d"),
        )
        self.at_each_look: Callable[[], None] = lambda: None

    def _watch(self, _: Progress) -> None:
        self.at_each_look()
        if reason := self.switch.watch():
            self.reasons.append(reason)

    def run(self) -> SessionFact:
        try:
            return self.session.run()
        finally:
            self.switch.close()
            self.point.close()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The image is one slab here, since the wire's slabs are larger than those of the manifest: all of it in one range."""
    monkeypatch.setattr("tests.target.receiving.test_unicast.SLAB_BYTES", len(CONTENT))
    monkeypatch.setattr(fall_back, "DEAF_S", 0.3)
    monkeypatch.setattr(machine, "SILENCE_S", 0.2)
    with serving() as canned:
        server = Server(canned)
        canned.answer_with = lambda h: server.answer(h) if h.command == "GET" else h.send_error(405)
        yield Stage(canned.url)


def test_a_group_where_nothing_comes_is_replaced_by_http(stage: Stage) -> None:
    assert stage.run() is SessionFact.FINISHED
    assert stage.reasons == ["no multicast arrived for 0 s"]
    assert stage.store.slabs == {0: CONTENT}
    assert stage.session.machine.counters.unicast_slabs == 1
    assert (stage.switch.fetched_bytes, stage.switch.fetched_slabs) == (len(CONTENT), 1)
    assert stage.session.is_apart
    assert not [t.name for t in threading.enumerate() if t.name in ("unicast", "slab-0")]


def test_a_slab_that_http_brings_damaged_is_counted(stage: Stage) -> None:
    damaged = [2]
    check = stage.store.check_and_write

    def refuse_twice(slab: int, content: memoryview) -> bool:
        damaged[0] -= 1
        return damaged[0] < 0 and check(slab, content)

    stage.store.check_and_write = refuse_twice  # type: ignore[method-assign]
    assert stage.run() is SessionFact.FINISHED
    assert stage.session.machine.counters.bad_slabs == 2


def test_a_group_that_flows_again_is_joined_anew(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fall_back, "FLOWS_S", 0.3)
    stage.store.check_and_write = lambda slab, content: False  # type: ignore[method-assign]

    def flow() -> None:
        if stage.switch.is_unicast:
            stage.session.machine.counters.symbols += (1 << 20) // SYMBOL_BYTES

    stage.at_each_look = flow
    with pytest.raises(JoinAnew, match="multicast flows again"):
        stage.run()
    assert stage.switch.fetched_slabs == 0


def test_a_session_that_knows_us_no_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fall_back, "DEAF_S", 0.1)
    with serving() as canned:
        canned.answer(409, {"error": {"message": "no such member"}})
        with pytest.raises(JoinAnew, match="no such member"):
            Stage(canned.url).run()
