# SPDX-License-Identifier: Apache-2.0
"""Status messages on their way from the hub's stream into the archive: acknowledged when they are on disk, not before."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpd.bus.connection import Tell, tell_nobody
from dpd.bus.link import Link
from dpd.bus.messages import StatusReport, decode
from dpd.bus.subjects import Subjects, point_of
from dpd.errors import BusError
from dpd.site_server.archive import Archive
from dpd.site_server.database import SiteServerError
from dpd.telemetry.spool import Spool
from dpd.telemetry.spool_file import SpoolError
from dpd.telemetry.stats import counter
from dpd.telemetry.status_messages import StatusMessage

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

CONSUMER = OWN_READER = "archive"
BATCH = 200
FETCH_S = 5.0
ACK_WAIT_S = 15.0  # then a message that a killed site server had taken comes once more
TRIM_S = 3600.0
SETTLE_LOOK_S = 60.0
NEWS_S = 30.0  # to wait for the site server's own messages
OWN_POINT = ""  # the point of those


@dataclass(slots=True)
class CollectorStats:
    """What came over the bus."""

    malformed: int = counter("Status messages of points that could not be read and were let go")


class Collector:
    """`collect` is a work of the bus connection. `taken` is called after each batch that is on disk."""

    def __init__(self, archive: Archive, site: str, *, tell: Tell = tell_nobody) -> None:
        self.stats = CollectorStats()
        self._tell = tell
        self._archive = archive
        self._subjects = Subjects(site)

    async def collect(self, link: Link) -> None:
        """Until the link breaks."""
        from nats.errors import TimeoutError as NothingCame

        source = await self._source(link)
        confirmed = await self._confirmed(source)
        taken = await asyncio.to_thread(lambda: self._archive.taken) if confirmed else 0
        if confirmed > taken:
            log.warning("archive put back from a backup: the stream is read again", extra={"confirmed": confirmed, "archived": taken})  # fmt: skip
            await link.jetstream.delete_consumer(self._subjects.status_stream, self._consumer)
            source = await self._source(link)
        while True:
            try:
                messages = await source.fetch(BATCH, timeout=FETCH_S)
            except NothingCame:
                continue
            reports = [report for report in map(self._read, messages) if report is not None]
            taken = max(taken, *(message.metadata.sequence.stream for message in messages))
            await asyncio.to_thread(self._archive.add, reports, taken=taken)
            for message in messages:
                await message.ack()

    @property
    def _consumer(self) -> str:
        return f"{CONSUMER}-{self._archive.epoch}"

    async def _source(self, link: Link) -> JetStreamContext.PullSubscription:
        from nats.js.api import AckPolicy, ConsumerConfig

        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=4 * BATCH)
        return await link.jetstream.pull_subscribe(
            "", durable=self._consumer, stream=self._subjects.status_stream, config=config
        )

    async def _confirmed(self, source: JetStreamContext.PullSubscription) -> int:
        """The place in the stream up to which JetStream has heard that all is archived."""
        floor = (await source.consumer_info()).ack_floor
        return floor.stream_seq if floor is not None else 0

    async def keep_trimming(self) -> None:
        """For ever: what is older than is kept goes."""
        while True:
            try:
                await asyncio.to_thread(self._archive.trim)
            except SiteServerError as error:
                log.warning("archive not trimmed", extra={"error": str(error)})
            await asyncio.sleep(TRIM_S)

    async def keep_settling(self) -> None:
        """For ever: what points have sent and never came is told."""
        while True:
            try:
                for each in await asyncio.to_thread(self._archive.settle):
                    self._tell("point.messages_missing", point=each.point, count=each.count, first=each.first, last=each.last)  # fmt: skip
            except SiteServerError as error:
                log.warning("archive not looked through for gaps", extra={"error": str(error)})
            await asyncio.sleep(SETTLE_LOOK_S)

    def _read(self, message: Msg) -> StatusReport | None:
        """None for what is none, or in the name of another point, which the NATS server knows by the subject."""
        try:
            report = decode(StatusReport, message.data)
            if report.point != point_of(message.subject):
                raise BusError(f"statusreport: it is in the name of {report.point[:63]!r}")
            return report
        except BusError as error:
            self.stats.malformed += 1
            log.warning("status message not readable", extra={"subject": message.subject, "error": str(error)})
            return None


class OwnMessages:
    """The site server's own status messages, out of its spool into the archive."""

    def __init__(self, spool: Spool, archive: Archive) -> None:
        self._spool = spool
        self._archive = archive

    async def keep_collecting(self) -> None:
        """For ever."""
        while True:
            try:
                confirmed = await asyncio.to_thread(self._collect)
            except (SpoolError, SiteServerError) as error:
                log.warning("own status messages not archived yet", extra={"error": str(error)})
                await asyncio.sleep(FETCH_S)
                continue
            await self._spool.news(confirmed, NEWS_S)

    def _collect(self) -> int:
        confirmed = self._spool.confirmed(OWN_READER)
        while messages := self._spool.after(confirmed, BATCH):
            self._archive.add([_as_report(self._spool.epoch, message) for message in messages])
            confirmed = messages[-1].sequence
            self._spool.confirm(OWN_READER, confirmed)
        return confirmed


def _as_report(epoch: str, message: StatusMessage) -> StatusReport:
    return StatusReport(
        OWN_POINT,
        epoch,
        message.sequence,
        message.at,
        message.event,
        message.message_id,
        message.severity.value,
        message.fields,
    )
