# SPDX-License-Identifier: Apache-2.0
"""A library with an image, the multicast service over it on loopback, and receivers as the target has them."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpd.content.library import Content, Library
from dpd.content.manifest import decode_signed
from dpd.protocol.multicast.geometry import ROW_BYTES, SLAB_BYTES, Geometry, encode_slab_set
from dpd.protocol.multicast.receiver import SessionFact
from dpd.service.isal import best_codec
from dpd.service.multicast.service import MulticastService
from dpd.service.receiving.receiver import Membership, Progress, ReceiverSession, open_group
from dpd.settings import MulticastSettings
from dpd.target.receiving.slab_store import SlabStore

PACKAGE = "LAB00001"
LOOPBACK = "127.0.0.1"
PATIENCE_S = 20.0
SETTINGS = MulticastSettings(
    interface="lo", ttl=0, group_range="239.192.77.0/24", start_delay_s=0.05, member_timeout_s=2.0
)


def write_image(path: Path, size_bytes: int = 2 * SLAB_BYTES + 5 * ROW_BYTES - 321, seed: int = 7) -> Path:
    """Random bytes, the same for the same seed."""
    path.write_bytes(random.Random(seed).randbytes(size_bytes))
    return path


def open_descriptors() -> set[str]:
    """What this process has open, as the kernel shows it."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the directory's own
            continue
    return found


class Site:
    """The service, started by hand: no loop is needed for joins and sessions."""

    def __init__(self, library: Library, settings: MulticastSettings = SETTINGS, epoch: int = 9) -> None:
        self.library = library
        self.service = MulticastService(settings, library=library, epoch=epoch)

    def content(self) -> Content:
        return self.library.find(PACKAGE)

    def join(self, **request: Any) -> dict[str, Any]:
        return self.service.join(PACKAGE, None, request, LOOPBACK)

    def receiver(self, output: Path, **options: Any) -> Receiving:
        return Receiving(self, output, **options)


class Receiving:
    """One receiver: its store, its place in the session, and the thread in which it runs."""

    def __init__(
        self, site: Site, output: Path, *, slots: int = 4, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        content = site.content()
        manifest = decode_signed(site.library.manifest(content), site.library.public_key())
        self.site = site
        self.output = output
        self.store = SlabStore(output, manifest)
        geometry = Geometry(content.size_bytes)
        verified = encode_slab_set(self.store.verified, geometry.slab_count)
        self.answer = site.join(verified=verified.hex(), credit=2000, slots=slots)
        self.session = ReceiverSession(
            membership=membership(self.answer),
            group_socket=open_group(self.answer["group"], self.answer["port"], LOOPBACK),
            geometry=geometry,
            verified=self.store.verified,
            slots=slots,
            store=self.store,
            codec=best_codec(),
            on_progress=on_progress or (lambda _: None),
        )
        self.fact: SessionFact | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.fact = self.session.run()
        except Exception as error:
            self.error = error

    def wait(self) -> SessionFact | None:
        """The fact with which the session ended, or None and an `error`. The store is closed."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the receiver did not come to an end"
        self.store.close()
        return self.fact

    def complete(self) -> None:
        """Wait for every slab, and say so to the service."""
        assert self.wait() is SessionFact.FINISHED, self.error
        self.site.service.complete(self.answer["session_id"], {"member": self.answer["member"]})

    def sha256(self) -> str:
        return hashlib.sha256(self.store.part.read_bytes()).hexdigest()


def membership(answer: Mapping[str, Any]) -> Membership:
    """What a receiver makes of the answer to its join."""
    return Membership(
        session=answer["session"],
        epoch=answer["epoch"],
        member=int(answer["member"], 16),
        group=answer["group"],
        port=answer["port"],
        feedback=(answer["sender"], answer["feedback_port"]),
    )


class HandReceiver:
    """A receiver written by hand: a socket in the group, and feedback as the test wants it."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        self.member = int(answer["member"], 16)
        self.group = open_group(answer["group"], answer["port"], LOOPBACK)
        self.group.sock.setblocking(True)
        self.group.sock.settimeout(PATIENCE_S)
        self.group.sock.setsockopt(socket.IPPROTO_UDP, 104, 0)  # one datagram for each read, please
        self._feedback = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._feedback.connect((answer["sender"], answer["feedback_port"]))

    def read(self) -> bytes:
        return self.group.sock.recv(65536)

    def say(self, feedback: bytes) -> None:
        self._feedback.send(feedback)

    def close(self) -> None:
        self.group.sock.close()
        self._feedback.close()
