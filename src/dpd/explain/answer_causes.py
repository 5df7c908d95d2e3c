# SPDX-License-Identifier: Apache-2.0
"""Judges of a boot's first half: did the question reach dpd, and did policy and rules let it be answered?"""

from __future__ import annotations

from dpd.explain.findings import BootCause, Case, Finding, Judge, Surroundings, number_of, text_of
from dpd.site.decision import Cause, Outcome

NOT_LET = (Outcome.SILENT, Outcome.ABORT, Outcome.WAIT)

# What policy said, in words. {computer}, {deployment}, {image}, {arch} and {mac} come from the story.
_DECISIONS: dict[str, tuple[BootCause, str, str]] = {
    Cause.MAINTENANCE: (
        BootCause.MAINTENANCE,
        "This distribution point is in maintenance, so it answers no network boot.",
        "End it: `dpd pxe maintenance --off`.",
    ),
    Cause.IGNORED_MAC: (
        BootCause.IGNORED_MAC,
        "The machine's address is on the list of those to ignore.",
        "Take it out of pxe.ignore_macs or pxe.ignore_macs_file, then `systemctl reload dpd`.",
    ),
    Cause.UNKNOWN_DENIED: (
        BootCause.UNKNOWN_DENIED,
        "The machine is unknown, and unknown machines are denied (pxe.unknown_computers, or its [[pxe.subnet]]).",
        "Make it known: `dpd computer add`; or set unknown_computers to pending or allow.",
    ),
    Cause.UNKNOWN_PENDING: (
        BootCause.UNKNOWN_PENDING,
        "The machine is unknown and waits for approval; its screen shows a code.",
        "Compare the code with `dpd pxe pending`, then `dpd pxe approve`.",
    ),
    Cause.PIN_MISSING: (
        BootCause.PIN_MISSING,
        "The machine is unknown and nobody has typed the PIN at its screen yet.",
        "Type the PIN of pxe.pin_file at the machine, or approve it: `dpd pxe approve`.",
    ),
    Cause.NOTHING_DEPLOYED: (
        BootCause.NOTHING_DEPLOYED,
        "Nothing is deployed to {computer}, so it was sent on to its next boot device.",
        "Deploy something: `dpd deployment add`.",
    ),
    Cause.NOT_FOR_PXE: (
        BootCause.NOT_FOR_PXE,
        "Every deployment to {computer} is for its running operating system alone (audience clients).",
        "Deploy something with another audience: `dpd deployment add --audience media_and_pxe`.",
    ),
    Cause.ALREADY_RUN: (
        BootCause.ALREADY_RUN,
        "The required deployment {deployment} has already run on {computer}; it runs once until it is cleared.",
        "Let it run again: `{clear}`.",
    ),
    Cause.NOT_YET: (
        BootCause.NOT_YET,
        "Every deployment to {computer} starts later.",
        "Wait, or change its start: `dpd deployment list` shows it.",
    ),
    Cause.EXPIRED: (
        BootCause.DEPLOYMENT_EXPIRED,
        "Every deployment to {computer} has expired.",
        "Add one with a later end: `dpd deployment add`; `dpd deployment list` shows those there are.",
    ),
    Cause.BRAKE: (
        BootCause.BRAKE,
        "More required boots were asked for within an hour than pxe.max_required_boots_per_hour allows.",
        "If so many are meant to be installed, raise the number and reload; if not, look at the deployment's collection.",
    ),
    Cause.NO_IMAGE_FOR_ARCH: (
        BootCause.NO_IMAGE_FOR_ARCH,
        "Boot image {image} has nothing for {arch}, which this machine is.",
        "Add an image of that architecture (`dpd boot-image add`), or deploy one that has it.",
    ),
    "duplicate_id": (
        BootCause.GUID_SHARED,
        "The machine's GUID is also that of another machine, so policy cannot tell by it which one asks.",
        "Put the GUID into pxe.duplicate_ids: then machines that tell it are known by their MAC alone.",
    ),
}


def never_heard(around: Surroundings) -> Finding:
    """A machine without any event."""
    sentence = "Nothing of this machine has reached dpd since it started: it never asked, or its broadcasts end before this server."
    return Finding(BootCause.NO_RELAY, f"{sentence} {_relays_heard(around)}", _ask_for_relay(around.server))


def _relays_heard(around: Surroundings) -> str:
    if not around.relays:
        return "No relay has passed any question on, so only machines on this server's own networks are heard."
    return f"Relays that did pass questions on: {', '.join(sorted(around.relays))}."


def _ask_for_relay(server: str) -> str:
    return (
        f"On the router of the machine's network, add {server or 'this server'} as DHCP relay target (ip helper-address) beside the "
        "lease server; on the same network, look for a switch port that filters DHCP or takes half a minute to come up."
    )


def unheard(case: Case) -> Finding | None:
    """Only other servers' answers to it were seen, or it came for its file and never asked."""
    own = case.attempt.last("discover", "boot_request", "ignored", "tftp", "http", "wire_request", "refused_file")
    if own is not None:
        return None
    servers = sorted({text_of(event, "server") for event in case.attempt.all("foreign_offer")})
    if not servers:
        return never_heard(case.around)
    sentence = (
        f"The machine's own question does not reach dpd: only the answers of {', '.join(servers)} to it were seen."
    )
    return Finding(BootCause.NO_RELAY, f"{sentence} {_relays_heard(case.around)}", _ask_for_relay(case.around.server))


def decided(case: Case) -> Finding | None:
    """Policy did not let it boot."""
    event = case.attempt.last("decision")
    if event is None:
        return None
    cause, outcome = text_of(event, "cause"), text_of(event, "outcome")
    if cause not in _DECISIONS or (outcome not in NOT_LET and cause != "duplicate_id"):
        return None
    approval = case.attempt.last("approval")
    if outcome == Outcome.WAIT and approval is not None and text_of(approval, "state") == "approved":
        return None
    asked = case.attempt.last("discover", "boot_request")
    known = {
        "computer": text_of(event, "computer", "this machine"),
        "deployment": text_of(event, "deployment", "to it"),
        "image": text_of(event, "boot_image", "of the deployment"),
        "arch": "its architecture" if asked is None else text_of(asked, "client_arch", "its architecture"),
    }
    words = ("dpd deployment clear", text_of(event, "deployment"), text_of(event, "computer"))
    known["clear"] = " ".join(filter(None, words))
    found, sentence, next_step = _DECISIONS[cause]
    return Finding(found, sentence.format_map(known), next_step.format_map(known))


def left_alone(case: Case) -> Finding | None:
    """The rules, the settings or the loader's chain kept dpd silent."""
    if case.is_answered:
        return None
    if case.ignored("switched_off"):
        return Finding(BootCause.SWITCHED_OFF, "dpd answers no network boot: pxe.respond is false.", "Set pxe.respond = true and reload.")  # fmt: skip
    if case.ignored("ignored_mac"):
        return Finding(*_DECISIONS[Cause.IGNORED_MAC])
    if broken := case.ignored("chain_broken"):
        return chain_broken(text_of(broken, "detail"))
    if case.ignored("no_rule") or case.ignored("no_image_for_arch"):
        return _no_rule(case)
    return None


def chain_broken(detail: str) -> Finding:
    """The Secure Boot chain of a loader does not hold."""
    sentence = (
        f"The loader's Secure Boot chain is broken, so dpd does not hand it out{': ' + detail if detail else ''}."
    )
    return Finding(BootCause.LOADER_CHAIN_BROKEN, sentence, "Look at `dpd boot-file check`; put the right files into the boot directory, then reload.")  # fmt: skip


def _no_rule(case: Case) -> Finding:
    asked = case.attempt.last("discover", "boot_request")
    who = (
        "this kind of machine"
        if asked is None
        else f"{text_of(asked, 'client_class')}, {text_of(asked, 'client_arch')}"
    )
    sentence = f"No boot image and no rule has a loader for this machine ({who})."
    return Finding(BootCause.NO_IMAGE_FOR_ARCH, sentence, "Add a [[pxe.rule]] or a boot image for that architecture.")


def delayed(case: Case) -> Finding | None:
    """The response delay was not over when the machine gave up, or is not yet."""
    early = case.ignored("too_early")
    if case.is_answered or early is None:
        return None
    seconds = max((number_of(event, "secs") for event in case.attempt.all("discover")), default=0)
    sentence = f"The machine has been asking for {seconds} s by its own clock, less than the response delay, so dpd kept silent."
    advice = "Lower pxe.response_delay_s (or that of its [[pxe.subnet]]); some firmware always says 0 s, and never gets an answer."
    return Finding(BootCause.RESPONSE_DELAY, sentence, advice)


def unsent(case: Case) -> Finding | None:
    """The kernel refused the answer, or there was none for another reason."""
    if case.is_answered or case.attempt.last("discover", "boot_request") is None:
        return None
    if failed := case.attempt.last("send_failed"):
        sentence = f"dpd's answer to {text_of(failed, 'destination', 'the machine')} could not be sent."
        return Finding(BootCause.SEND_FAILED, sentence, "Look at routes and the firewall of this host: `ip route get`, `nft list ruleset`.")  # fmt: skip
    reasons = sorted({text_of(event, "reason") for event in case.attempt.all("ignored")} - {"lease_request"})
    if not reasons:
        return None
    sentence = f"dpd did not answer: {', '.join(reasons).replace('_', ' ')}."
    return Finding(BootCause.NOT_ANSWERED, sentence, "The log at level debug has the details.")


JUDGES: tuple[Judge, ...] = (unheard, decided, left_alone, delayed, unsent)
