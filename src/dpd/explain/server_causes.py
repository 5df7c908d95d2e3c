# SPDX-License-Identifier: Apache-2.0
"""The judge of other servers: did another one's answer keep the machine from coming here?"""

from __future__ import annotations

from dpd.explain.findings import BootCause, Case, Finding, Judge, text_of
from dpd.telemetry.boot_story import Attempt
from dpd.telemetry.journal import BootEvent


def other_server(case: Case) -> Finding | None:
    """Another server's answer kept the machine from coming here."""
    if case.last_fetched is not None or not case.is_over or case.attempt.last("tftp", "http"):
        return None
    for flag, tell in (("proxy", _second_proxy), ("file", _sets_file), ("option60", _option_60)):
        event = offer_with(case.attempt, flag)
        if event is not None:
            return tell(case, event)
    return None


def offer_with(attempt: Attempt, flag: str) -> BootEvent | None:
    """The first answer of another server that has this."""
    return next((each for each in attempt.all("foreign_offer") if flag in text_of(each, "flags").split()), None)


def _second_proxy(case: Case, event: BootEvent) -> Finding:
    own = next((each for each in case.attempt.events if each.event == "offer"), None)
    when = "answered too, after dpd" if own is not None and own.at < event.at else "answered first"
    sentence = f"Another proxyDHCP, {text_of(event, 'server')}, {when}, and the machine did not come to dpd: firmware keeps one proxy's offer alone."  # fmt: skip
    return Finding(BootCause.SECOND_PROXY, sentence, f"Switch off the PXE service of {text_of(event, 'server')} for this machine; where both are wanted, give one of them a response delay.")  # fmt: skip


def _sets_file(case: Case, event: BootEvent) -> Finding:
    file = text_of(event, "loader", "a file")
    sentence = f"The lease server {text_of(event, 'server')} names a boot file itself ({file}), and the machine follows that one instead of dpd's."  # fmt: skip
    return Finding(BootCause.LEASE_SERVER_SETS_FILE, sentence, "Remove the boot file and next-server (options 66 and 67) from the lease server, or point both to dpd: `dpd pxe options` prints the lines.")  # fmt: skip


def _option_60(case: Case, event: BootEvent) -> Finding:
    server = text_of(event, "server")
    sentence = f"The lease server {server} sends option 60 (PXEClient) without being a boot server, so the machine waits for an answer of its port 4011 that never comes."  # fmt: skip
    return Finding(BootCause.STRAY_OPTION_60, sentence, f"Remove option 60 from {server}; it belongs there only if dpd runs on that very host (pxe.mode = boot_port_only).")  # fmt: skip


JUDGES: tuple[Judge, ...] = (other_server,)
