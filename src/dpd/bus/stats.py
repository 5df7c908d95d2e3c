# SPDX-License-Identifier: Apache-2.0
"""What the bus counted."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.telemetry.stats import counter, counts, gauge


@dataclass(slots=True)
class BusStats:
    """Of one process: of a point or of a site server."""

    connected: int = gauge("1 while there is a connection to the NATS server")
    connections: int = counter("Connections made to the NATS server")
    failures: int = counter("Work on the bus that failed on a good connection and was begun again")
    sent: int = counter("Messages handed to the NATS server")
    acked: int = counter("Messages that JetStream has stored")
    asks: dict[str, int] = counts("Requests that came over the bus", "outcome")
