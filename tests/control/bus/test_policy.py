# SPDX-License-Identifier: Apache-2.0
"""The site's policy at a point: over a real nats-server into a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.bus.site_side import SITE, SiteSide, until
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.connection import BusConnection
from dpd.bus.documents import pack_policy
from dpd.bus.messages import Notice, encode
from dpd.bus.subjects import POLICY_HEAD, chunk_key
from dpd.bus_settings import BusSettings
from dpd.control.bus.policy import PolicyFollower
from dpd.site.model import SiteModel, encode_model
from dpd.site.records import Computer
from dpd.site.store import SiteStore

pytestmark = needs_nats


def model(*names: str) -> SiteModel:
    return SiteModel(computers=tuple(Computer(name, (f"52:54:00:00:00:{i:02x}",)) for i, name in enumerate(names)))


class Place:
    """A point's store and its follower; the bus only inside `joined`. `now` moves by hand."""

    def __init__(self, folder: Path, url: str) -> None:
        self.now = 0.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.store = SiteStore(folder / "site.db")
        self.url = url
        self.follower = self.new_follower()

    def new_follower(self) -> PolicyFollower:
        """As after a restart."""
        return PolicyFollower(
            self.store,
            SITE,
            tell=lambda event, **fields: self.told.append((event, fields)),
            clock=lambda: 1_000_000.0 + self.now,
            monotonic=lambda: self.now,
        )

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        connection = BusConnection(BusSettings(url=self.url), name="point")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(connection.run([self.follower.attend]))
            yield
            running.cancel()

    @property
    def computers(self) -> set[str]:
        return set(self.store.computers.by_name)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SiteSide]:
    with NatsServer(tmp_path / "nats") as hub:
        async with SiteSide(hub.url) as site:
            site.url = hub.url  # type: ignore[attr-defined]
            yield site


@pytest.fixture
async def place(tmp_path: Path, site: SiteSide) -> AsyncIterator[Place]:
    place = Place(tmp_path, site.url)  # type: ignore[attr-defined]
    yield place
    place.store.close()


async def put(side: SiteSide, version: int, content: SiteModel, /, **wrong: Any) -> None:
    """A document of which something is wrong."""
    head, chunks = pack_policy(SITE, version, encode_model(content), at=1.0, slot=0)
    await side.put(side.subjects.policy_bucket, chunk_key(0, 0), wrong.pop("chunk", chunks[0]))
    head = msgspec.structs.replace(head, **wrong)
    await side.put(side.subjects.policy_bucket, POLICY_HEAD, encode(head))


async def test_each_change_comes_and_the_last_one_after_a_time_away(site: SiteSide, place: Place) -> None:
    await site.publish(model("a"), 1)
    async with place.joined():
        await until(lambda: place.computers == {"a"}, "the first policy")
        await site.publish(model("a", "b"), 2)
        await until(lambda: place.computers == {"a", "b"}, "the second policy")
    await site.publish(model("c"), 3)
    await site.publish(model("d"), 4)
    async with place.joined():
        await until(lambda: place.computers == {"d"}, "the fourth policy")
    assert place.follower.version == 4
    assert place.store.authority is not None
    assert (place.store.authority.site, place.store.authority.version) == (SITE, 4)
    assert [fields["policy_version"] for event, fields in place.told if event == "bus.policy_mirrored"] == [1, 2, 4]


async def test_a_site_that_has_published_nothing_leaves_the_points_own_policy(site: SiteSide, place: Place) -> None:
    place.store.add_computer(Computer("own", ("52:54:00:00:00:99",)), "anna")
    async with place.joined():
        await site.notice()
        await asyncio.sleep(0.3)
        assert place.computers == {"own"}
        assert place.store.authority is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"chunk": b"no zlib"}, "policy version 2: damaged"),
        ({"sha256": "0" * 64}, "its hash is not the head's"),
        ({"chunks": 2}, "chunk 1 of 2 is missing"),
        ({"site": "other"}, "policy of site 'other'"),
        ({"version": 0}, "policy version 0"),
    ],
)
async def test_a_damaged_policy_is_refused_once_and_the_last_one_holds(site: SiteSide, place: Place, wrong: dict[str, Any], words: str) -> None:  # fmt: skip
    await site.publish(model("a"), 1)
    async with place.joined():
        await until(lambda: place.computers == {"a"}, "the first policy")
        await put(site, 2, model("b"), **wrong)
        await until(lambda: words in place.follower.refusal, f"{words} in {place.follower.refusal!r}")
        await site.notice()
        await asyncio.sleep(0.3)
        assert place.computers == {"a"}
        assert place.follower.stats.refused == 1
        assert [event for event, _ in place.told].count("bus.policy_refused") == 1
        site._head = None
        await site.publish(model("c"), 3)
        await until(lambda: place.computers == {"c"}, "the next sound policy")
        assert place.follower.refusal == ""


async def test_an_older_policy_is_refused(site: SiteSide, place: Place) -> None:
    await site.publish(model("a"), 7)
    async with place.joined():
        await until(lambda: place.computers == {"a"}, "version 7")
        await put(site, 6, model("b"))
        await until(lambda: "version 6 is older than version 7" in place.follower.refusal, "the refusal")
        assert place.computers == {"a"}
    place.follower = place.new_follower()
    async with place.joined():
        await until(lambda: "version 6 is older" in place.follower.refusal, "the refusal after a restart")
    assert place.computers == {"a"}


async def test_what_is_no_model_of_this_dpd_is_refused(site: SiteSide, place: Place) -> None:
    head, chunks = pack_policy(SITE, 3, b'{"computers": 7}', at=1.0, slot=0)
    await site.put(site.subjects.policy_bucket, chunk_key(0, 0), chunks[0])
    await site.put(site.subjects.policy_bucket, POLICY_HEAD, encode(head))
    async with place.joined():
        await until(lambda: "is this dpd older than the site server's?" in place.follower.refusal, "the refusal")


async def test_the_age_begins_anew_with_each_word_that_the_held_policy_holds_and_with_no_other(site: SiteSide, place: Place) -> None:  # fmt: skip
    await site.publish(model("a"), 1)
    async with place.joined():
        await until(lambda: place.follower.version == 1, "the policy")
        await until(lambda: place.follower.age_s == 0.0, "the first notice")
        place.now = 3600.0
        assert place.follower.age_s == 3600.0
        await site.notice()
        await until(lambda: place.follower.age_s == 0.0, "a notice of what is held")
        place.now = 7200.0
        link = await site.linked()
        await link.publish(site.subjects.notice, encode(Notice(9, "", 1.0)))
        await link.publish(site.subjects.notice, b"rubbish")
        await asyncio.sleep(0.3)
        assert place.follower.age_s == 3600.0
    place.now = 9000.0
    assert place.new_follower().age_s == 9000.0  # a restart knows when it came, by the store


async def test_a_policy_that_is_replaced_while_it_is_read_is_read_again(site: SiteSide, place: Place) -> None:
    """A head whose chunks are already the next one's."""
    first, chunks = pack_policy(SITE, 1, encode_model(model("a")), at=1.0, slot=0)
    _, other = pack_policy(SITE, 3, encode_model(model("c")), at=1.0, slot=0)
    await site.put(site.subjects.policy_bucket, chunk_key(0, 0), other[0])
    await site.put(site.subjects.policy_bucket, POLICY_HEAD, encode(first))
    moved = asyncio.Event()
    has_moved_on = place.follower._has_moved_on

    async def move(bucket: Any, revision: int) -> bool:
        if not moved.is_set():
            moved.set()
            await site.publish(model("c"), 3)
        return await has_moved_on(bucket, revision)

    place.follower._has_moved_on = move  # type: ignore[method-assign]
    async with place.joined():
        await until(lambda: place.computers == {"c"}, "the policy that came meanwhile")
    assert place.follower.stats.refused == 0
    assert chunks


async def test_another_policy_under_the_version_that_is_held_is_taken_over(site: SiteSide, place: Place) -> None:
    """A site that lost its hub's buckets and was put back from a backup counts on from there."""
    await site.publish(model("a"), 5)
    async with place.joined():
        await until(lambda: place.computers == {"a"}, "the first policy")
        await site.publish(model("b"), 5)
        await until(lambda: place.computers == {"b"}, "the other one of that version")
    await site.publish(model("c"), 5)
    place.follower = place.new_follower()
    async with place.joined():
        await until(lambda: place.computers == {"c"}, "the one that came while it was away")
    assert len([event for event, _ in place.told if event == "bus.policy_mirrored"]) == 3


async def test_a_policy_that_is_held_already_is_not_told_again_after_a_restart(site: SiteSide, place: Place) -> None:
    said = SiteStore()
    said.replace_model(model("a"), "anna")
    await site.publish(said.model(), 5)  # with the moments at which things came to be, as a site has them
    said.close()
    for _ in range(2):
        place.follower = place.new_follower()
        place.now += 100
        async with place.joined():
            await until(lambda: _is_young(site, place), "that it holds")
    assert [event for event, _ in place.told if event == "bus.policy_mirrored"] == ["bus.policy_mirrored"]


async def test_a_word_about_another_policy_of_the_held_version_does_not_make_it_young(site: SiteSide, place: Place) -> None:  # fmt: skip
    await site.publish(model("a"), 5)
    async with place.joined():
        await until(lambda: place.computers == {"a"}, "the policy")
        place.now += 100
        link = await site.linked()
        await link.publish(site.subjects.notice, encode(Notice(5, "0" * 64, 1.0)))
        await link.publish(site.subjects.notice, encode(Notice(4, "0" * 64, 1.0)))
        await asyncio.sleep(0.3)
        assert place.follower.age_s >= 100


async def _is_young(site: SiteSide, place: Place) -> bool:
    await site.notice()
    return place.follower.age_s < 50 and place.computers == {"a"}
