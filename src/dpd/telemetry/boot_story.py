# SPDX-License-Identifier: Apache-2.0
"""A machine's events cut into attempts: one power-on, from its first question to the last file it fetched.

Firmware repeats a DISCOVER with the xid it has (PXE 2.1: after 4, 8, 16 and 32 s), so another xid is another beginning.
But one boot has several stages, each with a DISCOVER of its own: iPXE asks after the firmware that loaded it. A stage that
follows progress (the class went on to iPXE, or a file was fetched since) belongs to the same attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpd.telemetry.journal import BootEvent

SILENCE_S = 60.0  # more than the longest pause between two DISCOVERs, 36 s with its jitter
REMARKS = ("conflict", "approval", "target")  # may come at any time, and begin nothing


@dataclass(frozen=True, slots=True)
class Attempt:
    """At least one event, oldest first."""

    events: tuple[BootEvent, ...]

    @property
    def began_at(self) -> float:
        return self.events[0].at

    @property
    def ended_at(self) -> float:
        return self.events[-1].at

    def all(self, *names: str) -> list[BootEvent]:
        """The events of these names."""
        return [event for event in self.events if event.event in names]

    def last(self, *names: str) -> BootEvent | None:
        """The newest of them."""
        return next((event for event in reversed(self.events) if event.event in names), None)


def split_attempts(events: Sequence[BootEvent]) -> list[Attempt]:
    """Every event in exactly one attempt, oldest first."""
    attempts: list[list[BootEvent]] = []
    for event in events:
        if not attempts or _begins(attempts[-1], event):
            attempts.append([])
        attempts[-1].append(event)
    return [Attempt(tuple(each)) for each in attempts]


def _begins(attempt: list[BootEvent], event: BootEvent) -> bool:
    """Whether this event is of another attempt than those before."""
    if event.event in REMARKS:
        return False
    if event.event != "discover":
        return event.at - attempt[-1].at > 10 * SILENCE_S  # a large image may take minutes between two records
    if event.at - attempt[-1].at > SILENCE_S:
        return True
    earlier = next((each for each in reversed(attempt) if each.event == "discover"), None)
    if earlier is None:  # it came to 4011 or for a file before: sent here by another server
        return any(each.event not in REMARKS and each.event != "foreign_offer" for each in attempt)
    if _family(earlier) != _family(event):
        return True
    return _is_new_run(earlier, event) and not _went_on(attempt, earlier, event)


def _is_new_run(earlier: BootEvent, event: BootEvent) -> bool:
    """Another xid; where none is told, the seconds began again."""
    if "xid" in earlier.fields and "xid" in event.fields:
        return earlier.fields["xid"] != event.fields["xid"]
    return _seconds(event) < _seconds(earlier)


def _went_on(attempt: list[BootEvent], earlier: BootEvent, event: BootEvent) -> bool:
    """Whether this is the next stage of the same boot: never back to the firmware, once iPXE has asked."""
    before, now = earlier.fields.get("client_class"), event.fields.get("client_class")
    if now != "iPXE":
        return False
    if before != "iPXE":
        return True
    since = attempt[attempt.index(earlier) :]
    return any(each.event in ("tftp", "http") and fetched(each) for each in since)


def fetched(event: BootEvent) -> bool:
    """Whether a file went to the machine as a whole."""
    if event.event == "tftp":
        return event.fields.get("verdict") == "completed"
    return event.event == "http" and event.fields.get("step") == "finished"


def _family(event: BootEvent) -> int:
    return int(event.fields.get("family", 4))


def family_of(attempt: Attempt) -> int:
    """4 or 6: the IP version by which the machine asked."""
    asked = attempt.last("discover", "boot_request")
    return 4 if asked is None else _family(asked)


def _seconds(event: BootEvent) -> int:
    value = event.fields.get("secs", 0)
    return value if isinstance(value, int) else 0
