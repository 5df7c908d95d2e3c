# SPDX-License-Identifier: Apache-2.0
"""From a machine's story to its status messages: the steps that matter, each at most once in a boot.

A boot is an attempt as `dpd.telemetry.boot_story` cuts it: firmware repeats its questions, a machine that waits asks for its
script every few seconds, and none of that is news. Whether a boot failed is judged when it is over: the machine has been silent
for OVER_S, or has begun anew. It is an error where policy knows the machine or has something for it, and a warning else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dpd.explain.causes import explain
from dpd.explain.findings import PATIENCE_S, BootCause, Surroundings
from dpd.site.decision import Outcome
from dpd.telemetry.boot_story import SILENCE_S, Attempt, fetched, split_attempts
from dpd.telemetry.journal import BootEvent
from dpd.telemetry.status_messages import Value

OVER_S = SILENCE_S
MACHINES = 4096  # as many as the journal has

# What policy did not want, what is still under way and what dpd was not asked about is no failure.
FAILURES = frozenset(BootCause) - {
    BootCause.FINE,
    BootCause.IN_PROGRESS,
    BootCause.NO_RELAY,
    BootCause.MAINTENANCE,
    BootCause.SWITCHED_OFF,
    BootCause.IGNORED_MAC,
    BootCause.UNKNOWN_DENIED,
    BootCause.UNKNOWN_PENDING,
    BootCause.PIN_MISSING,
    BootCause.NOTHING_DEPLOYED,
    BootCause.ALREADY_RUN,
    BootCause.NOT_YET,
    BootCause.DEPLOYMENT_EXPIRED,
    BootCause.RESPONSE_DELAY,
    BootCause.GUID_SHARED,
    BootCause.KEY_NOT_PRESSED,
}
_ENDS = ("boot.finished", "boot.failed", "boot.unfinished")


@dataclass(frozen=True, slots=True)
class BootReport:
    """A status message to be."""

    event: str
    fields: dict[str, Value]


@dataclass(slots=True)
class _Boot:
    """What was told of a machine's newest boot. `first` and `next` number its events over the whole story."""

    first: int
    next: int
    told: set[str] = field(default_factory=set)
    computer: str = ""
    deployment: str = ""
    boot_image: str = ""
    was_answered: bool = False


class BootReports:
    """The newest boot of each machine that was heard lately."""

    def __init__(self) -> None:
        self._boots: OrderedDict[str, _Boot] = OrderedDict()

    def look(
        self, mac: str, before: int, events: Sequence[BootEvent], around: Surroundings, *, is_over: bool = False
    ) -> list[BootReport]:
        """What is new in a story of which `before` events are gone; `is_over`: the machine is silent."""
        attempts = split_attempts(events)
        boot = self._boots.get(mac)
        if boot is not None and boot.next > before + len(events):  # forgotten meanwhile, and begun anew
            boot = None
        reports: list[BootReport] = []
        at = before
        for place, attempt in enumerate(attempts):
            first, at = at, at + len(attempt.events)
            if boot is not None and at <= boot.first:
                continue
            if boot is None or first >= boot.next:
                if boot is not None and place:
                    reports += _judge(mac, boot, attempts[:place], around)
                boot = _Boot(first, first)
            new = attempt.events[max(0, boot.next - first) :]
            boot.next = at
            reports += [each for event in new for each in _step(mac, boot, event)]
        if boot is not None:
            if is_over and attempts:
                reports += _judge(mac, boot, attempts, around)
            self._keep(mac, boot)
        return reports

    def _keep(self, mac: str, boot: _Boot) -> None:
        self._boots[mac] = boot
        self._boots.move_to_end(mac)
        while len(self._boots) > MACHINES:
            self._boots.popitem(last=False)


def _judge(mac: str, boot: _Boot, attempts: Sequence[Attempt], around: Surroundings) -> Iterator[BootReport]:
    """Of a boot that is over; the last of these attempts is this boot."""
    if any(event in boot.told for event in _ENDS):
        return
    events = [event for attempt in attempts for event in attempt.events]
    over = replace(around, now=max(around.now, attempts[-1].ended_at + PATIENCE_S))
    told = explain(events, over)
    if told.cause in FAILURES and (boot.was_answered or told.cause is not BootCause.NOT_ANSWERED):
        fields = {"cause": told.cause.value, "sentence": told.sentence, "next_step": told.next_step}
        is_wanted = boot.computer or boot.deployment  # of others anybody's packet may speak
        yield from _once(mac, boot, "boot.failed" if is_wanted else "boot.unfinished", fields)


def _step(mac: str, boot: _Boot, event: BootEvent) -> Iterator[BootReport]:
    read = _READERS.get(event.event)
    if read is not None:
        yield from read(mac, boot, event)
    elif fetched(event):
        by = {"tftp": "TFTP", "http": "HTTP"}[event.event]
        yield from _once(mac, boot, "boot.loader_fetched", {"file": event.fields.get("file", ""), "by": by})


def _once(mac: str, boot: _Boot, event: str, fields: Mapping[str, Value]) -> Iterator[BootReport]:
    if event not in boot.told:
        boot.told.add(event)
        yield BootReport(event, {"mac": mac, "computer": boot.computer, **fields})


def _decided(mac: str, boot: _Boot, event: BootEvent) -> Iterator[BootReport]:
    said = {name: str(event.fields.get(name, "")) for name in ("cause", "deployment", "boot_image", "code")}
    outcome = event.fields.get("outcome")
    boot.computer = str(event.fields.get("computer", ""))
    boot.deployment, boot.boot_image = said["deployment"], said["boot_image"]
    if outcome == Outcome.WAIT:
        yield from _once(mac, boot, "boot.waiting", {"code": said["code"], "cause": said["cause"]})
    elif outcome in (Outcome.BOOT, Outcome.PROMPT):
        del said["code"]
        yield from _once(mac, boot, "boot.granted", said)
    else:
        yield from _once(mac, boot, "boot.refused", {"cause": said["cause"], "deployment": said["deployment"]})


def _answered(mac: str, boot: _Boot, event: BootEvent) -> Iterator[BootReport]:
    boot.was_answered = True
    yield from ()


def _approved(mac: str, boot: _Boot, event: BootEvent) -> Iterator[BootReport]:
    state, by = event.fields.get("state"), str(event.fields.get("by", ""))
    if state == "approved":
        boot.told.discard("boot.loader_fetched")  # that was the waiting screen's
        yield from _once(mac, boot, "boot.approved", {"by": by})
    elif state == "denied":
        yield from _once(mac, boot, "boot.denied", {"by": by})


def _finished(mac: str, boot: _Boot, event: BootEvent) -> Iterator[BootReport]:
    yield from _once(mac, boot, "boot.finished", {"boot_image": boot.boot_image, "file": event.fields.get("file", "")})


_READERS: dict[str, Callable[[str, _Boot, BootEvent], Iterator[BootReport]]] = {
    "decision": _decided,
    "offer": _answered,
    "boot_reply": _answered,
    "approval": _approved,
    "image_fetched": _finished,
}
