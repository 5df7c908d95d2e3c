# SPDX-License-Identifier: Apache-2.0
"""Stories of boots as the journal has them, event by event, for what judges them."""

from __future__ import annotations

from dpd.explain.causes import Explanation, explain
from dpd.explain.findings import Surroundings
from dpd.telemetry.journal import BootEvent

SERVER = "10.0.0.1"
LATER = 100.0  # long after all that a story says
AT = 1000.0


def event(at: float, name: str, **fields: str | int) -> BootEvent:
    return BootEvent(AT + at, name, fields)


def discover(at: float = 0, xid: str = "01", **fields: str | int) -> BootEvent:
    about: dict[str, str | int] = {"client_class": "PXEClient", "client_arch": "uefi-x64", "secs": 0}
    return event(at, "discover", xid=xid, **about | fields)


def offer(at: float = 0.01, loader: str = "ipxe.efi") -> BootEvent:
    return event(at, "offer", rule="uefi-x64", loader=loader, destination="255.255.255.255:68", server=SERVER)


def lease_request(at: float = 4) -> BootEvent:
    return event(at, "ignored", reason="lease_request", address="10.0.0.50", lease_server="10.0.0.2")


def ignored(reason: str, at: float = 0.01, **fields: str | int) -> BootEvent:
    return event(at, "ignored", reason=reason, **fields)


def boot_request(at: float = 5) -> BootEvent:
    return event(at, "boot_request", client_class="PXEClient", client_arch="uefi-x64", address="10.0.0.50")


def boot_reply(at: float = 5.01) -> BootEvent:
    return event(at, "boot_reply", rule="uefi-x64", loader="ipxe.efi", destination="10.0.0.50:4011", server=SERVER)


def tftp(at: float = 6, file: str = "ipxe.efi", verdict: str = "completed", **fields: str | int) -> BootEvent:
    figures: dict[str, str | int] = {"bytes": 1000, "blksize": 1468, "retransmits": 0, "answered": 1}
    return event(at, "tftp", file=file, verdict=verdict, **figures | fields)


def foreign_offer(flags: str, at: float = 0.005, server: str = "10.0.0.9", loader: str = "") -> BootEvent:
    return event(at, "foreign_offer", server=server, flags=flags, loader=loader)


def decision(outcome: str, cause: str, at: float = 0.005, **fields: str | int) -> BootEvent:
    return event(at, "decision", outcome=outcome, cause=cause, **fields)


def told(*events: BootEvent, after: float = LATER, relays: tuple[str, ...] = ()) -> Explanation:
    """What is made of these events some seconds after the beginning."""
    return explain(events, Surroundings(AT + after, SERVER, dict.fromkeys(relays, AT)))
