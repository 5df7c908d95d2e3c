# SPDX-License-Identifier: Apache-2.0
"""The sources that the settings name, and how each of them is just now."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from dpd.content import repository
from dpd.content_settings import DistributionSettings, SourceSettings
from dpd.distribution.pulling.http_source import HttpSource
from dpd.distribution.pulling.s3_source import S3Source
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure, Terms, in_time
from dpd.distribution.pulling.trust import KeyRing, KeyState, ask_identity

TEST_STALL_S = 10.0
TEST_S = 30.0  # for all of it


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source as it was found. `latency_ms` is that of one small answer, None where none came; `error` is "" where all is well.

    `key` is what counts for it, `offered_key` what it says now; both are 64 hexadecimal digits or "".
    """

    name: str
    url: str
    priority: int
    is_reachable: bool
    latency_ms: float | None
    key_state: KeyState
    key: str
    offered_key: str
    error: str


def source_of(settings: SourceSettings) -> Source:
    """What is behind the URL."""
    if settings.url.startswith("s3://"):
        return S3Source(
            settings.name,
            settings.url.rstrip("/"),
            settings.priority,
            settings.public_key,
            settings.ca_file,
            settings.endpoint,
            settings.region,
            settings.credentials_file,
        )
    return HttpSource(settings.name, settings.url.rstrip("/"), settings.priority, settings.public_key, settings.ca_file)


def sources_of(settings: DistributionSettings) -> tuple[Source, ...]:
    """In the order of the settings."""
    return tuple(source_of(each) for each in settings.source)


def look_at(source: Source, keys: KeyRing, terms: Terms) -> SourceStatus:
    """Ask the source who it is, and hold that against the key that counts. Pins nothing."""
    known = keys.known(source)
    offered, latency_ms, error = "", None, ""
    is_reachable = False
    try:
        session = source.session(replace(terms, check=in_time(source, TEST_S, terms.check)))
        try:
            offered, latency_ms = _ask(source, session)
            is_reachable = True
            keys.refuse_other(source, bytes.fromhex(offered))
        finally:
            session.close()
    except SourceFailure as failure:
        is_reachable = is_reachable or failure.outcome in (Outcome.NOT_FOUND, Outcome.WRONG)
        error = failure.why
    return SourceStatus(
        source.name,
        source.url,
        source.priority,
        is_reachable,
        latency_ms,
        known.state,
        known.public_key,
        offered,
        error,
    )


def _ask(source: Source, session: Session) -> tuple[str, float]:
    """Its key, and the time of an answer over a connection that stands."""
    identity = ask_identity(source, session)
    begun = time.monotonic()
    session.read(repository.IDENTITY, repository.MAX_SMALL_BYTES)
    return identity.public_key.hex(), (time.monotonic() - begun) * 1000
