# SPDX-License-Identifier: Apache-2.0
"""Why a machine did not boot: its events in, one cause out of a closed set, with what to do about it.

Theory of operation. The newest attempt is judged. Its judges stand in the order of a boot: did the question reach dpd, did
policy and the rules let it be answered, did the loader arrive, did another server spoil it, did the boot go on. The first
that finds something decides, so that the cause is the earliest stage that failed. What is concluded from silence waits
until the machine has been silent for PATIENCE_S.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dpd.explain import answer_causes, loader_causes, server_causes, transfer_causes
from dpd.explain.boot_steps import FLAGS, in_words
from dpd.explain.findings import PATIENCE_S, BootCause, Case, Finding, Surroundings, text_of
from dpd.telemetry.boot_story import Attempt, family_of, split_attempts
from dpd.telemetry.journal import BootEvent

JUDGES = (
    loader_causes.taken_for_another,
    *answer_causes.JUDGES,
    *transfer_causes.JUDGES,
    *server_causes.JUDGES,
    *transfer_causes.OF_SILENCE,
    *loader_causes.JUDGES,
)
SAME_BOOT_S = 300.0
# Another server's part in a boot that it did not stop.
_TOLERATED = {
    "proxy": BootCause.SECOND_PROXY,
    "file": BootCause.LEASE_SERVER_SETS_FILE,
    "option60": BootCause.STRAY_OPTION_60,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One event in plain words."""

    at: float
    event: str
    text: str


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One attempt, its steps in order."""

    began_at: float
    ended_at: float
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause, in a sentence, and what to do; `remarks` are things that are not right but did not stop this boot."""

    cause: BootCause
    sentence: str
    next_step: str
    remarks: tuple[str, ...]
    attempts: tuple[AttemptStory, ...]


def explain(events: Sequence[BootEvent], around: Surroundings) -> Explanation:
    """Judge one machine's story, oldest event first; without any event it was never heard."""
    attempts = split_attempts(events)
    remarks: tuple[str, ...] = ()
    if attempts:
        case = Case(attempts[-1], attempts[:-1], around)
        finding = _judge(case)
        remarks = (*_remarks(case, finding.cause), *_other_family(case))
    else:
        finding = answer_causes.never_heard(around)
    stories = tuple(map(_tell, attempts))
    return Explanation(finding.cause, finding.sentence, finding.next_step, remarks, stories)


def _judge(case: Case) -> Finding:
    for judge in JUDGES:
        finding = judge(case)
        if finding is not None:
            return finding
    raise AssertionError("the last judge always finds something")


def _remarks(case: Case, cause: BootCause) -> Iterator[str]:
    for flag, its_cause in _TOLERATED.items():
        event = server_causes.offer_with(case.attempt, flag)
        if event is not None and cause is not its_cause:
            yield f"Another server, {text_of(event, 'server')}, offers {FLAGS[flag]} to this machine too."
    shared = loader_causes.guid_conflict(case)
    if shared is not None and cause is not BootCause.GUID_SHARED:
        yield shared.sentence
    if case.attempt.last("discover") is None and case.attempt.last("boot_request", "tftp", "http"):
        yield "dpd did not hear the machine's first question: it was sent here by another server, or there is no relay to dpd."


def _other_family(case: Case) -> Iterator[str]:
    """Firmware tries IPv6 after IPv4, or the other way: then the attempt before belongs to the same boot."""
    if not case.earlier or case.attempt.began_at - case.earlier[-1].ended_at > SAME_BOOT_S:
        return
    before, now = family_of(case.earlier[-1]), family_of(case.attempt)
    if before != now:
        around = replace(case.around, now=max(case.around.now, case.earlier[-1].ended_at + PATIENCE_S))
        yield f"Over IPv{before} just before: {_judge(Case(case.earlier[-1], case.earlier[:-1], around)).sentence}"


def _tell(attempt: Attempt) -> AttemptStory:
    steps = tuple(Step(event.at, event.event, in_words(event)) for event in attempt.events)
    return AttemptStory(attempt.began_at, attempt.ended_at, steps)
