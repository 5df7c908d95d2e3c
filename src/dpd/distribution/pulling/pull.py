# SPDX-License-Identifier: Apache-2.0
"""How a content comes here: its description from a source that may be believed, then the blobs that are missing.

The description counts by its signature, so only from a source whose key is known; everything else counts by its hash, so
from whoever has it. Blobs of a tree come over several connections at once: a small file costs a round trip, and four of
them side by side cost one. A large one has a connection to itself anyhow and would only share the line with itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from dpd.content import repository
from dpd.content.arrival import Arrival
from dpd.content.blob_part import Wanted
from dpd.content.chunks import MIN_BLOB_BYTES
from dpd.content.description import Description, signer
from dpd.content.description import decode_signed as decode_description
from dpd.content.library import Library
from dpd.content.manifest import MAX_DOCUMENT_BYTES, Manifest
from dpd.content.manifest import decode_signed as decode_manifest
from dpd.content.records import Content
from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.pulling.blob_pull import BlobPull
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Check, Outcome, Session, Source, SourceFailure, Terms, in_time
from dpd.distribution.pulling.sources import sources_of
from dpd.distribution.pulling.supply import Lane, Supply, in_order
from dpd.distribution.pulling.trust import KeyRing
from dpd.distribution.pulling.under_way import Incoming, UnderWay
from dpd.distribution.pulling.url_pull import UrlOrder, describe_url
from dpd.errors import ContentCorrupt, ContentNotFound, SourceUnavailable
from dpd.telemetry.events import Value

LANES = 4  # bench/pull.py has 20,000 small files

OFFER_STALL_S = 10.0  # a client waits for it
OFFER_S = 20.0  # for each source: one that sends on and on, however little it means, must not hold all others up


class SourcePuller:
    """The Puller of this dpd. Every method may be called from any thread."""

    def __init__(
        self,
        settings: DistributionSettings,
        library: Library,
        keys: KeyRing,
        limit: RateLimit,
        *,
        tell: Tell,
        rng: random.Random,
    ) -> None:
        self.stats = PullStats()
        self.under_way = UnderWay()
        self.keys = keys
        self._library = library
        self._limit = limit
        self._tell = tell
        self._rng = rng
        self.apply(settings)

    def apply(self, settings: DistributionSettings) -> None:
        """Sources and patience from the next pull on, the ceiling at once."""
        self.settings = settings
        self.sources = sources_of(settings)
        self._limit.rate_changed()

    @property
    def own_id(self) -> str:
        """What others find in the header of our requests."""
        return repository.id_of(self._library.public_key())

    def terms(self, check: Callable[[], object], via: tuple[str, ...] = ()) -> Terms:
        """On which terms sources are talked to."""
        return Terms(check, self._limit, self.settings.stall_timeout_s, (*via, self.own_id))

    def supply(self, told: Mapping[str, str | int]) -> Supply:
        """The sources for one pull or repair; `told` goes with its events."""
        return Supply(self.sources, self._rng, self.stats, self._tell, told)

    def pull(self, package_id: str, source_version: int | None, run: JobRun) -> Content:
        """As `ports.Puller.pull`. The job's options `url` and `sha256` name a file at a plain URL instead of the sources."""
        here = self._here(package_id, source_version)
        if here is not None:
            return here
        terms = self.terms(run.check, run.job.via)
        order = UrlOrder.of(run.job.options)
        told = {"package_id": package_id}
        supply = self.supply(told) if order is None else order.supply(self._rng, self.stats, self._tell, told)
        with self._counted(), self.under_way.begun(package_id, source_version) as incoming, Lane(supply, terms) as lane:
            if order is not None:
                described, manifest = describe_url(self._library, lane, order, package_id, source_version), None
            else:
                version = source_version or self._newest(lane, package_id, run)
                here = self._here(package_id, version)
                if here is not None:
                    return here
                described, manifest = self._describe(lane, package_id, version, run)
            return _Pull(self._library, supply, terms, run, self._tell).bring(described, manifest, incoming, lane)

    def _here(self, package_id: str, source_version: int | None) -> Content | None:
        if source_version is None:
            return None
        try:
            return self._library.find(package_id, source_version)
        except ContentNotFound:
            return None

    def _newest(self, lane: Lane, package_id: str, run: JobRun) -> int:
        """The highest version at the sources of the first priority that have any: one of several equals may lag."""
        run.say(f"asks for the newest version of {package_id}")
        path = repository.newest(package_id)

        def ask(source: Source, session: Session) -> int:
            try:
                return repository.decode_newest(session.read(path, repository.MAX_SMALL_BYTES))
            except ContentCorrupt as error:
                raise SourceFailure(source.name, Outcome.WRONG, str(error)) from None

        return max(lane.ask_nearest(f"{package_id}, newest version", ask))

    def _describe(self, lane: Lane, package_id: str, version: int, run: JobRun) -> tuple[Description, Manifest | None]:
        run.say(f"asks for the description of {package_id} version {version}")
        path = repository.description(package_id, version)

        def ask(source: Source, session: Session) -> tuple[Source, Description, Manifest | None]:
            key = self.keys.key_of(source, session)
            document = session.read(path, MAX_DOCUMENT_BYTES)
            try:
                self.keys.refuse_other(source, signer(document))
                description = decode_description(document, key)
                if (description.package_id, description.source_version) != (package_id, version):
                    raise ContentCorrupt(
                        f"gave the description of {description} for that of {package_id} version {version}"
                    )
                return source, description, _manifest(session, description, key)
            except ContentCorrupt as error:
                raise SourceFailure(source.name, Outcome.WRONG, str(error)) from None

        source, description, manifest = lane.ask(f"{package_id} version {version}", ask)
        lane.supply.prefer(source)
        run.say(f"pulls {description} from {source.name}")
        return description, manifest

    def is_offered(
        self, package_id: str, source_version: int | None, via: tuple[str, ...], check: Check = lambda: None
    ) -> bool:
        """Whether a source has it; asks for small documents alone, and says so in no event. Raises SourceUnavailable where one that
        may have it does not answer, and what `check` raises."""
        path = (
            repository.newest(package_id)
            if source_version is None
            else repository.description(package_id, source_version)
        )
        terms = replace(self.terms(check, via), stall_s=min(OFFER_STALL_S, self.settings.stall_timeout_s))
        failures: list[SourceFailure] = []
        for source in in_order(self.sources, self._rng):
            try:
                check()
                with closing(source.session(replace(terms, check=in_time(source, OFFER_S, check)))) as session:
                    session.read(path, MAX_DOCUMENT_BYTES)
                    return True
            except SourceFailure as failure:
                failures.append(failure)
        unsure = [str(each) for each in failures if each.outcome is not Outcome.NOT_FOUND]
        if unsure:
            raise SourceUnavailable("no source has it now: " + "; ".join(unsure))
        return False

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.stats.add(running=1)
        try:
            yield
        finally:
            self.stats.add(running=-1)


def _manifest(session: Session, description: Description, key: bytes) -> Manifest | None:
    """The slab manifest; None where the source has none, and the hash of the whole must do. Raises ContentCorrupt."""
    if not description.is_one_file:
        return None
    path = repository.manifest(description.package_id, description.source_version)
    try:
        manifest = decode_manifest(session.read(path, MAX_DOCUMENT_BYTES), key)
    except SourceFailure as failure:
        if failure.outcome is Outcome.NOT_FOUND:
            return None
        raise
    if (manifest.size_bytes, manifest.sha256) != (description.size_bytes, description.sha256):
        raise ContentCorrupt(f"the manifest of {description} is that of another file")
    return manifest


@dataclass(frozen=True, slots=True)
class _Pull:
    """One content on its way."""

    library: Library
    supply: Supply
    terms: Terms
    run: JobRun
    tell: Tell

    def bring(self, description: Description, manifest: Manifest | None, incoming: Incoming, lane: Lane) -> Content:
        """All of it. Raises SourceUnavailable, ContentError, LibraryFull, and what the run's `check` raises."""
        begun = time.monotonic()
        incoming.described(description)
        with closing(_Abandoned(self.library.arrive(description, manifest))) as held:
            arrival = held.arrival
            wanted = arrival.missing
            count = _Count(self.run, description.size_bytes, sum(each.size_bytes for each in wanted))
            blobs = BlobPull(self.library, arrival, self._older(description, wanted), incoming, count.moved, self.tell)
            self._pull_all(blobs, wanted, lane)
            self.terms.check()
            content = arrival.finish()
        seconds = round(time.monotonic() - begun, 3)
        version, size_bytes = content.source_version, content.size_bytes
        fields: dict[str, Value] = {
            "package_id": content.package_id,
            "source_version": version,
            "size_bytes": size_bytes,
        }
        self.tell("content.pulled", {**fields, "seconds": seconds})
        return content

    def _pull_all(self, blobs: BlobPull, wanted: list[Wanted], lane: Lane) -> None:
        if len(wanted) < 2 * LANES:
            for each in wanted:
                blobs.pull(lane, each)
            return
        queue, lock = iter(wanted), threading.Lock()
        failed = threading.Event()

        def check() -> None:
            if failed.is_set():
                raise SourceUnavailable("another file of this content did not come")
            self.terms.check()

        def work() -> None:
            terms = Terms(check, self.terms.limit, self.terms.stall_s, self.terms.via)
            with Lane(self.supply, terms) as own:
                while True:
                    check()
                    with lock:
                        each = next(queue, None)
                    if each is None:
                        return
                    blobs.pull(own, each)

        with ThreadPoolExecutor(LANES, "pull") as threads:
            futures = [threads.submit(work) for _ in range(LANES)]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            first = next((future.exception() for future in done if future.exception() is not None), None)
            failed.set()  # where all went well nobody asks any more
            if first is not None:
                raise first

    def _older(self, description: Description, wanted: list[Wanted]) -> dict[str, str]:
        """For blobs worth it, that of the same file in the newest version that is here."""
        if not any(each.size_bytes >= MIN_BLOB_BYTES for each in wanted):
            return {}
        try:
            older = self.library.find(description.package_id)
        except ContentNotFound:
            return {}
        paths = {entry.path: entry.sha256 for entry in self.library.files(older) if entry.size_bytes >= MIN_BLOB_BYTES}
        if len(paths) == 1 and description.is_one_file:  # whatever the file is called now
            return {description.sha256: next(iter(paths.values()))}
        return {entry.sha256: paths[entry.path] for entry in description.files if entry.path in paths}


class _Abandoned:
    """An arrival that is given up at the end of a block, unless it has been finished."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival

    def close(self) -> None:
        self.arrival.abandon()


class _Count:
    """How much of a content is here."""

    def __init__(self, run: JobRun, total_bytes: int, missing_bytes: int) -> None:
        self._run = run
        self._total = total_bytes
        self._done = total_bytes - missing_bytes
        self._lock = threading.Lock()
        run.progress(self._done, total_bytes)

    def moved(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._run.progress(min(max(self._done, 0), self._total), self._total)
