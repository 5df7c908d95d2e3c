# SPDX-License-Identifier: Apache-2.0
"""The sessions of machines that have shown who they are: in memory, bounded, each opened by a secret that is kept as its hash."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from dpd.errors import TargetRefused
from dpd.sequence.exchange import Taken

SECRET_BYTES = 32
CAPACITY = 8192  # as many as there are boot tickets


@dataclass(slots=True)
class TargetSession:
    """What one machine may do until a moment. `offers` are the numbers of the deployments that it may take, `taken` the answer to
    what it took: a machine that did not hear it asks once more. `lock` is held while it takes."""

    machine: str
    computer: str
    mac: str
    ends_by: float
    offers: frozenset[int] = frozenset()
    deployment: int = 0
    execution: str = ""
    taken: Taken | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class TargetSessions:
    """At most CAPACITY, the ones heard of last. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sessions: OrderedDict[str, TargetSession] = OrderedDict()  # by the hash of the secret
        self._of_boot: OrderedDict[str, str] = OrderedDict()  # the secret by the boot's ticket

    def open(self, session: TargetSession) -> str:
        """The secret that opens it."""
        secret = secrets.token_hex(SECRET_BYTES)
        with self._lock:
            self._sessions[_hash(secret)] = session
            while len(self._sessions) > CAPACITY:
                self._sessions.popitem(last=False)
        return secret

    def open_once(self, ticket: str, session: TargetSession) -> str:
        """The same for the one session of a boot: the secret that was given before, where one was."""
        with self._lock:
            secret = self._of_boot.get(ticket, "")
            if _hash(secret) in self._sessions:
                return secret
            secret = self.open(session)
            self._of_boot[ticket] = secret
            while len(self._of_boot) > CAPACITY:
                self._of_boot.popitem(last=False)
        return secret

    def find(self, secret: str, now: float) -> TargetSession:
        """Raises TargetRefused where there is none, or its time is over."""
        key = _hash(secret)
        with self._lock:
            session = self._sessions.get(key)
            if session is not None and now >= session.ends_by:
                del self._sessions[key]
                session = None
            if session is not None:
                self._sessions.move_to_end(key)
        if session is None:
            raise TargetRefused(
                "session_unknown",
                "no such session: dpd was restarted, or its time is over; go on by /target/resume, or boot the machine from the network again",
            )
        return session

    def __len__(self) -> int:
        return len(self._sessions)


def _hash(secret: str) -> str:
    """So that a look-up tells nothing of the secret by its time."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
