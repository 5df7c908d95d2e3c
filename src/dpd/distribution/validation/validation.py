# SPDX-License-Identifier: Apache-2.0
"""Reads what is stored and compares it, at idle priority; what is damaged is told, not given out, and mended.

One job validates everything or one package. It goes through the contents in their order and notes how far it is, so that
a restart, a cancelled hour or a source that is away costs no second reading. A blob that several contents share is read
once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from dpd.content import description as descriptions
from dpd.content.damage import Damage
from dpd.content.intake import Progress
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.validation.idle import Pace, run_idle
from dpd.distribution.validation.repair import Mended, Repair
from dpd.distribution.validation.store import DamagedBlob, DamageState, RunState, ValidationRun, ValidationStore
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, DpdError, SourceUnavailable
from dpd.telemetry.stats import counter, gauge

log = logging.getLogger(__name__)

_NAMED = 3  # in a message


@dataclass(slots=True)
class ValidationStats:
    """What validation did since the start."""

    running: int = gauge("Validations that run now")
    contents: int = counter("Package versions read and compared")
    read_bytes: int = counter("Bytes read and compared")
    found: int = counter("Files found damaged")
    repaired: int = counter("Damaged files made right again")
    unrepaired: int = counter("Tries to make a damaged file right again that failed")
    fetched_bytes: int = counter("Bytes fetched for repair")


@dataclass(slots=True)
class _Pass:
    """One validation while it runs: blobs that it has read, those of them that were damaged, and what could not be mended."""

    run: JobRun
    noted: ValidationRun
    pace: Pace
    known: set[str] = field(default_factory=set)
    total_bytes: int = 0
    done_bytes: int = 0
    settled: set[str] = field(default_factory=set)
    problems: list[DpdError] = field(default_factory=list)
    compared: int = 0
    read_bytes: int = 0
    mended: int = 0
    unread: int = 0

    def in_words(self) -> str:
        """What has become of it."""
        versions = f"{self.noted.contents + self.compared} package versions"
        damaged = f"{len(self.settled)} files damaged, {self.mended} of them mended" if self.settled else "no damage"
        return f"{versions} compared, {self.noted.read_bytes + self.read_bytes} bytes read; {damaged}"


class Validation:
    """The work of JobKind.VALIDATE, and the restorer of a redistribution."""

    def __init__(
        self,
        library: Library,
        store: ValidationStore,
        repair: Repair,
        *,
        may_repair: Callable[[], bool],
        tell: Tell,
        pace: Callable[[], Pace] = Pace,
    ) -> None:
        """`may_repair` is [library] repair, asked anew each time."""
        self.stats = ValidationStats()
        self._library = library
        self._store = store
        self._repair = repair
        self._may_repair = may_repair
        self._tell = tell
        self._pace = pace

    def __call__(self, run: JobRun) -> None:
        """Validate what the job says, everything where it names no package.

        Raises SourceUnavailable where something is damaged that a later try may mend, ContentCorrupt where none will.
        """
        run_idle(lambda: self._validate(run))

    def restore(self, content: Content, run: JobRun) -> None:
        """Compare one content now, at ordinary priority, and mend it whatever the settings say. Raises as a validation."""
        damages = self._look(content, _reporter(run), ())
        problems = [each for each in (self._mend(content, damage, run.check) for damage in damages) if each is not None]
        self.reconcile()
        _raise(problems)

    def reconcile(self) -> None:
        """What is noted as damaged and is so no longer: mended, published again, or removed."""
        noted = self._store.open_damage()
        if not noted:
            return
        damaged = {row.sha256 for row in self._library.damaged_blobs()}
        for each in noted:
            if each.sha256 not in damaged:
                self._end_damage(each)

    def _end_damage(self, noted: DamagedBlob) -> None:
        users = self._library.users_of(noted.sha256)
        state = DamageState.REPAIRED if users else DamageState.REMOVED
        note = "published or brought again" if users else "no content has it any more"
        if self._store.end_damage(noted.sha256, state, note) and users:
            self._tell("content.repaired", _fields(users[0], noted.sha256) | {"origin": "", "fetched_bytes": 0})

    def _validate(self, run: JobRun) -> None:
        noted = self._store.begin(run.job.id, run.job.package_id)
        self.stats.running += 1
        state = RunState.STOPPED
        try:
            current = _Pass(run, noted, self._pace())
            self._go_through(current)
            state = RunState.INCOMPLETE if current.unread else RunState.DONE
        finally:
            self.stats.running -= 1
            self._store.end(noted, state)
        run.say(current.in_words())
        _raise(current.problems)

    def _go_through(self, current: _Pass) -> None:
        contents = self._contents(current.run)
        begin = (current.noted.after_package, current.noted.after_version)
        current.total_bytes = sum(content.size_bytes for content in contents)
        for content in contents:
            if (content.package_id, content.source_version) > begin:
                self._compare(content, current)
            current.done_bytes += content.size_bytes
        self._mend_again(current)
        self.reconcile()

    def _contents(self, run: JobRun) -> list[Content]:
        """In the order in which a run notes how far it is."""
        if not run.job.package_id:
            return self._library.contents()
        if run.job.source_version is not None:
            return [self._library.find(run.job.package_id, run.job.source_version)]
        found = [content for content in self._library.contents() if content.package_id == run.job.package_id]
        return found or [self._library.find(run.job.package_id)]  # which says that there is none

    def _compare(self, content: Content, current: _Pass) -> None:
        current.run.check()
        current.run.say(f"reading {content}")
        read = _Reading(current, self.stats)
        try:
            damages = self._look(content, read.report, current.known)
            current.known.update(each.sha256 for each in self._library.files(content))
        except ContentNotFound:
            return  # removed meanwhile
        except ContentError as error:  # a root that is not there, or a manifest beyond help
            current.problems.append(error)
            current.unread += 1
            damages = []
        for damage in damages:
            self._settle(content, damage, current)
        current.compared += 1
        current.read_bytes += read.read_bytes
        self._store.advance(current.noted, content.package_id, content.source_version, read.read_bytes)
        self.stats.contents += 1

    def _look(self, content: Content, progress: Progress, known: Container[str]) -> list[Damage]:
        """What of it is damaged. A manifest that is, is made anew out of the blob, which needs nobody's help."""
        try:
            return self._library.damage(content, progress, known=known)
        except ContentCorrupt:
            if not content.is_one_file:
                raise
            described = descriptions.decode_signed(self._library.description(content), self._library.public_key())
            self._library.arrive(described).finish()
            self._tell("content.manifest_renewed", _fields(content, content.sha256))
            return self._library.damage(content, progress, known=known)

    def _settle(self, content: Content, damage: Damage, current: _Pass) -> None:
        """Tell of damage, and mend it; what is in the way of that is a problem of this pass."""
        current.settled.add(damage.sha256)
        if self._may_repair():
            current.run.say(f"repairing {content}")
            problem = self._mend(content, damage, current.run.check)
        else:
            self._note(content, damage)
            problem = ContentCorrupt(
                f"{content}: blob {damage.sha256} is damaged ({damage.reason}); [library] repair is off: `dpd content redistribute {content.package_id}` fetches it again"
            )
        if problem is None:
            current.mended += 1
        else:
            current.problems.append(problem)

    def _note(self, content: Content, damage: Damage) -> None:
        is_news = self._store.note_damage(
            damage.sha256, content.package_id, content.source_version, damage.reason, damage.size_bytes
        )
        if is_news:
            self.stats.found += 1
            log.error("content damaged", extra={"content": str(content), "blob": damage.sha256, "cause": damage.reason})
            self._tell("content.damaged", _fields(content, damage.sha256) | {"reason": damage.reason})

    def _mend(self, content: Content, damage: Damage, check: Callable[[], None]) -> DpdError | None:
        """What is in the way of that, or None."""
        self._note(content, damage)
        try:
            mended = self._repair.mend(content, damage, check)
        except ContentNotFound:
            return None  # removed meanwhile
        except ContentError as error:
            self.stats.unrepaired += 1
            self._store.explain(damage.sha256, str(error))
            self._tell("content.not_repaired", _fields(content, damage.sha256) | {"reason": str(error)})
            return error
        self._tell_mended(content, mended)
        return None

    def _tell_mended(self, content: Content, mended: Mended) -> None:
        self.stats.repaired += 1
        self.stats.fetched_bytes += mended.fetched_bytes
        self._store.end_damage(mended.sha256, DamageState.REPAIRED, f"from {mended.origin}")
        self._tell(
            "content.repaired",
            _fields(content, mended.sha256) | {"origin": mended.origin, "fetched_bytes": mended.fetched_bytes},
        )

    def _mend_again(self, current: _Pass) -> None:
        """What an earlier try of this job found and could not mend: it lies before where this one went on."""
        damaged = {row.sha256 for row in self._library.damaged_blobs()} - current.settled
        for each in self._store.open_damage():
            if each.sha256 in damaged and current.run.job.package_id in ("", each.package_id):
                for content in self._library.users_of(each.sha256)[:1]:
                    self._settle(content, Damage(each.sha256, each.size_bytes, None, each.reason), current)


class _Reading:
    """The progress of one content within a pass: counts, rests, and hears that the job is to stop."""

    def __init__(self, current: _Pass, stats: ValidationStats) -> None:
        self._current = current
        self._stats = stats
        current.pace.start()
        self.read_bytes = 0

    def report(self, done: int, total: int) -> None:
        """Bytes of this content's blobs that have been read."""
        self._stats.read_bytes += max(0, done - self.read_bytes)
        self.read_bytes = done
        self._current.run.progress(self._current.done_bytes + done, self._current.total_bytes)
        self._current.run.check()
        self._current.pace.rest(done)


def _reporter(run: JobRun) -> Progress:
    def report(done: int, total: int) -> None:
        run.progress(done, total)
        run.check()

    return report


def _fields(content: Content, sha256: str) -> dict[str, str | int | float | bool]:
    return {"package_id": content.package_id, "source_version": content.source_version, "sha256": sha256}


def _raise(problems: Iterable[DpdError]) -> None:
    """One error for all of them: one that a later try may help where there is such a one."""
    all_of_them = list(problems)
    if not all_of_them:
        return
    told = "; ".join(str(problem) for problem in all_of_them[:_NAMED])
    more = f"; and {len(all_of_them) - _NAMED} more: `dpd validation damage`" if len(all_of_them) > _NAMED else ""
    kind = SourceUnavailable if any(isinstance(each, SourceUnavailable) for each in all_of_them) else ContentCorrupt
    raise kind(told + more)
