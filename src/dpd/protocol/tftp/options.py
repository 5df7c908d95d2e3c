# SPDX-License-Identifier: Apache-2.0
"""What client and server agree on before the first block: RFC 2347, 2348, 2349 and 7440, and Microsoft's variable window."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.tftp.blocks import EXTENT_BYTES
from dpd.protocol.tftp.packet import DEFAULT_BLKSIZE, MAX_BLKSIZE, MAX_WINDOWSIZE, MIN_BLKSIZE, Options

# A window must fit into memory and into the buffers of the way; 1 MiB is 716 blocks of 1464, far past the 16 blocks at
# which RFC 7440's own table flattens. A client that asks for more is granted less, which the RFC allows.
MAX_WINDOW_BYTES = 1 << 20

# bootmgr asks with the one number and takes the other for consent; each of its ACKs, that of the OACK included, then has a
# fifth byte with the number of blocks it wants next.
VARIABLE_WINDOW_ASKED, VARIABLE_WINDOW_GRANTED = 31416, 27182


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows one transfer, how much of its file shall be in memory, and what is known of its client."""

    max_blksize: int = 1468
    max_windowsize: int = 64
    timeout_s: float = 1.0
    attempts: int = 6
    extent_bytes: int = EXTENT_BYTES
    first_wait_s: float | None = None  # before the first repetition of the first datagram; None: timeout_s


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one transfer. `granted` is the OACK's content, empty where the client asked for nothing we know."""

    blksize: int = DEFAULT_BLKSIZE
    windowsize: int = 1
    timeout_s: float = 1.0
    granted: Options = ()
    variable_window: bool = False
    max_windowsize: int = 1


def negotiate(options: Options, size_bytes: int, limits: Limits) -> Terms:
    """Grant what was asked and is known, never more than was asked; a senseless value is left out of the OACK, which
    RFC 2347 defines as a refusal of this option alone."""
    asked = {name: int(value) for name, value in options if value.isdigit() and len(value) <= 20}
    granted: dict[str, int] = {}
    blksize, windowsize, timeout_s, variable = DEFAULT_BLKSIZE, 1, limits.timeout_s, False
    if asked.get("blksize", 0) >= MIN_BLKSIZE:
        blksize = granted["blksize"] = min(asked["blksize"], limits.max_blksize, MAX_BLKSIZE)
    largest = min(limits.max_windowsize, max(1, MAX_WINDOW_BYTES // blksize))
    if 1 <= asked.get("windowsize", 0) <= MAX_WINDOWSIZE:
        windowsize = granted["windowsize"] = min(asked["windowsize"], largest)
        if asked.get("msftwindow") == VARIABLE_WINDOW_ASKED and largest > 1:
            granted["msftwindow"], variable = VARIABLE_WINDOW_GRANTED, True
    if 1 <= asked.get("timeout", 0) <= 255:  # RFC 2349: echoed as it came, or not at all
        timeout_s = granted["timeout"] = asked["timeout"]
    if "tsize" in asked and size_bytes:  # curl 7.88 takes tsize 0 in an OACK for an illegal operation
        granted["tsize"] = size_bytes
    in_order = tuple((name, str(granted[name])) for name, _ in options if name in granted)
    return Terms(blksize, windowsize, timeout_s, in_order, variable, largest)
