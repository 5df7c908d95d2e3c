# SPDX-License-Identifier: Apache-2.0
"""Status messages go to the site: out of the spool into a stream, in order, confirmed when JetStream has them on disk.

What was sent and not acknowledged before a break is sent again under the same name. The stream knows that name for a while; for
good, (epoch, sequence) is a message's only name, by which the site keeps it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dpd.bus.link import Link
from dpd.bus.messages import StatusReport, encode
from dpd.bus.subjects import Subjects
from dpd.errors import BusError
from dpd.telemetry.spool import Spool
from dpd.telemetry.stats import counter
from dpd.telemetry.status_messages import StatusMessage

log = logging.getLogger(__name__)

READER = "site"  # its name at the spool
AT_ONCE = 64  # messages that wait for JetStream: two thousand a second; 200 held PXE answers up for 60 ms each time
LOOK_S = 30.0  # at the spool, where it tells no news


@dataclass(slots=True)
class ShipperStats:
    """What the shipping of status messages counted."""

    sent: int = counter("Status messages that JetStream has acknowledged")


class StatusShipper:
    """`attend` is a work of the bus connection."""

    def __init__(self, spool: Spool, site: str, point: str, *, behind_leaf: bool) -> None:
        self.stats = ShipperStats()
        self._spool = spool
        self._point = point
        self._subject = Subjects(site).status(point, behind_leaf=behind_leaf)

    @property
    def epoch(self) -> str:
        return self._spool.epoch

    @property
    def backlog(self) -> int:
        """As the spool has it now."""
        confirmed = max(self._spool.confirmed(READER), self._spool.oldest - 1)
        return max(0, self._spool.latest - confirmed)

    async def attend(self, link: Link) -> None:
        """Until the link breaks."""
        while True:
            epoch, confirmed = self._spool.epoch, self._spool.confirmed(READER)
            batch = await asyncio.to_thread(self._spool.after, confirmed, AT_ONCE)
            if not batch or epoch != self._spool.epoch:
                await self._spool.news(confirmed, LOOK_S)
                continue
            await self._ship(link, epoch, batch)

    async def _ship(self, link: Link, epoch: str, batch: Sequence[StatusMessage]) -> None:
        """Confirms what JetStream has without a gap, whatever became of the rest. Raises what kept the rest."""
        outcomes = await asyncio.gather(
            *(self._store(link, epoch, message) for message in batch), return_exceptions=True
        )
        stored = 0
        failure: BaseException | None = None
        for message, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failure = outcome
                break
            stored = message.sequence
            self.stats.sent += 1
        if stored and epoch == self._spool.epoch:
            await asyncio.to_thread(self._spool.confirm, READER, stored, epoch)
        if failure is not None:
            raise _explained(failure)

    async def _store(self, link: Link, epoch: str, message: StatusMessage) -> None:
        report = StatusReport(
            self._point,
            epoch,
            message.sequence,
            message.at,
            message.event,
            message.message_id,
            message.severity.value,
            message.fields,
        )
        await link.store(self._subject, encode(report), report.name)


def _explained(failure: BaseException) -> BaseException:
    """What nats-py says where no stream takes the subject has no words."""
    if type(failure).__name__ == "NoStreamResponseError":
        return BusError("no stream takes status messages; the site server makes it: does `dpd site serve` run?")
    return failure
