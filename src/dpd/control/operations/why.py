# SPDX-License-Identifier: Apache-2.0
"""Why machines did or did not boot: their stories out of the journal, judged by `dpd.explain.causes`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpd.errors import DpdError
from dpd.explain.causes import AttemptStory, explain
from dpd.explain.findings import BootCause, Surroundings
from dpd.settings import Settings
from dpd.site.identity import EMPTY_GUIDS
from dpd.telemetry.journal import BootEvent, BootJournal

SETTLED_S = 60.0  # of silence: whatever is concluded from it has been; findings.PATIENCE_S
JUDGED_AGAIN_S = 300.0  # since settings and relays are judged by as well

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Why:
    """One machine's boots: why the last one ended as it did, and the steps of each. `mac` is "" for a GUID that nobody told;
    `others` are further machines that told the same GUID."""

    mac: str
    others: tuple[str, ...]
    cause: BootCause
    sentence: str
    next_step: str
    remarks: tuple[str, ...]
    attempts: tuple[AttemptStory, ...]


@dataclass(frozen=True, slots=True)
class LastBoot:
    """A machine's newest attempt in short. `computer` is "" where policy knows none; `last_step` is in words."""

    mac: str
    computer: str
    cause: BootCause
    sentence: str
    began_at: float
    last_at: float
    attempts: int
    last_step: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """A boot, how many events its machine had then, and when that was."""

    boot: LastBoot
    count: int
    judged_at: float


class WhyOperations:
    """Answers out of one journal. `settings` gives those that hold now."""

    def __init__(
        self, journal: BootJournal, settings: Callable[[], Settings], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._settled: dict[str, _Judged] = {}

    def why(self, machine: str) -> Why:
        """The explanation for a MAC or a GUID, also one that was never heard. Raises DpdError for what is neither."""
        macs = self._macs_of(machine)
        mac = macs[-1] if macs else ""
        told = explain(self._journal.story(mac) if mac else [], self.surroundings())
        return Why(mac, tuple(macs[:-1]), told.cause, told.sentence, told.next_step, told.remarks, told.attempts)

    def boots(self, limit: int) -> tuple[list[LastBoot], int]:
        """The newest attempt of each of the `limit` machines that were heard of last, the newest attempt first; and how many
        machines there are. Takes a while where there are many, so it is for a worker."""
        macs = self._journal.machines()
        around = self.surroundings()
        found = {mac: judged for mac in macs[-limit:] if (judged := self._judged(mac, around)) is not None}
        self._settled = {mac: each for mac, each in found.items() if around.now - each.boot.last_at > SETTLED_S}
        boots = sorted((each.boot for each in found.values()), key=lambda boot: (-boot.began_at, boot.mac))
        return boots, len(macs)

    def _judged(self, mac: str, around: Surroundings) -> _Judged | None:
        """What was said before, where nothing has come since and nothing follows from silence any more. None where the machine
        has been forgotten meanwhile."""
        before, events = self._journal.chapter(mac)
        if not events:
            return None
        count, known = before + len(events), self._settled.get(mac)
        is_same = known is not None and (known.count, known.boot.last_at) == (count, events[-1].at)
        if known is not None and is_same and around.now - known.judged_at < JUDGED_AGAIN_S:
            return known
        return _Judged(_last_boot(mac, events, around), count, around.now)

    def _macs_of(self, machine: str) -> Sequence[str]:
        """The MACs that are meant, the one heard of last at the end."""
        text = machine.strip().strip("{}").lower()
        digits = re.sub(r"[:.-]", "", text)
        mac = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
        if _MAC.fullmatch(mac):
            return [mac]
        guid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        if _GUID.fullmatch(guid):
            return self._journal.find(guid)
        raise DpdError(
            f"{machine[:40]!r}: expected a MAC such as 52:54:00:12:34:56 or a GUID such as 4c4c4544-0042-3510-8054-b4c04f564431"
        )

    def surroundings(self) -> Surroundings:
        """What is known beside the machines' own stories."""
        settings = self._settings().pxe
        shared = EMPTY_GUIDS | {each.lower() for each in settings.duplicate_ids}
        return Surroundings(self._clock(), settings.server_address, self._journal.relays(), shared)


def _last_boot(mac: str, events: Sequence[BootEvent], around: Surroundings) -> LastBoot:
    told = explain(events, around)
    newest = told.attempts[-1]
    decided = [event for event in events if event.event == "decision" and event.at >= newest.began_at]
    computer = str(decided[-1].fields.get("computer", "")) if decided else ""
    times = newest.began_at, newest.ended_at, len(told.attempts)
    return LastBoot(mac, computer, told.cause, told.sentence, *times, newest.steps[-1].text)
