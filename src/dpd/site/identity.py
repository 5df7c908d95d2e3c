# SPDX-License-Identifier: Apache-2.0
"""Addresses that are never served, and addresses and GUIDs that tell nothing since several machines share them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from dpd.errors import SettingsError
from dpd.settings import PxeSettings
from dpd.site.records import SiteError, normal_mac_prefix

log = logging.getLogger(__name__)

SHOWN_LINES = 5

# What boards ship with where nobody has set an identity of their own.
EMPTY_GUIDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",  # AMI's sample, on many consumer boards
        "12345678-1234-5678-90ab-cddeefaabbcc",
    }
)


@dataclass(frozen=True, slots=True)
class IdentityLists:
    """`ignored`: MACs that hear nothing. `shared`: MACs and GUIDs left out of the look-up."""

    ignored: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


def read_identity_lists(settings: PxeSettings) -> IdentityLists:
    """The lists of the settings and of the file that they name. Raises SettingsError where that cannot be read."""
    ignored = {normal_mac_prefix(each, whole=True) for each in settings.ignore_macs}
    if settings.ignore_macs_file:
        ignored |= _read_macs(settings.ignore_macs_file)
    shared = {each.lower() for each in settings.duplicate_ids}
    return IdentityLists(frozenset(ignored), frozenset(shared) | EMPTY_GUIDS)


def _read_macs(path: str) -> set[str]:
    """One address in each line; empty lines and what follows a # are left out, lines that are none are counted and named."""
    setting = f'pxe.ignore_macs_file = "{path}"'
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"{setting}: {error.strerror}; expected a file with one address in each line") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: expected UTF-8 text with one address in each line") from None
    macs, wrong = set(), []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            macs.add(normal_mac_prefix(text, whole=True))
        except SiteError:
            wrong.append(number)
    if wrong:
        shown = ", ".join(map(str, wrong[:SHOWN_LINES]))
        log.warning("lines without a MAC", extra={"path": path, "lines": len(wrong), "first": shown})
    return macs
