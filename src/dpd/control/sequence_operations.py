# SPDX-License-Identifier: Apache-2.0
"""The verbs of task sequences: look at what a document says, publish it as a new version, show, and take out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dpd.content.kinds import ContentFormat
from dpd.content.records import Content
from dpd.deployment.sequence_store import PublishedSequence, PublishedVersion, SequenceStore
from dpd.errors import ContentNotFound, Unavailable
from dpd.sequence.checks import check_sequence, wanted_variables
from dpd.sequence.document import read_document
from dpd.sequence.package_checks import KnownPackage
from dpd.sequence.records import Group, SequenceConflict, SequenceProblem, Step, TaskSequence
from dpd.sequence.reference import parse_reference
from dpd.site.records import Deployment
from dpd.telemetry.events import EventLog

InWorker: TypeAlias = Callable[..., Awaitable[Any]]


class Packages(Protocol):
    """What is asked of the content library."""

    def find(self, package_id: str, source_version: int | None = None) -> Content: ...


@dataclass(frozen=True, slots=True)
class SequenceMember:
    """A group (`do` is "") or step, by its place in the tree."""

    id: str
    name: str
    do: str
    description: str
    is_enabled: bool
    is_conditional: bool
    continue_on_error: bool


@dataclass(frozen=True, slots=True)
class SequenceOutline:
    """What a sequence is made of, without what its steps say. `packages` are those that it names, `variables` those that it uses and
    that computers, collections or the run must set."""

    name: str
    description: str
    architectures: list[str]
    firmware: list[str]
    time_limit_s: int
    members: list[SequenceMember]
    packages: list[str]
    variables: list[str]


@dataclass(frozen=True, slots=True)
class SequenceCheck:
    """What publishing a document would say; with `problems` it would be refused. No `outline` where it cannot be read."""

    outline: SequenceOutline | None
    problems: list[SequenceProblem]


@dataclass(frozen=True, slots=True)
class SequenceDetails:
    """One version, every version that there is, the newest first, and the deployments that name the sequence."""

    version: PublishedVersion
    outline: SequenceOutline
    versions: list[PublishedVersion]
    deployments: list[int]


@dataclass(frozen=True, slots=True)
class SequencePublished:
    """The version that a document has become, or that says the same already."""

    version: PublishedVersion
    is_new: bool


class SequenceOperations:
    """The verbs over one store; without one nothing is kept here. `deployments` are those that there are now."""

    def __init__(
        self,
        store: SequenceStore | None,
        packages: Packages,
        deployments: Callable[[], Sequence[Deployment]],
        events: EventLog,
        in_worker: InWorker,
    ) -> None:
        self._kept = store
        self._packages = packages
        self._deployments = deployments
        self._events = events
        self._in_worker = in_worker

    async def newest(self) -> list[PublishedVersion]:
        """The newest version of each, by name."""
        found: list[PublishedVersion] = await self._in_worker(self._store.newest)
        return found

    async def show(self, name: str, version: int = 0) -> SequenceDetails:
        """Raises SequenceNotFound."""
        details: SequenceDetails = await self._in_worker(self._show, name, version)
        return details

    async def find(self, name: str, version: int = 0) -> PublishedSequence:
        """With its text and its signed document. Raises SequenceNotFound."""
        found: PublishedSequence = await self._in_worker(self._store.find, name, version)
        return found

    async def check(self, text: str) -> SequenceCheck:
        """What publishing this text would say; problems are told and not raised."""
        checked: SequenceCheck = await self._in_worker(self._check, text)
        return checked

    async def publish(self, text: str, version: int, actor: str) -> SequencePublished:
        """A new version, unless the newest one says the same. Raises SequenceRefused, SequenceConflict."""
        published, is_new = await self._in_worker(self._store.publish, text, actor, self._look, version)
        if is_new:
            self._events.note("sequence.published", sequence=published.name, version=published.version, actor=actor)
        return SequencePublished(published.head, is_new)

    async def remove(self, name: str, version: int, actor: str) -> list[PublishedVersion]:
        """One version, or with 0 all of them; what there was. Raises SequenceNotFound, SequenceConflict where it is deployed."""
        gone: list[PublishedVersion] = await self._in_worker(self._remove, name, version)
        for each in gone:
            self._events.note("sequence.removed", sequence=each.name, version=each.version, actor=actor)
        return gone

    @property
    def _store(self) -> SequenceStore:
        if self._kept is None:
            raise Unavailable("this dpd keeps no task sequences; start it with `dpd serve`")
        return self._kept

    def _show(self, name: str, version: int) -> SequenceDetails:
        found = self._store.find(name, version)
        named = [each.id for each, _ in self._naming(name)]
        return SequenceDetails(found.head, outline(found.sequence), self._store.versions(name), named)

    def _check(self, text: str) -> SequenceCheck:
        read = read_document(text)
        if read.sequence is None:
            return SequenceCheck(None, list(read.problems))
        return SequenceCheck(outline(read.sequence), list(check_sequence(read.sequence, self._look)))

    def _remove(self, name: str, version: int) -> list[PublishedVersion]:
        there = [each.version for each in self._store.versions(name)]
        gone = [each for each in there if version in (0, each)]
        for deployment, wanted in self._naming(name):
            if wanted in gone or (wanted == 0 and gone == there):
                raise SequenceConflict(
                    f"{deployment.sequence} is deployed by deployment {deployment.id}; `dpd deployment remove {deployment.id}` first"
                )
        return self._store.remove(name, version)

    def _naming(self, name: str) -> list[tuple[Deployment, int]]:
        """The deployments of this sequence, each with the version that it wants, 0 for the newest."""
        parsed = [(each, *parse_reference(each.sequence)) for each in self._deployments() if each.sequence]
        return [(each, version) for each, called, version in parsed if called.lower() == name.lower()]

    def _look(self, package: str, version: int) -> KnownPackage | None:
        try:
            found = self._packages.find(package, version or None)
        except ContentNotFound:
            return None
        return KnownPackage(found.format is ContentFormat.WIM, tuple(each.architecture for each in found.images))


def outline(sequence: TaskSequence) -> SequenceOutline:
    """What it is made of, for people."""
    return SequenceOutline(
        sequence.name,
        sequence.description,
        [each.value for each in sequence.architectures],
        [each.value for each in sequence.firmware],
        sequence.time_limit_s,
        [_member(each) for each in sequence.walk()],
        list(sequence.packages()),
        list(wanted_variables(sequence)),
    )


def _member(member: Group | Step) -> SequenceMember:
    return SequenceMember(
        member.id,
        member.name,
        member.kind.value if isinstance(member, Step) else "",
        member.description,
        member.is_enabled,
        member.condition is not None,
        member.continue_on_error,
    )
