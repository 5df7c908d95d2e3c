# SPDX-License-Identifier: Apache-2.0
"""Boot tickets: what one machine may fetch in one boot, whatever the protocol.

DHCP knows machines by MAC, everything after it by address. A ticket is made for a MAC when an answer that boots has left, and
is found by the address that this MAC was seen to have. It ends by itself; another boot makes another one.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from dpd.site.decision import BootRequest, Decision, Outcome

ID_BYTES, PROOF_BYTES = 8, 16
CAPACITY = 8192  # machines, and addresses


@dataclass(slots=True)
class BootTicket:
    """`id` is for logs and stories and opens nothing; `proof` is for the machine alone, which shows by it that it was given this
    boot. Times are seconds since the epoch."""

    id: str
    mac: str
    guid: str
    arch: str
    server: str
    outcome: Outcome
    boot_image: str
    code: str
    message: str
    issued_at: float
    expires_at: float
    asks_pin: bool = False
    proof: str = field(default="", repr=False)
    used_by: str = ""  # who has shown the proof; "" nobody yet
    is_told: bool = False  # whether the answer that it is for has left, and the machine's story has it

    def grants_now(self, now: float) -> bool:
        """Whether its time has not run out."""
        return self.issued_at <= now < self.expires_at


class Tickets:
    """The tickets of at most CAPACITY machines, the ones heard of last."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[str, BootTicket] = OrderedDict()  # by MAC
        self._macs: OrderedDict[str, str] = OrderedDict()  # by address

    def issue(self, request: BootRequest, decision: Decision, lifetime_s: float) -> BootTicket:
        """A ticket for what was decided, in place of the machine's earlier one; a retry in the same boot keeps its id and proof. A
        machine whose proof was shown has booted: what it asks after that is another boot."""
        earlier, at = self._tickets.pop(request.mac, None), request.at
        if earlier is not None and _is_same_boot(earlier, decision) and earlier.grants_now(at):
            id, proof, issued_at, is_told = earlier.id, earlier.proof, earlier.issued_at, earlier.is_told
        else:
            drawn = secrets.token_hex(ID_BYTES + PROOF_BYTES)  # at once: the kernel is asked for each PXE answer
            id, proof, issued_at, is_told = drawn[: 2 * ID_BYTES], drawn[2 * ID_BYTES :], at, False
        ticket = BootTicket(  # by position: a dictionary of twelve names takes 1 us to make, for each PXE answer
            id,
            request.mac,
            request.guid,
            request.arch,
            request.server,
            decision.outcome,
            decision.boot_image,
            decision.code,
            decision.message,
            issued_at,
            at + lifetime_s,
            decision.asks_pin,
            proof,
            "",
            is_told,
        )
        self._tickets[request.mac] = ticket
        while len(self._tickets) > CAPACITY:
            self._tickets.popitem(last=False)
        return ticket

    def revoke(self, mac: str) -> None:
        """From now on this machine has none."""
        self._tickets.pop(mac, None)

    def bind(self, address: str, mac: str) -> None:
        """From now on this address is that machine's."""
        self._macs[address] = mac
        self._macs.move_to_end(address)
        while len(self._macs) > CAPACITY:
            self._macs.popitem(last=False)

    def mac_of(self, address: str) -> str:
        """The machine that was seen at an address, "" where none was."""
        return self._macs.get(address, "")

    def of_mac(self, mac: str) -> BootTicket | None:
        """The machine's ticket, also one that has run out."""
        return self._tickets.get(mac)


def _is_same_boot(earlier: BootTicket, decision: Decision) -> bool:
    is_alike = earlier.outcome is decision.outcome and earlier.boot_image == decision.boot_image
    return is_alike and earlier.code == decision.code and not earlier.used_by
