# SPDX-License-Identifier: Apache-2.0
"""A distribution point on loopback as a receiver meets it, HTTP and multicast; and receivers as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tests.service.multicast_site import PACKAGE, SETTINGS, write_image

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.service.multicast.service import MulticastService
from dpd.settings import HttpSettings
from dpd.telemetry.journal import BootJournal

PATIENCE_S = 30.0
Event = dict[str, Any]


@dataclass
class Point:
    """What serves, and the image in its library."""

    library: Library
    multicast: MulticastService
    http: HttpService
    image: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.ports['http']}"

    @property
    def secure_url(self) -> str:
        return f"https://127.0.0.1:{self.http.ports['https']}"


@asynccontextmanager
async def opened_point(
    home: Path, *, size_bytes: int = 2 * SLAB_BYTES + 4321, tls: tuple[Path, Path] | None = None, **settings: Any
) -> AsyncIterator[Point]:
    """Publish an image of random bytes and serve it, over TLS, too, with files of certificate and key; `settings` are of
    [multicast]."""
    certificate, private_key = map(str, tls or ("", ""))
    image = write_image(home / "source", size_bytes)
    with Library(home / "library", slab_bytes=SLAB_BYTES) as library:
        library.publish(image, PACKAGE)
        multicast = MulticastService(replace(SETTINGS, **settings), library=library, epoch=library.next_epoch())
        http = HttpService(
            HttpSettings(listen="127.0.0.1", port=0, tls_port=0, certificate=certificate, private_key=private_key),
            library=library,
            boot_tree=BootTree(BootFiles(home / "boot"), BootJournal()),
            multicast=multicast,
            journal=BootJournal(),
        )
        await multicast.start()
        await http.start()
        try:
            yield Point(library, multicast, http, image)
        finally:
            await http.stop()
            await multicast.stop()


class Receiving:
    """`python -m dpd.target.receiving.receive` as a process; its events as they come. Killed, at the latest, at the end of `with`."""

    def __init__(
        self,
        url: str,
        output: Path,
        *options: str,
        program: Sequence[str] = (sys.executable, "-m", "dpd.target.receiving.receive"),
    ) -> None:
        command = [*program, url, PACKAGE, "-o", str(output), "--interface", "lo", "--json", *options]
        sources = Path(__file__).parents[2] / "src"
        self.events: list[Event] = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(sources)}
        )
        self._text = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        """kill -9: no farewell, nothing written."""
        self.process.kill()
        self.process.wait()

    def wait_for(self, met: Callable[[Event], bool]) -> Event:
        """The next event of which `met` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while (event := self._next(deadline)) is not None:
            self.events.append(event)
            if met(event):
                return event
        raise AssertionError(f"it ended or went silent after {self.events[-3:]} {self._text!r}")

    async def reach(self, name: str, **fields: int) -> Event:
        """The next event of this name with at least these numbers."""
        return await asyncio.to_thread(
            self.wait_for, lambda e: e["event"] == name and all(e[field] >= least for field, least in fields.items())
        )

    async def end(self) -> int:
        """Read to the end. Returns the exit code."""

        def read() -> int:
            while (event := self._next(time.monotonic() + PATIENCE_S)) is not None:
                self.events.append(event)
            return self.process.wait(PATIENCE_S)

        return await asyncio.to_thread(read)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    def _next(self, deadline: float) -> Event | None:
        pipe = self.process.stdout
        assert pipe is not None
        while b"\n" not in self._text:
            readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(pipe.fileno(), 65536) if readable else b""
            if not piece:
                return None
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return dict(json.loads(line)) if line.startswith(b"{") else {"event": "text", "text": line.decode()}
