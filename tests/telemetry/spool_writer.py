# SPDX-License-Identifier: Apache-2.0
"""A process that writes status messages until it is killed: each line is the number that is on disk for certain.

Run as `spool_writer.py FILE FIRST`; what it numbers from FIRST on is the field `number` of its messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dpd.telemetry.events import EventLog
from dpd.telemetry.spool import Spool


def main(path: Path, number: int) -> None:
    """For ever."""
    spool = Spool(path, readers=("site",))
    events = EventLog(spool=spool)
    while True:
        for _ in range(5):
            events.keep("job.done", job=number, kind="pull", number=number)
            number += 1
        assert spool.flush(30)
        print(number - 1, flush=True)


main(Path(sys.argv[1]), int(sys.argv[2]))
