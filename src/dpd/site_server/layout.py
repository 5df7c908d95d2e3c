# SPDX-License-Identifier: Apache-2.0
"""What the site needs in JetStream at the hub: the status stream with its sources, and the buckets. Made where it is missing,
brought to what the settings say where it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpd.bus.edge import DUPLICATE_WINDOW_S
from dpd.bus.link import Link
from dpd.bus.subjects import Subjects
from dpd.settings import Settings

if TYPE_CHECKING:
    from nats.js.api import KeyValueConfig, StreamConfig

DAY_S = 86400.0


async def ensure_layout(link: Link, settings: Settings) -> None:
    """Idempotent. Raises what nats-py raises."""
    from nats.js.errors import NotFoundError

    subjects = Subjects(settings.bus.site)
    wanted = _status_stream(subjects, settings)
    try:
        found = (await link.jetstream.stream_info(subjects.status_stream)).config
        # Replicas, limits and whatever else the operator has set stay.
        ours = {"subjects": wanted.subjects, "sources": wanted.sources, "max_age": wanted.max_age, "duplicate_window": wanted.duplicate_window}  # fmt: skip
        await link.jetstream.update_stream(found.evolve(**ours))
    except NotFoundError:
        await link.jetstream.add_stream(wanted)
    for bucket in subjects.buckets:
        await ensure_bucket(link, bucket)


async def ensure_bucket(link: Link, bucket: str) -> None:
    """A bucket of the last value of each key."""
    from nats.js.errors import NotFoundError

    try:
        await link.jetstream.key_value(bucket)
    except NotFoundError:
        await link.jetstream.create_key_value(_bucket(bucket))


def _status_stream(subjects: Subjects, settings: Settings) -> StreamConfig:
    """What points at the hub send, and the streams of the leaf nodes' domains. Kept as long as the archive keeps it, so that an
    archive that has lost its file is filled again."""
    from nats.js.api import ExternalStream, RetentionPolicy, StorageType, StreamConfig, StreamSource

    sources = [
        StreamSource(subjects.status_stream, external=ExternalStream(api=f"$JS.{domain}.API"))
        for domain in settings.site.leaf_domains
    ]
    return StreamConfig(
        name=subjects.status_stream,
        subjects=[subjects.status("*")],
        sources=sources or None,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=settings.site.keep_events_days * DAY_S,
        duplicate_window=DUPLICATE_WINDOW_S,
    )


def _bucket(name: str) -> KeyValueConfig:
    from nats.js.api import KeyValueConfig, StorageType

    return KeyValueConfig(bucket=name, history=1, storage=StorageType.FILE, direct=True)
