# SPDX-License-Identifier: Apache-2.0
"""Streams and buckets at the hub, on a real server."""

from __future__ import annotations

from dataclasses import replace

from dpd.bus.link import Link
from dpd.bus.subjects import Subjects
from dpd.settings import Settings, SiteSettings
from dpd.site_server.layout import DAY_S, ensure_layout

SUBJECTS = Subjects("lab")


async def test_what_is_missing_is_made_and_what_is_there_stays(link: Link, settings: Settings) -> None:
    await ensure_layout(link, settings)
    bucket = await link.bucket(SUBJECTS.desired_bucket)
    await bucket.put("branch-1", b"kept")
    await link.store(SUBJECTS.status("branch-1"), b"kept")
    await ensure_layout(link, settings)
    assert (await bucket.get("branch-1")).value == b"kept"
    info = await link.jetstream.stream_info(SUBJECTS.status_stream)
    assert info.state.messages == 1
    assert {each.config.name for each in await link.jetstream.streams_info()} == {
        SUBJECTS.status_stream,
        *(f"KV_{name}" for name in SUBJECTS.buckets),
    }


async def test_a_change_of_the_settings_reaches_the_stream(link: Link, settings: Settings) -> None:
    await ensure_layout(link, settings)
    await ensure_layout(link, replace(settings, site=SiteSettings(keep_events_days=3, leaf_domains=("branch",))))
    config = (await link.jetstream.stream_info(SUBJECTS.status_stream)).config
    assert config.max_age == 3 * DAY_S
    (source,) = config.sources or []
    assert source.external is not None
    assert (source.name, source.external.api) == (SUBJECTS.status_stream, "$JS.branch.API")


async def test_a_message_that_is_sent_again_is_stored_once(link: Link, settings: Settings) -> None:
    await ensure_layout(link, settings)
    for _ in range(2):
        await link.store(SUBJECTS.status("branch-1"), b"once", "aa-1")
    assert (await link.jetstream.stream_info(SUBJECTS.status_stream)).state.messages == 1


async def test_what_the_operator_has_set_of_the_stream_stays(link: Link, settings: Settings) -> None:
    """Such as its replicas over several servers, which one server cannot show."""
    await ensure_layout(link, settings)
    info = await link.jetstream.stream_info(SUBJECTS.status_stream)
    await link.jetstream.update_stream(info.config.evolve(max_bytes=1 << 30, description="of the lab"))
    await ensure_layout(link, settings)
    config = (await link.jetstream.stream_info(SUBJECTS.status_stream)).config
    assert (config.max_bytes, config.description) == (1 << 30, "of the lab")
