# SPDX-License-Identifier: Apache-2.0
"""What the settings say of policy, read and made ready for look-ups."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpd.settings import PxeSubnet, Settings
from dpd.site.identity import IdentityLists, read_identity_lists
from dpd.site.pin import read_pin
from dpd.site.subnets import Subnets

LOOK_EACH_S = 1.0


@dataclass(frozen=True, slots=True)
class Stance:
    """Equal ones need no new judgement."""

    identities: IdentityLists
    pin: str
    default_image: str
    unknown_computers: str
    max_required_boots_per_hour: int
    ticket_lifetime_s: float
    tables: tuple[PxeSubnet, ...]


def read_stance(settings: Settings) -> Stance:
    """With the files that the settings name. Raises SettingsError."""
    return Stance(
        identities=read_identity_lists(settings.pxe),
        pin=read_pin(settings.pxe.pin_file),
        default_image=settings.boot.default_image,
        unknown_computers=settings.pxe.unknown_computers,
        max_required_boots_per_hour=settings.pxe.max_required_boots_per_hour,
        ticket_lifetime_s=settings.pxe.ticket_lifetime_s,
        tables=settings.pxe.subnet,
    )


class FileWatch:
    """Whether one of a few files is another one than at the last look, at most one look in a second."""

    def __init__(self, paths: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = [path for path in paths if path]
        self._clock = clock
        self._marks = self._look()
        self._looked_at = clock()

    def have_changed(self) -> bool:
        """True once for each change."""
        if not self._paths or self._clock() - self._looked_at < LOOK_EACH_S:
            return False
        before, self._marks, self._looked_at = self._marks, self._look(), self._clock()
        return before != self._marks

    def _look(self) -> list[tuple[int, int]]:
        marks = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError:
                marks.append((0, 0))
            else:
                marks.append((status.st_ino, status.st_mtime_ns))
        return marks


def unknown_computers_at(stance: Stance, subnets: Subnets, address: str) -> str:
    """ "allow", "deny" or "pending" for the network of a relay or of our own address."""
    table = subnets.of(address)
    return (table.unknown_computers if table is not None else "") or stance.unknown_computers
