# SPDX-License-Identifier: Apache-2.0
"""Unknown machines that wait for somebody's word, each with the code on its screen.

In memory and bounded: a machine that waits asks again every few seconds, and its code is made of a key of this
distribution point and its MAC, so that a restart or a flood of invented MACs changes no code that somebody reads off a screen.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace

from dpd.site.decision import BootRequest

ALPHABET = "ACDEFGHJKMNPQRTUVWXY34679"  # nothing that looks like another: B8, I1L, O0, S5, Z2 are out
CODE_CHARACTERS = 6
CAPACITY = 2048
KEEP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class PendingMachine:
    """Who waits."""

    code: str
    mac: str
    guid: str
    arch: str
    relay: str
    circuit: str
    first_seen: float
    last_seen: float


class WaitingRoom:
    """At most CAPACITY machines, the ones heard of last."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._machines: OrderedDict[str, PendingMachine] = OrderedDict()  # by MAC, the one heard of last at the end
        self._macs: dict[str, str] = {}  # by code

    def __len__(self) -> int:
        return len(self._machines)

    def note(self, request: BootRequest, at: float) -> PendingMachine:
        """This machine waits."""
        known = self._machines.get(request.mac)
        if known is None:
            known = PendingMachine(self._code(request.mac), request.mac, "", "", "", "", at, at)
            self._macs[known.code] = request.mac
        machine = replace(
            known,
            guid=request.guid,
            arch=request.arch,
            relay=request.relay,
            circuit=request.circuit,
            last_seen=max(at, known.last_seen),
        )
        self._machines[request.mac] = machine
        self._machines.move_to_end(request.mac)
        while len(self._machines) > CAPACITY:
            self.forget(next(iter(self._machines)))
        return machine

    def _code(self, mac: str) -> str:
        """The machine's code; where another one waits under it, the next."""
        attempt = 0
        while True:
            digest = hmac.digest(self._key, f"{mac} {attempt}".encode(), hashlib.sha256)
            number, code = int.from_bytes(digest[:16]), ""
            for _ in range(CODE_CHARACTERS):
                number, place = divmod(number, len(ALPHABET))
                code += ALPHABET[place]
            if code not in self._macs:
                return code
            attempt += 1

    def forget(self, mac: str) -> None:
        """It waits no longer."""
        machine = self._machines.pop(mac, None)
        if machine is not None:
            del self._macs[machine.code]

    def find(self, code_or_mac: str) -> PendingMachine | None:
        """By the code on the screen, in any case and with blanks or hyphens, or by MAC."""
        code = code_or_mac.upper().replace(" ", "").replace("-", "")
        return self._machines.get(self._macs.get(code, code_or_mac.lower()))

    def machines(self, now: float) -> list[PendingMachine]:
        """Everybody who asked in the last day, the first to come first."""
        for machine in [each for each in self._machines.values() if each.last_seen + KEEP_S < now]:
            self.forget(machine.mac)
        return sorted(self._machines.values(), key=lambda each: each.first_seen)
