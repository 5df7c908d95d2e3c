# SPDX-License-Identifier: Apache-2.0
"""Leaves: a short hash of each symbol, with which a receiver finds the forged ones among the 4096 of a damaged slab.

They are fetched only when a slab's own hash is wrong. 8 bytes are enough to tell a forged symbol from a true one, and the
slab's full hash is compared again afterwards: nothing is ever believed because of a leaf.
"""

from __future__ import annotations

from hashlib import sha256

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import SYMBOL_BYTES

LEAF_BYTES = 8


def leaf_of(symbol: Buffer) -> bytes:
    """The first LEAF_BYTES of the SHA-256 of one symbol."""
    return sha256(symbol).digest()[:LEAF_BYTES]


def leaves_of(rows: memoryview) -> bytes:
    """The leaves of whole rows, row-major: that of row r, column c begins at byte (r * COLUMNS + c) * LEAF_BYTES."""
    return b"".join(leaf_of(rows[at : at + SYMBOL_BYTES]) for at in range(0, len(rows), SYMBOL_BYTES))
