# SPDX-License-Identifier: Apache-2.0
"""One `dpd receive` as a process on a host of the LAN, heard by the JSON lines it prints."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.netns import DEVICE, Host
from tests.interop.daemon import DPD

PATIENCE_S = 40.0

Event = dict[str, Any]


class Receiving:
    """One `dpd receive` under way, and what it has told so far."""

    def __init__(
        self, host: Host, url: str, package: str, output: Path, program: Sequence[str | Path] = (DPD, "receive")
    ) -> None:
        self.host, self.output = host, output
        self.events: list[Event] = []
        command = (*program, url, package, "-o", output, "--interface", DEVICE, "--json")
        self.process = host.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._text = b""

    def wait_for(self, met: Callable[[Event], bool]) -> Event:
        """The next event of which `met` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while (event := self._next_event(deadline)) is not None:
            self.events.append(event)
            if met(event):
                return event
        raise AssertionError(f"{self.host.name} ended or went silent; its last events: {self.events[-3:]}")

    def wait_for_share(self, share: float) -> Event:
        """Wait until this much of the image is verified."""
        return self.wait_for(lambda e: e["event"] == "progress" and e["verified_slabs"] >= share * e["slabs"])

    def complete(self) -> None:
        self.wait_for(lambda e: e["event"] == "completed")
        assert self.process.wait(PATIENCE_S) == 0
        self._close()

    def all(self, event: str) -> list[Event]:
        return [e for e in self.events if e["event"] == event]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()

    def journal_slabs(self) -> int:
        """Slabs that the journal on disk says are stored."""
        lines = self.output.with_name(self.output.name + ".journal").read_text(encoding="ascii")
        return len(set(re.findall(r"^v (\d+)$", lines, re.MULTILINE)))

    def _next_event(self, deadline: float) -> Event | None:
        pipe = self.process.stdout
        assert pipe is not None
        while b"\n" not in self._text:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                return None
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                return None
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return dict(json.loads(line)) if line.startswith(b"{") else {"event": "text", "text": line.decode()}
