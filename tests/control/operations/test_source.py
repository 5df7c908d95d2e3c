# SPDX-License-Identifier: Apache-2.0
"""The verbs about sources, over real ones."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.distribution.origin import Origin, opened

from dpd.content import repository
from dpd.control.operations.source import SourceOperations
from dpd.distribution.pulling.trust import KeyState
from dpd.errors import ContentNotFound

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


async def test_each_source_is_asked_and_all_at_once(tmp_path: Path) -> None:
    with Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin:
        slow = [Origin(origin.files, lambda asked, reply: setattr(reply, "hang", 0)) for _ in range(3)]
        for each in slow:
            each.__enter__()
        urls = {"hq": origin.url, "gone": "http://127.0.0.1:1"} | {f"slow{n}": o.url for n, o in enumerate(slow)}
        with opened(tmp_path / "site", urls, stall_timeout_s=1.0) as site:
            begun = time.monotonic()
            found = await SourceOperations(site.puller).sources()
            assert time.monotonic() - begun < 2.9
            assert [each.name for each in found] == list(urls)
            assert [each.is_reachable for each in found] == [True, False, False, False, False]
            assert all(each.error for each in found[1:])
        for each in slow:
            each.__exit__()


async def test_a_pinned_key_is_forgotten(tmp_path: Path) -> None:
    with (
        Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin,
        opened(tmp_path / "site", {"hq": origin.url}) as site,
    ):
        verbs = SourceOperations(site.puller)
        (source,) = site.puller.sources
        with closing(source.session(site.puller.terms(lambda: None))) as session:
            site.puller.keys.key_of(source, session)
        origin.files[repository.IDENTITY] = repository.encode_identity(OTHER)
        found = await verbs.test("hq")
        assert (found.key_state, found.key, found.offered_key) == (KeyState.PINNED, KEY.hex(), OTHER.hex())
        assert "dpd source forget hq" in found.error
        found = await verbs.forget("hq")
        assert (found.key_state, found.key, found.error) == (KeyState.UNKNOWN, "", "")


async def test_a_source_that_is_not_in_the_settings(tmp_path: Path) -> None:
    words = r"no source is called 'x'; \[\[distribution.source\]\] in the settings has: hq"
    with (
        opened(tmp_path / "site", {"hq": "http://127.0.0.1:1"}) as site,
        pytest.raises(ContentNotFound, match=words),
    ):
        await SourceOperations(site.puller).test("x")
    assert await SourceOperations(None).sources() == []
    with pytest.raises(ContentNotFound, match="has: none"):
        await SourceOperations(None).forget("x")
