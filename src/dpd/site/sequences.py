# SPDX-License-Identifier: Apache-2.0
"""Published task sequences as a part of the site's model: the text that people wrote, version by version.

A version is never changed and its number never given twice, so that a machine that goes on after a restart, or a deployment of
"NAME@3", finds what it began with. What targets take is made of the text and signed at each distribution point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dpd.sequence.checks import check_sequence
from dpd.sequence.document import MAX_DOCUMENT_BYTES, SequenceRefused, read_document
from dpd.sequence.package_checks import Look
from dpd.sequence.records import MAX_DESCRIPTION, SequenceConflict, SequenceError, TaskSequence
from dpd.sequence.reference import MAX_VERSION, check_sequence_name, parse_reference, write_reference
from dpd.site.records import Deployment, SiteConflict, SiteError

MAX_SEQUENCES_BYTES = 16 << 20  # of text in all versions: each change of policy carries them to each point


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """One version, without its text. `steps` counts them."""

    name: str
    version: int
    description: str
    steps: int
    published_at: float
    actor: str


@dataclass(frozen=True, slots=True)
class SequenceVersion:
    """One version and its `text`. In a model that is yet to be kept `published_at` 0 is now, `actor` "" whoever keeps it."""

    name: str
    version: int
    description: str
    steps: int
    published_at: float
    actor: str
    text: str = field(repr=False)

    @property
    def head(self) -> PublishedVersion:
        return PublishedVersion(self.name, self.version, self.description, self.steps, self.published_at, self.actor)

    @property
    def reference(self) -> str:
        return write_reference(self.name, self.version)


@dataclass(frozen=True, slots=True)
class SequenceNumber:
    """The highest version that a sequence has or had."""

    name: str
    last_version: int


def read_checked(text: str, look: Look | None) -> TaskSequence:
    """The sequence of a document. Without `look` every package is taken to be there. Raises SequenceRefused."""
    read = read_document(text)
    if read.sequence is None:
        raise SequenceRefused(read.problems)
    if problems := check_sequence(read.sequence, look):
        raise SequenceRefused(problems)
    return read.sequence


def version_of(sequence: TaskSequence, version: int, text: str, at: float = 0.0, actor: str = "") -> SequenceVersion:
    """What a document has become."""
    return SequenceVersion(sequence.name, version, sequence.description, len(sequence.steps()), at, actor, text)


def number_for(name: str, text: str, wanted: int, there: Sequence[SequenceVersion], last: int) -> int:
    """The number that a text gets: of `there`, the versions of its name, the newest first, where that says the same, else `wanted`, or
    with 0 the one behind `last`. Raises SequenceConflict."""
    if wanted and wanted <= last:
        known = next((each for each in there if each.version == wanted), None)
        if known is not None and known.text == text:
            return wanted
        what = "is another text" if known is not None else "was removed or left out"
        raise SequenceConflict(
            f"{write_reference(name, wanted)} {what}, and no number is given twice; publish as version {last + 1}"
        )
    if not wanted and there and there[0].text == text:
        return there[0].version
    if last >= MAX_VERSION:
        raise SequenceConflict(f"{name}: no version is left after {last}; publish it by another name")
    return wanted or last + 1


def normal_sequence(version: SequenceVersion, now: float, actor: str = "") -> SequenceVersion:
    """The form that is kept. What the text says is looked at where it is published and where it is taken. Raises SiteError."""
    try:
        check_sequence_name(version.name)
    except SequenceError as error:
        raise SiteError(str(error)) from None
    named = f"task sequence {version.reference}"
    if not 0 < version.version <= MAX_VERSION or version.steps < 0:
        raise SiteError(f"{named}: expected a version from 1 to {MAX_VERSION}")
    if len(version.description) > MAX_DESCRIPTION:
        raise SiteError(f"{named}: description: expected at most {MAX_DESCRIPTION} characters")
    if len(version.text.encode("utf-8", "replace")) > MAX_DOCUMENT_BYTES:
        raise SiteError(f"{named}: text: expected at most {MAX_DOCUMENT_BYTES} bytes")
    if version.published_at and version.actor:
        return version
    return replace(version, published_at=version.published_at or now, actor=version.actor or actor)


def check_room(versions: Iterable[SequenceVersion]) -> None:
    """Raises SiteConflict where all of them together are too much."""
    total = sum(len(each.text.encode("utf-8", "replace")) for each in versions)
    if total > MAX_SEQUENCES_BYTES:
        raise SiteConflict(
            f"task sequences: {total} bytes in all versions, expected at most {MAX_SEQUENCES_BYTES}; `dpd sequence remove NAME@VERSION` takes out what nobody needs"
        )


def numbers_of(given: Iterable[SequenceNumber], versions: Iterable[SequenceVersion]) -> tuple[SequenceNumber, ...]:
    """By name: the highest that is known of each."""
    found: dict[str, SequenceNumber] = {}
    for each in (*given, *(SequenceNumber(each.name, each.version) for each in versions)):
        known = found.get(each.name.lower())
        if known is None or known.last_version < each.last_version:
            name = each.name if known is None else known.name
            found[each.name.lower()] = SequenceNumber(name, each.last_version)
    return tuple(each for _, each in sorted(found.items()))


def sequence_order(version: SequenceVersion) -> tuple[str, int]:
    """By name, the oldest version first."""
    return version.name.lower(), version.version


def naming(deployments: Iterable[Deployment], name: str) -> list[tuple[Deployment, int]]:
    """The deployments of this sequence, each with the version that it wants, 0 for the newest."""
    parsed = [(each, *parse_reference(each.sequence)) for each in deployments if each.sequence]
    return [(each, version) for each, called, version in parsed if called.lower() == name.lower()]
