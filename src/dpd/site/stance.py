# SPDX-License-Identifier: Apache-2.0
"""What the settings say of policy, read and made ready for look-ups."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.settings import PxeSubnet, Settings
from dpd.site.identity import IdentityLists, read_identity_lists
from dpd.site.pin import read_pin
from dpd.site.subnets import Subnets


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


def unknown_computers_at(stance: Stance, subnets: Subnets, address: str) -> str:
    """ "allow", "deny" or "pending" for the network of a relay or of our own address."""
    table = subnets.of(address)
    return (table.unknown_computers if table is not None else "") or stance.unknown_computers
