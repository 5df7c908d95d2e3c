# SPDX-License-Identifier: Apache-2.0
"""What the firmware starts: whether Secure Boot is on, and which of Microsoft's authorities for Windows its db knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpd.boot.pe_layout import GENERATIONS

EFI_VARIABLES = Path("/sys/firmware/efi/efivars")
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
ATTRIBUTES_BYTES = 4  # before a variable's content, as efivarfs shows it


@dataclass(frozen=True, slots=True)
class FirmwareKeys:
    """`generations`: the years of the authorities that db has and dbx does not."""

    is_secure_boot: bool = False
    generations: frozenset[str] = frozenset()


def firmware_keys(place: Path = EFI_VARIABLES) -> FirmwareKeys:
    """As the variables tell; nothing where there are none to read."""
    known, revoked = (_generations(_read(place / f"{name}-{IMAGE_SECURITY}")) for name in ("db", "dbx"))
    return FirmwareKeys(_read(place / f"SecureBoot-{GLOBAL}") == b"\1", known - revoked)


def _generations(signatures: bytes) -> frozenset[str]:
    """An authority's own certificate has its name; no other certificate in these lists is issued by one of the two."""
    return frozenset(year for name, year in GENERATIONS.items() if name.encode() in signatures)


def _read(variable: Path) -> bytes:
    try:
        return variable.read_bytes()[ATTRIBUTES_BYTES:]
    except OSError:
        return b""
