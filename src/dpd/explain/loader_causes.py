# SPDX-License-Identifier: Apache-2.0
"""Judges of what came after the loader: did it start, did it go on, and was it meant for this machine?"""

from __future__ import annotations

from dpd.explain.findings import PATIENCE_S, BootCause, Case, Finding, Judge, plain_name, text_of
from dpd.site.decision import Cause
from dpd.telemetry.boot_story import fetched

AGAIN_S = 180.0  # between a loader that did not start and the next attempt


def shared_guid(case: Case) -> Finding | None:
    """Two addresses tell one GUID, and policy went by it."""
    decision = case.attempt.last("decision")
    return guid_conflict(case) if decision is not None and text_of(decision, "computer") else None


def taken_for_another(case: Case) -> Finding | None:
    """A required deployment that is said to have run, on a machine that has fetched nothing: its twin had it."""
    decision = case.attempt.last("decision")
    if decision is None or text_of(decision, "cause") != Cause.ALREADY_RUN:
        return None
    events = (event for attempt in (*case.earlier, case.attempt) for event in attempt.events)
    return None if any(map(fetched, events)) else guid_conflict(case)


def guid_conflict(case: Case) -> Finding | None:
    """Two addresses tell one GUID that policy may go by."""
    conflicts = [
        event
        for attempt in (*case.earlier, case.attempt)
        for event in attempt.all("conflict")
        if text_of(event, "kind") == "duplicate_guid" and text_of(event, "guid") not in case.around.shared_ids
    ]
    if not conflicts:
        return None
    others = text_of(conflicts[-1], "others")
    sentence = f"The machine's GUID {text_of(conflicts[-1], 'guid')} is also told by {others}: what is deployed to one may start on the other."  # fmt: skip
    return Finding(BootCause.GUID_SHARED, sentence, "If these are two machines, put the GUID into pxe.duplicate_ids, so that they are known by MAC alone; two cards of one machine are no fault.")  # fmt: skip


def faulty_loader(case: Case) -> Finding | None:
    """It was fetched and nothing came after, and dpd has seen itself what is wrong with it."""
    last = case.last_fetched
    if last is None or not case.is_over or last is not case.attempt.last("tftp", "http", "discover", "refused_file"):
        return None
    name = plain_name(text_of(last, "file"))
    faults = [each for each in case.attempt.all("loader_fault") if plain_name(text_of(each, "file")) == name]
    if not faults:
        return None
    sentence = f"The machine has fetched {text_of(last, 'file')} as a whole and did not go on; that file has a fault: {text_of(faults[-1], 'detail', 'not told')}."  # fmt: skip
    return Finding(BootCause.LOADER_NOT_STARTED, sentence, "Put a sound copy into the boot directory and reload; `dpd boot-file check` and `dpd boot-file list` look at those there are.")  # fmt: skip


def stalled_grub(case: Case) -> Finding | None:
    """Debian's and Ubuntu's signed GRUB takes its server from the lease alone."""
    last = case.last_fetched
    if last is None or last is not case.attempt.last("tftp", "http", "discover", "refused_file") or not case.is_over:
        return None
    name = plain_name(text_of(last, "file")).rpartition("/")[2]
    if not (name.startswith("grub") and name.endswith(".efi")):
        return None
    sentence = f"GRUB ({name}) was fetched and then asked for nothing: signed GRUB takes its server from the lease server's next-server (siaddr) and knows nothing of a proxy's answer."  # fmt: skip
    return Finding(BootCause.SIGNED_GRUB_STALL, sentence, f"Set next-server of the lease server to {case.server} (dnsmasq: dhcp-boot=tag:…,,,{case.server}; Kea and ISC: next-server {case.server}), or boot iPXE instead.")  # fmt: skip


def not_started(case: Case) -> Finding | None:
    """The same file went out in this attempt and in the one just before, and nothing after it in either."""
    if not case.earlier or case.attempt.began_at - case.earlier[-1].ended_at > AGAIN_S:
        return None
    files = {
        text_of(event, "file")
        for attempt in (case.earlier[-1], case.attempt)
        for event in attempt.events
        if fetched(event)
    }
    if len(files) != 1 or not any(map(fetched, case.attempt.events)) or not any(map(fetched, case.earlier[-1].events)):
        return None
    sentence = f"The machine has fetched {files.pop()} as a whole more than once and each time begun anew: its firmware does not start that file."  # fmt: skip
    return Finding(BootCause.LOADER_NOT_STARTED, sentence, "With Secure Boot on, the loader's signature must be one that the firmware trusts (2011 or 2023 certificates); and its architecture must be the firmware's.")  # fmt: skip


def in_the_end(case: Case) -> Finding:
    """Nothing is wrong that can be seen from here."""
    if case.attempt.last("target") is not None:
        sentence = "The machine has booted its deployment environment, which has asked for a task sequence."
        return Finding(BootCause.FINE, sentence, "`dpd deploy list` tells how far it has come since.")
    last = case.last_fetched
    if last is not None:
        sentence = f"The machine asked, was answered, and has fetched {text_of(last, 'file', 'its file')}: nothing is wrong that dpd can see."
        return Finding(BootCause.FINE, sentence, "If it did not start, its firmware refused the file: look at its screen, and at Secure Boot.")  # fmt: skip
    if case.is_over:
        sentence = "The machine began and fell silent before it had fetched anything."
        return Finding(BootCause.NOT_ANSWERED, sentence, "Its steps show how far it came.")
    return Finding(
        BootCause.IN_PROGRESS, "The boot is under way.", f"Ask again when nothing has come for {PATIENCE_S:.0f} s."
    )


JUDGES: tuple[Judge, ...] = (faulty_loader, stalled_grub, not_started, shared_guid, in_the_end)
