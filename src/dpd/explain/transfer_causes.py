# SPDX-License-Identifier: Apache-2.0
"""Judges of the loader's way to the machine: was it refused, blocked, cut short, or never asked for?"""

from __future__ import annotations

from itertools import pairwise

from dpd.boot.names import GRUB_CONFIGURATION, SCRIPT_NAMES, split_name
from dpd.explain.answer_causes import chain_broken
from dpd.explain.findings import BootCause, Case, Finding, Judge, number_of, plain_name, text_of
from dpd.explain.server_causes import offer_with
from dpd.site.decision import Outcome
from dpd.telemetry.journal import BootEvent

AT_ONCE_S = 15.0  # firmware that was given no file starts over sooner than one whose TFTP times out, which takes 24 s
SMALL_BLOCK_BYTES = 512  # passes everywhere

_REFUSALS: dict[str, tuple[BootCause, str, str]] = {
    "ticket_expired": (
        BootCause.TICKET_EXPIRED,
        "The machine's boot ticket had expired when it asked for {file}.",
        "Boot it anew; if its boots really take that long, raise pxe.ticket_lifetime_s.",
    ),
    "no_ticket": (
        BootCause.NO_TICKET,
        "The machine asked for {file} without a boot ticket: no network boot was granted to it at that address.",
        "Boot it over the network, so that policy is asked first; behind NAT, boot images cannot be told apart by address.",
    ),
    "other_image": (
        BootCause.OTHER_IMAGE,
        "The machine asked for {file}, which is of another boot image than its ticket.",
        "If policy changed while it was booting, boot it anew.",
    ),
    "bad_name": (
        BootCause.FILE_MISSING,
        "The machine asked for the impossible file name {file}.",
        "Look at what loader it runs.",
    ),
}


def refused(case: Case) -> Finding | None:
    """A file that it may not have, or not any more."""
    event = case.unmended("refused_file")
    if event is None:
        return None
    if text_of(event, "reason") == "chain_broken":
        return chain_broken(text_of(event, "detail"))
    if text_of(event, "reason") not in _REFUSALS:
        return None
    cause, sentence, next_step = _REFUSALS[text_of(event, "reason")]
    return Finding(cause, sentence.format(file=text_of(event, "file", "a file")), next_step)


def blocked_here(case: Case) -> Finding | None:
    """Its request for a file is at the network card and not at the TFTP port."""
    event = case.unmended("wire_request", "tftp")
    if event is None or event.event != "wire_request":
        return None
    sentence = f"The machine's TFTP requests for {text_of(event, 'file', 'its loader')} reach this host's network card and never dpd: a firewall on this host drops them."
    return Finding(BootCause.TFTP_BLOCKED, sentence, "Let UDP port 69 in, and the ports of transfers: `nft list ruleset` or `iptables -L -n` shows what drops them.")  # fmt: skip


def broken_transfer(case: Case) -> Finding | None:
    """A transfer that began and did not end well."""
    event = case.unmended("tftp", "http")
    if event is None:
        return None
    if event.event == "http":
        return _broken_off(event) if text_of(event, "step") == "broken" else None
    verdict = text_of(event, "verdict")
    if verdict == "refused":
        return _missing(case, event)
    if verdict not in ("timeout", "aborted"):
        return None
    if number_of(event, "bytes"):
        return _broken_off(event)
    return _no_byte(event) or (_broken_off(event) if case.is_over else None)


def _no_byte(event: BootEvent) -> Finding | None:
    """Not one block was confirmed: nothing comes back at all, or small datagrams do and large ones do not."""
    file, blksize = text_of(event, "file", "the loader"), number_of(event, "blksize")
    was_answered = number_of(event, "answered") > 0
    if was_answered and blksize > SMALL_BLOCK_BYTES and number_of(event, "retransmits"):
        sentence = f"The machine confirmed that it wants {file} in blocks of {blksize} bytes, and then not one block of that size arrived: the path's MTU is smaller than that."  # fmt: skip
        return Finding(BootCause.MTU_HOLE, sentence, f"Set max_blksize of the machine's [[pxe.subnet]] (for a tunnel 1228 or 512 are safe), or mend the path: `ping -M do -s {blksize + 4}` shows where it ends.")  # fmt: skip
    if not was_answered and text_of(event, "verdict") == "timeout":
        sentence = f"The machine's TFTP request for {file} came, and it confirmed none of dpd's answers: something drops UDP from this server's transfer ports on the way to it."  # fmt: skip
        return Finding(BootCause.TFTP_BLOCKED, sentence, "Let UDP from this host pass, also from high ports; a firewall that cannot follow TFTP needs tftp.single_port or tftp.port_low and port_high.")  # fmt: skip
    return None


def _missing(case: Case, event: BootEvent) -> Finding | None:
    """Optional files are asked for and missing in every boot; the loader itself is another matter."""
    if plain_name(text_of(event, "file")) != plain_name(case.loader):
        return None
    sentence = (
        f"The machine was told to load {case.loader}, and dpd refused it: {text_of(event, 'detail', 'no such file')}."
    )
    return Finding(BootCause.FILE_MISSING, sentence, "Put the file into the boot directory and reload, or change the rule that names it.")  # fmt: skip


def _broken_off(event: BootEvent) -> Finding:
    sentence = f"The transfer of {text_of(event, 'file', 'a file')} broke off after {number_of(event, 'bytes')} bytes: {text_of(event, 'detail') or text_of(event, 'reason', 'the machine fell silent')}."  # fmt: skip
    return Finding(BootCause.TRANSFER_BROKEN, sentence, "Look at the machine's screen, its cable and its switch port; a firmware update helps where it always ends at the same byte.")  # fmt: skip


def nobody_chose(case: Case) -> Finding | None:
    """An available deployment: it was shown a menu, and is silent since."""
    decided = case.attempt.last("decision")
    if decided is None or text_of(decided, "outcome") != Outcome.PROMPT or not case.is_over:
        return None
    newest = case.attempt.last("offer", "boot_request", "boot_reply", "tftp", "http", "refused_file", "wire_request")
    if newest is None:
        return None
    deployment = text_of(decided, "deployment", "of this machine")
    if newest.event == "offer" and not text_of(newest, "loader") and _took_lease(case):
        sentence = f"Deployment {deployment} is available, not required: the machine was told to offer it (Press F8 for network boot), and nobody pressed the key, so it went on to its disk."  # fmt: skip
        return Finding(BootCause.KEY_NOT_PRESSED, sentence, "Start it again and press F8 within 10 s; or make the deployment required (`dpd deployment add … --required`). A firmware that shows no such line may need the lines of `dpd pxe options`.")  # fmt: skip
    if newest is case.last_fetched and (loader := _with_a_menu(text_of(newest, "file"))):
        sentence = f"Deployment {deployment} is available, not required: {loader} has shown its menu, and nobody chose the image, so the machine went on to its disk."  # fmt: skip
        return Finding(BootCause.KEY_NOT_PRESSED, sentence, "Start it again and choose within 30 s; or make the deployment required (`dpd deployment add … --required`).")  # fmt: skip
    return None


def _with_a_menu(file: str) -> str:
    """Which loader shows the menu that is in this file; "" for what is none."""
    name = "".join(split_name(file)[-1:])
    if name in SCRIPT_NAMES:
        return "iPXE"
    return "GRUB" if name.startswith(GRUB_CONFIGURATION) else ""


def nothing_followed(case: Case) -> Finding | None:
    """It was told its loader, and never asked for it."""
    if case.attempt.last("tftp", "http", "refused_file") or not case.is_answered or not case.is_over:
        return None
    if case.attempt.last("boot_reply"):
        sentence = f"The machine was told on port 4011 to load {case.loader} from {case.server}, and no request for it came: something on the way drops its TFTP."  # fmt: skip
        return _blocked(case, sentence)
    if not _took_lease(case):
        return _no_lease(case)
    if case.loader.startswith("https://"):
        return _not_trusted(case)
    if _gives_up_at_once(case):
        return _not_merged(case)
    sentence = f"The machine was told to load {case.loader} from {case.server} and took its lease, but no request for the file came: something drops its TFTP, or its firmware does not use two servers' answers together."  # fmt: skip
    return _blocked(case, sentence)


def _took_lease(case: Case) -> bool:
    """In this attempt or the one before: a machine that begins anew may have been switched off in between."""
    events = (event for attempt in (*case.earlier[-1:], case.attempt) for event in attempt.all("ignored"))
    return any(text_of(event, "reason") == "lease_request" for event in events)


def _blocked(case: Case, sentence: str) -> Finding:
    advice = f"Let UDP port 69 (or for URLs TCP) pass between the machine's network and {case.server}, and the answers back; if nothing is blocked, use the lines of `dpd pxe options`."  # fmt: skip
    return Finding(BootCause.TFTP_BLOCKED, sentence, advice)


def _gives_up_at_once(case: Case) -> bool:
    """By the form of its offer it has to come to 4011 and did not; or it starts over sooner than any TFTP times out."""
    told = case.attempt.last("offer")
    if told is not None and text_of(told, "flow") == "binl":
        return True
    attempts = [*case.earlier, case.attempt]
    pauses = [
        later.began_at - earlier.ended_at
        for earlier, later in pairwise(attempts)
        if earlier.last("offer") and not earlier.last("tftp", "http", "boot_request")
    ]
    return bool(pauses) and min(pauses) < AT_ONCE_S


def _not_trusted(case: Case) -> Finding:
    """Firmware that does not like a certificate ends the handshake, of which HTTP hears nothing (seen with OVMF)."""
    sentence = f"The machine was told to load {case.loader}, took its lease, and no request came: its firmware does not trust the server's certificate, or TCP does not pass."  # fmt: skip
    return Finding(BootCause.HTTPS_NOT_TRUSTED, sentence, "Enrol the authority in the firmware (TLS authentication, server CA); the certificate must have the URL's address or name in subjectAltName and an RSA key, and the machine's clock must be right.")  # fmt: skip


def _not_merged(case: Case) -> Finding:
    sentence = "The machine took its lease and never came for its file: its firmware does not put a lease server's and a proxy's answer together."  # fmt: skip
    return Finding(BootCause.OFFERS_NOT_MERGED, sentence, "Let the lease server itself name dpd and the loader: `dpd pxe options` prints the lines for Kea, ISC, dnsmasq and Windows.")  # fmt: skip


def _no_lease(case: Case) -> Finding:
    leases = offer_with(case.attempt, "lease")
    if leases is not None:
        sentence = f"The lease server {text_of(leases, 'server')} and dpd both answered, and the machine took neither: their answers do not reach it, or it cannot use them."  # fmt: skip
    else:
        sentence = "dpd answered, and the machine never asked anybody for a lease: no lease server answers it, or no answer reaches it."  # fmt: skip
    return Finding(BootCause.NO_LEASE, sentence, "Check that the lease server has free addresses for this network and that broadcasts from port 67 reach the machine (DHCP snooping, trusted ports).")  # fmt: skip


JUDGES: tuple[Judge, ...] = (refused, blocked_here, broken_transfer)
OF_SILENCE: tuple[Judge, ...] = (nobody_chose, nothing_followed)  # after those that know of another server
