# SPDX-License-Identifier: Apache-2.0
"""Whose signature counts for a source: the key that its settings name, or the one that it had when it was first used.

A key that was pinned stays until the operator forgets it; a source that comes with another one is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dpd.content import repository
from dpd.content.repository import Identity
from dpd.database import Database
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure
from dpd.errors import ContentCorrupt


class KeyState(StrEnum):
    """What is known of a source's key."""

    CONFIGURED = "configured"
    PINNED = "pinned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A source's key: 64 hexadecimal digits, "" where it is not known yet. `pinned_at` is 0 unless it was pinned."""

    state: KeyState
    public_key: str = ""
    pinned_at: float = 0.0


class KeyRing:
    """The keys, in the table source_key. Pinned by the URL: what is elsewhere is another source. From any thread."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def known(self, source: Source) -> KnownKey:
        """What is known without asking the source."""
        if source.public_key:
            return KnownKey(KeyState.CONFIGURED, source.public_key)
        rows = self._database.rows("SELECT public_key, pinned_at FROM source_key WHERE source = ?", source.url)
        return KnownKey(KeyState.PINNED, *rows[0]) if rows else KnownKey(KeyState.UNKNOWN)

    def key_of(self, source: Source, session: Session) -> bytes:
        """The key that signs there. Asks the source and pins it where none is known. Raises SourceFailure."""
        known = self.known(source)
        if known.public_key:
            return bytes.fromhex(known.public_key)
        public_key = ask_identity(source, session).public_key
        self._pin(source, public_key)
        return public_key

    def refuse_other(self, source: Source, found: bytes) -> None:
        """Raises SourceFailure where the source has another key than the one that counts; nothing where none is known."""
        known = self.known(source)
        if known.public_key in ("", found.hex()):
            return
        if known.state is KeyState.CONFIGURED:
            step = "set public_key of this source to it if that is right"
        else:
            step = f"if it was set up anew, `dpd source forget {source.name}` lets the new key be pinned"
        why = f"signs with the key {found.hex()}, {known.state} is {known.public_key}; {step}"
        raise SourceFailure(source.name, Outcome.WRONG, why)

    def forget(self, source: Source) -> bool:
        """Pin anew at the next use. Whether there was a key."""
        with self._database.transaction() as change:
            return change.execute("DELETE FROM source_key WHERE source = ?", (source.url,)).rowcount > 0

    def _pin(self, source: Source, public_key: bytes) -> None:
        """The first one counts, where two pulls come here at once."""
        with self._database.transaction() as change:
            change.execute(
                "INSERT OR IGNORE INTO source_key (source, public_key, pinned_at) VALUES (?, ?, ?)",
                (source.url, public_key.hex(), self._clock()),
            )
        self.refuse_other(source, public_key)


def ask_identity(source: Source, session: Session) -> Identity:
    """Who the source says that it is. Raises SourceFailure."""
    document = session.read(repository.IDENTITY, repository.MAX_SMALL_BYTES)
    try:
        return repository.decode_identity(document)
    except ContentCorrupt as error:
        raise SourceFailure(source.name, Outcome.WRONG, f"{error}; is url a repository of dpd?") from None
