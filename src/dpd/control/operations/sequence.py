# SPDX-License-Identifier: Apache-2.0
"""The verbs of task sequences: look at what a document says, publish it as a new version, show, and take out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dpd.content.kinds import ContentFormat
from dpd.content.records import Content
from dpd.deployment.signed_sequences import SignedSequences
from dpd.errors import ContentNotFound
from dpd.sequence.checks import check_sequence, wanted_variables
from dpd.sequence.document import read_document
from dpd.sequence.package_checks import KnownPackage
from dpd.sequence.records import Group, SequenceProblem, Step, TaskSequence
from dpd.site.sequences import PublishedVersion, SequenceVersion, naming
from dpd.site.store import SiteStore
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
    """One version, every version that there is, the newest first, the deployments that name the sequence, and what stands against it
    at this point: packages that are not here, or what this dpd cannot read. No `outline` where it cannot be read."""

    version: PublishedVersion
    outline: SequenceOutline | None
    versions: list[PublishedVersion]
    deployments: list[int]
    problems: list[SequenceProblem]


@dataclass(frozen=True, slots=True)
class SequencePublished:
    """The version that a document has become, or that says the same already."""

    version: PublishedVersion
    is_new: bool


@dataclass(frozen=True, slots=True)
class WrittenSequence:
    """A version as it was written and as targets take it, "" where nobody signs."""

    version: PublishedVersion
    text: str
    document: str


class SequenceOperations:
    """The verbs over one site store. A site server has no library, so that it signs nothing and takes every package to be there."""

    def __init__(
        self,
        store: SiteStore,
        events: EventLog,
        in_worker: InWorker,
        signed: SignedSequences | None = None,
        packages: Packages | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._in_worker = in_worker
        self._signed = signed
        self._packages = packages
        self._look = self._look_up if packages is not None else None

    async def newest(self) -> list[PublishedVersion]:
        """The newest version of each, by name."""
        return self._store.sequences.newest()

    async def show(self, name: str, version: int = 0) -> SequenceDetails:
        """Raises SequenceNotFound."""
        details: SequenceDetails = await self._in_worker(self._show, name, version)
        return details

    async def find(self, name: str, version: int = 0) -> WrittenSequence:
        """With its text and its signed document. Raises SequenceNotFound."""
        found: WrittenSequence = await self._in_worker(self._find, name, version)
        return found

    async def check(self, text: str) -> SequenceCheck:
        """What publishing this text would say; problems are told and not raised."""
        checked: SequenceCheck = await self._in_worker(self._check, text)
        return checked

    async def publish(self, text: str, version: int, actor: str) -> SequencePublished:
        """A new version, unless the newest one says the same. Raises SequenceRefused, SequenceConflict, SiteConflict where policy is
        a site's."""
        published, is_new = await self._in_worker(self._store.sequences.publish, text, actor, self._look, version)
        if is_new:
            self._events.note("sequence.published", sequence=published.name, version=published.version, actor=actor)
        return SequencePublished(published.head, is_new)

    async def remove(self, name: str, version: int, actor: str) -> list[PublishedVersion]:
        """One version, or with 0 all of them; what there was. Raises SequenceNotFound, SequenceConflict where it is deployed,
        SiteConflict where policy is a site's."""
        gone: list[SequenceVersion] = await self._in_worker(self._store.remove_sequence, name, version, actor)
        for each in gone:
            self._events.note("sequence.removed", sequence=each.name, version=each.version, actor=actor)
        return [each.head for each in gone]

    def _show(self, name: str, version: int) -> SequenceDetails:
        found = self._store.sequences.find(name, version)
        named = [each.id for each, _ in naming(self._store.deployments.values(), name)]
        checked = self._check(found.text)
        versions = [each.head for each in self._store.sequences.versions(name)]
        return SequenceDetails(found.head, checked.outline, versions, named, checked.problems)

    def _find(self, name: str, version: int) -> WrittenSequence:
        found = self._store.sequences.find(name, version)
        document = "" if self._signed is None else self._signed.find(found.name, found.version).document
        return WrittenSequence(found.head, found.text, document)

    def _check(self, text: str) -> SequenceCheck:
        read = read_document(text)
        if read.sequence is None:
            return SequenceCheck(None, list(read.problems))
        return SequenceCheck(outline(read.sequence), list(check_sequence(read.sequence, self._look)))

    def _look_up(self, package: str, version: int) -> KnownPackage | None:
        assert self._packages is not None
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
