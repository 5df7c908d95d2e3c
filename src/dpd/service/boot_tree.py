# SPDX-License-Identifier: Apache-2.0
"""Which file a machine gets for a name: one judgement for TFTP and HTTP.

Loaders in the boot directory are public. What belongs to a boot image is for the machine that has a ticket for it, at the
address where that machine was seen, for as long as the ticket lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from dpd.boot.tree import BootContext, BootImages, BootObject
from dpd.content.boot_files import BootFiles, explain_miss, explain_name
from dpd.site.tickets import BootTicket
from dpd.telemetry.journal import BootJournal


class Denial(StrEnum):
    """Why there is no file; a closed set of counter labels."""

    BAD_NAME = "bad_name"
    NOT_FOUND = "not_found"
    NO_TICKET = "no_ticket"
    TICKET_EXPIRED = "ticket_expired"
    OTHER_IMAGE = "other_image"
    CHAIN_BROKEN = "chain_broken"


TICKET_DENIALS = (Denial.NO_TICKET, Denial.TICKET_EXPIRED, Denial.OTHER_IMAGE)


@dataclass(frozen=True, slots=True)
class NotServed:
    """No file, and one sentence for the client and the log."""

    reason: Denial
    message: str


class TicketDesk(Protocol):
    """Who knows the tickets."""

    def ticket_at(self, address: str) -> BootTicket | None:
        """The ticket of the machine that was seen at this address, also one that has run out."""

    def run_started(self, address: str) -> None:
        """That machine has all that it boots from us."""

    def enter_pin(self, address: str, pin: str) -> bool:
        """Whoever sits at that machine has typed a PIN. False: a wrong one, or one too many."""


class NoTickets:
    """A distribution point without policy."""

    def ticket_at(self, address: str) -> BootTicket | None:
        return None

    def run_started(self, address: str) -> None:
        pass

    def enter_pin(self, address: str, pin: str) -> bool:
        return False


class NoImages:
    """A distribution point without boot images."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        return None

    def holds(self, name: str) -> bool:
        return False

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return ""


class BootTree:
    """`find` may be called from any thread. `context_of(ticket)` fills in what the settings say of the machine's subnet."""

    def __init__(
        self,
        boot_files: BootFiles,
        journal: BootJournal,
        *,
        desk: TicketDesk | None = None,
        images: BootImages | None = None,
        context_of: Callable[[BootTicket, str], BootContext] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.boot_files = boot_files
        self.journal = journal
        self._desk: TicketDesk = desk or NoTickets()
        self._images: BootImages = images or NoImages()
        self._context_of = context_of or plain_context
        self._clock = clock

    def find(self, name: str, address: str) -> BootObject | NotServed:
        """The file that the machine at `address` means by `name`."""
        if explanation := explain_name(name):
            return self._deny(address, name, Denial.BAD_NAME, f"bad file name: {explanation}")
        ticket = self._desk.ticket_at(address)
        if ticket is not None and ticket.grants_now(self._clock()):
            found = self._images.lookup(ticket.boot_image, name, self._context_of(ticket, address))
            if found is not None:
                return found
        if (file := self.boot_files.lookup(name)) is not None:
            if remark := self.boot_files.remark_on(file):
                self.journal.note_address(address, "loader_fault", file=file.name, detail=remark)
            opened = partial(self.boot_files.open, file)
            return BootObject(
                file.name, file.size_bytes, file.etag, file.mtime_ns, opened, may_block=False, sha256=file.sha256
            )
        if refusal := self.boot_files.refusal(name):
            return self._deny(address, name, Denial.CHAIN_BROKEN, refusal)
        if not self._images.holds(name):
            return NotServed(Denial.NOT_FOUND, explain_miss(name))
        return self._deny(address, name, *self._why_not(ticket))

    def sent(self, file: BootObject, address: str) -> None:
        """The machine at that address has received the file to its end."""
        if file.completes_boot:
            self.journal.note_address(address, "image_fetched", file=file.name)
            self._desk.run_started(address)

    def enter_pin(self, address: str, pin: str) -> bool:
        """Whoever sits at that machine has typed a PIN."""
        return self._desk.enter_pin(address, pin)

    def _why_not(self, ticket: BootTicket | None) -> tuple[Denial, str]:
        if ticket is None:
            return Denial.NO_TICKET, "no boot ticket: this address has not asked for a network boot and been granted it"
        if not ticket.grants_now(self._clock()):
            return Denial.TICKET_EXPIRED, "the boot ticket has expired: boot the machine anew"
        return Denial.OTHER_IMAGE, "the boot ticket is for something else"

    def _deny(self, address: str, name: str, reason: Denial, message: str) -> NotServed:
        shown = "".join(c if c.isprintable() else "?" for c in name[:80])
        self.journal.note_address(address, "refused_file", file=shown, reason=reason.value, detail=message)
        return NotServed(reason, message)


def plain_context(ticket: BootTicket, address: str) -> BootContext:
    """Without settings: the ticket alone."""
    return BootContext(
        ticket.id,
        ticket.mac,
        ticket.guid,
        ticket.arch,
        ticket.server,
        80,
        ticket.outcome.value,
        ticket.code,
        ticket.message,
    )
