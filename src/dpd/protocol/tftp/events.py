# SPDX-License-Identifier: Apache-2.0
"""What a TFTP transfer tells its owner, and how it may end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Verdict(StrEnum):
    """How a transfer ended. REFUSED is the service's word for a request that never became a transfer."""

    COMPLETED = "completed"
    PROBE = "probe"  # EDK2 asks for tsize, aborts with ERROR 8 and comes again: normal
    ABORTED = "aborted"
    TIMEOUT = "timeout"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ExtentNeeded:
    """Request: blocks `first` to `last` of the file, `length` bytes from `offset` on; answered by `provide_extent`."""

    first: int
    last: int
    blksize: int
    length: int

    @property
    def offset(self) -> int:
        """Where its bytes begin in the file."""
        return (self.first - 1) * self.blksize


@dataclass(frozen=True, slots=True)
class Finished:
    """Fact: the transfer is over. `detail` says why, unless it completed."""

    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fact: a datagram that changed nothing: duplicate_ack, stale_ack, stray_tid or unexpected."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Fact: the client sent bytes that are no TFTP; `reason` is one of packet.REASONS."""

    reason: str


Event: TypeAlias = ExtentNeeded | Finished | Ignored | Malformed
