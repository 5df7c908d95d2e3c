# SPDX-License-Identifier: Apache-2.0
"""Boot policy: what a machine that asks for a network boot is to do, and what it may fetch after that.

`decide` says, `issue` writes it down as a ticket, `ticket_at` shows the ticket to whoever serves files. Safe to use from
any thread: DHCP asks on the control loop, HTTP on its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dpd.settings import Settings
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.tickets import BootTicket, Tickets


class BootPolicy:
    """The policy of one distribution point."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._lock = threading.RLock()
        self._settings = settings
        self._tickets = Tickets()
        self._clock = clock

    def apply(self, settings: Settings) -> None:
        """From now on these settings hold."""
        with self._lock:
            self._settings = settings

    def decide(self, request: BootRequest) -> Decision:
        """What this machine is to do. It changes nothing, so that it may be asked for each of a boot's packets."""
        with self._lock:
            return Decision(Outcome.BOOT, Cause.DEFAULT, boot_image=self._settings.boot.default_image)

    def issue(self, request: BootRequest, decision: Decision) -> BootTicket:
        """The ticket for an answer that boots; to be called when that answer leaves."""
        with self._lock:
            return self._tickets.issue(request, decision, self._settings.pxe.ticket_lifetime_s)

    def bind(self, address: str, mac: str) -> None:
        """From now on this address is that machine's."""
        with self._lock:
            self._tickets.bind(address, mac)

    def ticket_at(self, address: str) -> BootTicket | None:
        """The ticket of the machine that was seen at this address, also one that has run out."""
        with self._lock:
            mac = self._tickets.mac_of(address)
            return self._tickets.of_mac(mac) if mac else None
