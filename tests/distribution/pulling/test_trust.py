# SPDX-License-Identifier: Apache-2.0
"""Keys of sources: pinned once, refused when another one comes, forgotten by the operator; all over restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.origin import Origin

from dpd.content import repository
from dpd.database import Database
from dpd.distribution.database import open_database
from dpd.distribution.pulling.http_source import HttpSource
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Outcome, SourceFailure, Terms
from dpd.distribution.pulling.trust import KeyRing, KeyState, KnownKey, ask_identity

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TERMS = Terms(lambda: None, RateLimit(lambda: float("inf")), 1.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "distribution.db")
    yield database
    database.close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin:
        yield origin


def test_the_first_key_is_pinned_and_stays(database: Database, origin: Origin) -> None:
    source = HttpSource("hq", origin.url)
    keys, session = KeyRing(database, clock=lambda: 7.0), source.session(TERMS)
    assert keys.known(source) == KnownKey(KeyState.UNKNOWN)
    assert keys.key_of(source, session) == KEY
    origin.files[repository.IDENTITY] = repository.encode_identity(OTHER)
    assert KeyRing(database).key_of(source, session) == KEY
    assert KeyRing(database).known(source) == KnownKey(KeyState.PINNED, KEY.hex(), 7.0)
    with pytest.raises(SourceFailure, match=f"signs with the key {OTHER.hex()}, pinned is {KEY.hex()}") as caught:
        keys.refuse_other(source, OTHER)
    assert caught.value.outcome is Outcome.WRONG
    assert keys.forget(source)
    assert not keys.forget(source)
    assert keys.key_of(source, session) == OTHER
    session.close()


def test_another_place_has_a_key_of_its_own(database: Database, origin: Origin) -> None:
    keys = KeyRing(database)
    with Origin({repository.IDENTITY: repository.encode_identity(OTHER)}) as elsewhere:
        for url, key in ((origin.url, KEY), (elsewhere.url, OTHER)):
            source = HttpSource("hq", url)
            session = source.session(TERMS)
            assert keys.key_of(source, session) == key
            session.close()
            assert keys.known(source).public_key == key.hex()


def test_a_configured_key_is_neither_asked_for_nor_pinned(database: Database, origin: Origin) -> None:
    source = HttpSource("hq", origin.url, public_key=OTHER.hex())
    keys, session = KeyRing(database), source.session(TERMS)
    assert keys.key_of(source, session) == OTHER
    assert origin.asked == []
    assert keys.known(HttpSource("hq", origin.url)).state is KeyState.UNKNOWN
    with pytest.raises(SourceFailure, match="set public_key of this source"):
        keys.refuse_other(source, KEY)


@pytest.mark.parametrize("document", [b"", b"<html>", b"{}", b"x" * 5000])
def test_what_is_no_identity_is_a_lie(origin: Origin, document: bytes) -> None:
    origin.files[repository.IDENTITY] = document
    source = HttpSource("hq", origin.url)
    session = source.session(TERMS)
    with pytest.raises(SourceFailure) as caught:
        ask_identity(source, session)
    assert caught.value.outcome is Outcome.WRONG
    session.close()
