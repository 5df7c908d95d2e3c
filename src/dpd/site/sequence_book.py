# SPDX-License-Identifier: Apache-2.0
"""The site store's task sequences: published and taken out one by one, each change with its line in the audit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping

from dpd.sequence.package_checks import Look
from dpd.sequence.records import SequenceConflict, SequenceNotFound
from dpd.sequence.reference import parse_reference, write_reference
from dpd.site.database import SiteDatabase
from dpd.site.model_rows import read_sequence_numbers, read_sequences, write_sequence
from dpd.site.records import Deployment
from dpd.site.sequences import (
    PublishedVersion,
    SequenceNumber,
    SequenceVersion,
    check_room,
    naming,
    number_for,
    read_checked,
    sequence_order,
    version_of,
)


class SequenceBook:
    """`by_name` is replaced as a whole: versions by the sequence's name in lower case, the newest first."""

    def __init__(self, database: SiteDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self.by_name: Mapping[str, tuple[SequenceVersion, ...]] = {}
        self._numbers: Mapping[str, SequenceNumber] = {}

    def load(self) -> None:
        """Read them anew, after something else of the store has changed them."""
        found: dict[str, list[SequenceVersion]] = {}
        for each in sorted(read_sequences(self._database), key=sequence_order, reverse=True):
            found.setdefault(each.name.lower(), []).append(each)
        self.by_name = {name: tuple(versions) for name, versions in sorted(found.items())}
        self._numbers = {each.name.lower(): each for each in read_sequence_numbers(self._database)}

    # ---- looking

    def all(self) -> tuple[SequenceVersion, ...]:
        """By name, the oldest version first."""
        return tuple(each for versions in self.by_name.values() for each in reversed(versions))

    def numbers(self) -> tuple[SequenceNumber, ...]:
        """By name."""
        return tuple(each for _, each in sorted(self._numbers.items()))

    def newest(self) -> list[PublishedVersion]:
        """The newest version of each, by name."""
        return [versions[0].head for versions in self.by_name.values()]

    def versions(self, name: str) -> tuple[SequenceVersion, ...]:
        """Of one sequence, the newest first. Raises SequenceNotFound."""
        if found := self.by_name.get(name.lower()):
            return found
        raise _no_such(name, 0)

    def find(self, name: str, version: int = 0) -> SequenceVersion:
        """This version, or with 0 the newest. Raises SequenceNotFound."""
        for each in self.by_name.get(name.lower(), ()):
            if version in (0, each.version):
                return each
        raise _no_such(name, version)

    def has(self, reference: str) -> bool:
        """Whether there is what "NAME" or "NAME@3" names. Raises SequenceError for what names nothing."""
        name, version = parse_reference(reference)
        return any(version in (0, each.version) for each in self.by_name.get(name.lower(), ()))

    # ---- changing

    def publish(self, text: str, actor: str, look: Look | None, version: int = 0) -> tuple[SequenceVersion, bool]:
        """A document as a new version, and whether it is one: the same text as the newest's changes nothing. `version` is the number
        that it gets, which may leave some out; 0 is the next. Raises SequenceRefused, SequenceConflict, SiteConflict."""
        sequence = read_checked(text, look)
        with self._database.own():
            key = sequence.name.lower()
            there, last = self.by_name.get(key, ()), self._numbers.get(key, SequenceNumber(key, 0)).last_version
            number = number_for(sequence.name, text, version, there, last)
            if number <= last:
                return self.find(key, number), False
            new = version_of(sequence, number, text, self._clock(), actor)
            check_room((*self.all(), new))
            self._database.change(
                actor, "sequence published", new.reference, lambda c: write_sequence(c, new), self.load
            )  # fmt: skip
            return new, True

    def remove(
        self, name: str, version: int, actor: str, deployments: Callable[[], Iterable[Deployment]]
    ) -> list[SequenceVersion]:
        """This version, or with 0 all of them; what there was, the newest first. Their numbers are not given again. Raises
        SequenceNotFound, SequenceConflict where one is deployed, SiteConflict."""
        with self._database.own():
            there = self.versions(name)
            gone = [each for each in there if version in (0, each.version)]
            if not gone:
                raise _no_such(name, version)
            numbers = {each.version for each in gone}
            for deployment, wanted in naming(deployments(), name):
                if wanted in numbers or (wanted == 0 and len(gone) == len(there)):
                    raise SequenceConflict(
                        f"{deployment.sequence} is deployed by deployment {deployment.id}; `dpd deployment remove {deployment.id}` first"
                    )

            def work(connection: sqlite3.Connection) -> None:
                rows = ((each.name, each.version) for each in gone)
                connection.executemany("DELETE FROM sequences WHERE name = ? AND version = ?", rows)

            detail = ", ".join(each.reference for each in gone)
            self._database.change(actor, "sequence removed", detail, work, self.load)
            return gone


def _no_such(name: str, version: int) -> SequenceNotFound:
    named = write_reference(name[:60], version)
    return SequenceNotFound(f"no task sequence {named}; `dpd sequence list` shows those there are")
