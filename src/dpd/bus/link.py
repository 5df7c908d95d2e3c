# SPDX-License-Identifier: Apache-2.0
"""One connection while it lasts: publish, subscribe, store in a stream, read and watch buckets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from dpd.bus.stats import BusStats
from dpd.bus.watch import AHEAD, FORGOTTEN_S, HEARTBEAT_S, Watch

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

ACK_TIMEOUT_S = 10.0

Take: TypeAlias = Callable[["Msg"], Awaitable[None]]


class Link:
    """`client` and `jetstream` are nats-py's own, for what this does not offer. `broken` is set when it has ended."""

    client: Client
    jetstream: JetStreamContext

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        self.last_error = ""
        self._stats = BusStats()

    def attach(self, client: Client, domain: str, stats: BusStats) -> None:
        """The client has connected."""
        self.client = client
        self.jetstream = client.jetstream(domain=domain or None, timeout=ACK_TIMEOUT_S)
        self._stats = stats

    @property
    def server(self) -> str:
        """Where it leads, without anything secret."""
        url = self.client.connected_url
        return url.netloc.rpartition("@")[2] if url is not None else ""

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """To whoever listens now."""
        await self.client.publish(subject, data, reply=reply)
        self._stats.sent += 1

    @asynccontextmanager
    async def subscribed(self, subject: str, take: Take) -> AsyncIterator[None]:
        """`take` gets each message, one after the other, inside the block."""
        subscription = await self.client.subscribe(subject, cb=take)
        await self.client.flush()
        try:
            yield
        finally:
            if not self.broken.is_set():
                await subscription.unsubscribe()

    async def store(self, subject: str, data: bytes, name: str = "") -> int:
        """Returns when JetStream has it on disk: its number in the stream. A `name` that the stream had lately is not stored
        again."""
        headers = {"Nats-Msg-Id": name} if name else None
        self._stats.sent += 1
        ack = await self.jetstream.publish(subject, data, headers=headers)
        self._stats.acked += 1
        return ack.seq

    async def replace(self, subject: str, data: bytes, revision: int) -> int:
        """Put a key's value where its last revision is this one, 0 for none; its new revision."""
        self._stats.sent += 1
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        ack = await self.jetstream.publish(subject, data, headers=headers)
        self._stats.acked += 1
        return ack.seq

    async def bucket(self, name: str) -> KeyValue:
        """A key-value bucket that exists."""
        return await self.jetstream.key_value(name)

    @asynccontextmanager
    async def watched(self, bucket: str, keys: str = ">") -> AsyncIterator[Watch]:
        """Each entry that matches, then None when all that there were have come, then what changes."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        came: asyncio.Queue[Msg] = asyncio.Queue(AHEAD)
        inbox = self.client.new_inbox()
        async with self.subscribed(inbox, came.put):
            consumer = ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                ack_policy=AckPolicy.NONE,
                filter_subject=f"$KV.{bucket}.{keys}",
                idle_heartbeat=HEARTBEAT_S,
                inactive_threshold=FORGOTTEN_S,
                num_replicas=1,
                mem_storage=True,
            )
            made = await self.jetstream.add_consumer(f"KV_{bucket}", consumer)
            yield Watch(bucket, came, made.num_pending or 0)
