# SPDX-License-Identifier: Apache-2.0
"""The model on its way to the bus: each change, in order, whole, and never two models under one version."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from tests.site_server.at_work import at_work

from dpd.bus.documents import unpack_policy
from dpd.bus.link import Link
from dpd.bus.messages import Notice, PolicyHead, decode
from dpd.bus.subjects import POLICY_HEAD, Subjects, chunk_key
from dpd.settings import Settings
from dpd.site.model import SiteModel, decode_model
from dpd.site.records import Computer
from dpd.site.store import SiteStore
from dpd.site_server.layout import ensure_layout
from dpd.site_server.publisher import Publisher

SUBJECTS = Subjects("lab")


@pytest.fixture
async def laid_out(link: Link, settings: Settings) -> Link:
    await ensure_layout(link, settings)
    return link


def publishing(publisher: Publisher, link: Link) -> AbstractAsyncContextManager[None]:
    return at_work(publisher.publish(link))


async def read(link: Link) -> tuple[PolicyHead, SiteModel]:
    """As a point does."""
    bucket = await link.bucket(SUBJECTS.policy_bucket)
    head = decode(PolicyHead, (await bucket.get(POLICY_HEAD)).value)
    chunks = [(await bucket.get(chunk_key(head.slot, index))).value or b"" for index in range(head.chunks)]
    return head, decode_model(unpack_policy(head, chunks))


def computer(number: int) -> Computer:
    return Computer(f"PC-{number}", (f"52:54:00:00:00:{number:02x}",))


async def test_a_change_of_the_model_is_on_the_bus_and_told(laid_out: Link) -> None:
    store, said = SiteStore(), asyncio.Queue[Notice]()
    publisher = Publisher(store, "lab")

    async def hear(message) -> None:  # type: ignore[no-untyped-def]
        said.put_nowait(decode(Notice, message.data))

    async with asyncio.timeout(60), laid_out.subscribed(SUBJECTS.notice, hear), publishing(publisher, laid_out):
        for number in (1, 2):
            store.add_computer(computer(number), "test")
            assert await publisher.wait_published(30)
            head, model = await read(laid_out)
            assert model == store.model()
            assert (head.version, head.site) == (store.policy_version, "lab")
            notice = await said.get()
            assert (notice.version, notice.sha256) == (head.version, head.sha256)
    store.close()


async def test_a_site_that_has_said_nothing_publishes_nothing(laid_out: Link) -> None:
    store = SiteStore()
    publisher = Publisher(store, "lab")
    async with asyncio.timeout(60), publishing(publisher, laid_out):
        assert await publisher.wait_published(30)
    assert publisher.head is None
    store.close()


async def test_what_changes_nothing_in_the_model_is_not_published(laid_out: Link) -> None:
    store = SiteStore()
    publisher = Publisher(store, "lab")
    async with asyncio.timeout(60), publishing(publisher, laid_out):
        store.add_computer(computer(1), "test")
        assert await publisher.wait_published(30)
        store.note_change("test", "settings applied")
        assert await publisher.wait_published(30)
    assert publisher.stats.published == 1
    store.close()


async def test_a_store_from_a_backup_goes_on_above_what_points_hold(laid_out: Link, tmp_path: Path) -> None:
    """Its own version is lower than that of the bus, so what it says next has a number of its own."""
    store = SiteStore()
    async with asyncio.timeout(60), publishing(publisher := Publisher(store, "lab"), laid_out):
        for number in (1, 2, 3):
            store.add_computer(computer(number), "test")
        assert await publisher.wait_published(30)
    restored = SiteStore(tmp_path / "restored.db")
    restored.add_computer(computer(1), "test")
    async with asyncio.timeout(60), publishing(again := Publisher(restored, "lab"), laid_out):
        assert await again.wait_published(30)
        head, model = await read(laid_out)
        assert (head.version, model) == (4, restored.model())
        restored.add_computer(computer(9), "test")
        assert await again.wait_published(30)
        assert (await read(laid_out))[0].version == 5
    restored.close()
    store.close()


async def test_a_publisher_that_starts_again_says_what_is_there_and_puts_nothing_new(laid_out: Link) -> None:
    store = SiteStore()
    store.add_computer(computer(1), "test")
    for expected in (1, 0):
        publisher = Publisher(store, "lab")
        async with asyncio.timeout(60), publishing(publisher, laid_out):
            assert await publisher.wait_published(30)
            assert (publisher.version, publisher.stats.published) == (1, expected)
    store.close()


async def test_a_large_model_is_whole_at_each_moment(laid_out: Link) -> None:
    """A head never leads to chunks of another one: the slot before it is still there while the next is put."""
    store = SiteStore()
    publisher = Publisher(store, "lab")
    async with asyncio.timeout(120), publishing(publisher, laid_out):
        store.carry_out(
            [Computer(f"C{n}", (f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",)) for n in range(3000)],
            "test",
        )
        assert await publisher.wait_published(30)
        for number in range(5):
            store.add_computer(computer(number + 1), "test")
            head, model = await read(laid_out)
            assert len(model.computers) >= 3000 + head.version - 1
        assert await publisher.wait_published(30)
        assert (await read(laid_out))[1] == store.model()
    store.close()


async def test_a_site_from_a_backup_at_a_new_hub_goes_on_above_what_points_hold(laid_out: Link) -> None:
    """Nothing but the points themselves knows how far the site had come."""
    store, held = SiteStore(), 40
    store.add_computer(computer(1), "test")
    publisher = Publisher(store, "lab", held=lambda: held)
    async with asyncio.timeout(60), publishing(publisher, laid_out):
        assert await publisher.wait_published(30)
        assert (await read(laid_out))[0].version == 41
        held = 50  # one that was away comes back
        while (await read(laid_out))[0].version != 51:
            await asyncio.sleep(0.1)
        head, model = await read(laid_out)
        assert model == store.model()
        held = head.version
        store.add_computer(computer(2), "test")
        assert await publisher.wait_published(30)
        assert (await read(laid_out))[0].version == 52
    store.close()


async def test_a_document_that_is_damaged_on_the_bus_is_put_anew(laid_out: Link) -> None:
    store = SiteStore()
    store.add_computer(computer(1), "test")
    async with asyncio.timeout(60), publishing(first := Publisher(store, "lab"), laid_out):
        assert await first.wait_published(30)
    assert first.head is not None
    await (await laid_out.bucket(SUBJECTS.policy_bucket)).put(chunk_key(first.head.slot, 0), b"damaged")
    async with asyncio.timeout(60), publishing(again := Publisher(store, "lab"), laid_out):
        assert await again.wait_published(30)
        head, model = await read(laid_out)
    assert (head.version, model) == (2, store.model())
    store.close()
