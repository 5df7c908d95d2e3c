# SPDX-License-Identifier: Apache-2.0
"""Pulls from sources that are good, bad and worse: nothing wrong becomes content, the next source is asked, and what happened
is told."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.origin import SLAB_BYTES, Asked, Origin, Reply, Site, opened, repository_files

from dpd.content import repository
from dpd.content.library import Library
from dpd.content_settings import SourceSettings
from dpd.distribution.jobs.job import JobPostponed
from dpd.distribution.pulling.supply import READ_BYTES
from dpd.errors import ContentNotFound, SourceUnavailable

IMAGE = random.Random(1).randbytes(5 * (1 << 20) + 12345)
PACKAGE = "LAB00001"


class Publisher:
    """A library elsewhere, and what it has to offer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.library = Library(folder / "library", slab_bytes=SLAB_BYTES)

    def publish(self, content: bytes | dict[str, bytes], version: int) -> dict[str, bytes]:
        source = self.folder / f"image{version}.bin"
        if isinstance(content, bytes):
            source.write_bytes(content)
        else:
            for name, body in content.items():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes(body)
        return repository_files(self.library, self.library.publish(source, PACKAGE, version))


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    found = Publisher(tmp_path / "publisher")
    yield found
    found.library.close()


def stored(site: Site) -> bytes:
    with open(site.library.open_blob(site.library.find(PACKAGE)), "rb") as file:
        return file.read()


def is_blob(asked: Asked) -> bool:
    return "/blobs/" in asked.path


def test_a_pull_brings_the_newest_and_what_is_here_costs_nothing(tmp_path: Path, publisher: Publisher) -> None:
    with Origin(publisher.publish(IMAGE, 3)) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        content = site.pull()
        assert (content.source_version, content.size_bytes) == (3, len(IMAGE))
        assert stored(site) == IMAGE
        assert site.library.damage(content) == []
        assert site.told[-1][0] == "content.pulled"
        assert site.moved_bytes() == len(IMAGE)
        before = len(origin.asked)
        assert site.pull(version=3) == content
        assert len(origin.asked) == before
        assert site.puller.stats.running == 0


def test_every_request_says_who_asks(tmp_path: Path, publisher: Publisher) -> None:
    with Origin(publisher.publish(IMAGE, 3)) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull(via=("f" * 32,))
        assert {each.headers["x-dpd-via"] for each in origin.asked} == {f"{'f' * 32}, {site.puller.own_id}"}


def test_a_tree_comes_over_several_connections_and_shared_files_once(tmp_path: Path, publisher: Publisher) -> None:
    rng = random.Random(2)
    tree = {f"sources/{n}/file{n}.cab": rng.randbytes(1000 + n) for n in range(60)}
    tree |= {"copy.cab": tree["sources/7/file7.cab"], "empty": b"", "big.bin": rng.randbytes(3 << 20)}
    with Origin(publisher.publish(tree, 1)) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        content = site.pull()
        for entry in site.library.files(content):
            descriptor, size = site.library.open_file(content, entry.path)
            with open(descriptor, "rb") as file:
                assert file.read() == tree[entry.path]
            assert size == entry.size_bytes
        assert content.file_count == 63
        assert len(origin.paths("/blobs/")) == len(set(origin.paths("/blobs/"))) == 61


# ---- sources that misbehave


def flip(asked: Asked, reply: Reply) -> None:
    """One byte of each blob is wrong."""
    if is_blob(asked) and len(reply.body) > 400_000:
        reply.body = reply.body[:400_000] + bytes([reply.body[400_000] ^ 1]) + reply.body[400_001:]


def forge_description(asked: Asked, reply: Reply) -> None:
    if asked.path.endswith("/description"):
        reply.body = reply.body.replace(b'"name":"image3.bin"', b'"name":"evil3.bin"')


def other_version(asked: Asked, reply: Reply) -> None:
    if asked.path.endswith("/newest"):
        reply.body = b'{"source_version":4}'
    if asked.path.endswith("/description"):
        reply.status = 200


def not_json(asked: Asked, reply: Reply) -> None:
    if asked.path.endswith("/description"):
        reply.body = b"<html>welcome to the hotel</html>"


def stall(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.hang = min(600_000, len(reply.body))


def stall_at_once(asked: Asked, reply: Reply) -> None:
    reply.hang = 0


def drip(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.drip = 0.05


def truncate(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.cut = min(700_000, len(reply.body))


def shorter(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.body = reply.body[:-1]


def missing_blobs(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.status, reply.body = 404, b""


def broken(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.status, reply.body = 500, b"oops"


def forbid(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.status, reply.body = 403, b"no"


def redirect(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.status, reply.body, reply.headers = 302, b"", {"Location": "http://169.254.169.254/secret"}


def compress(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.headers["Content-Encoding"] = "gzip"


def wrong_range(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.status, reply.headers["Content-Range"] = 206, "bytes 0-9/10"


def no_http(asked: Asked, reply: Reply) -> None:
    if is_blob(asked):
        reply.headers["Content-Length"] = "-5"


@pytest.mark.parametrize(
    ("misbehave", "outcome"),
    [
        (flip, "wrong_hash"),
        (forge_description, "wrong_hash"),
        (not_json, "wrong_hash"),
        (shorter, "wrong_hash"),
        (wrong_range, "wrong_hash"),
        (stall, "stalled"),
        (stall_at_once, "stalled"),
        (drip, "stalled"),
        (truncate, "truncated"),
        (missing_blobs, "not_found"),
        (broken, "unreachable"),
        (forbid, "refused"),
        (redirect, "refused"),
        (compress, "refused"),
        (no_http, "unreachable"),
    ],
)
def test_a_bad_source_is_told_and_the_next_one_asked(
    tmp_path: Path, publisher: Publisher, misbehave: object, outcome: str
) -> None:
    files = publisher.publish(IMAGE, 3)
    with Origin(files, misbehave) as bad, Origin(files) as good:  # type: ignore[arg-type]
        sources = (SourceSettings("bad", bad.url, 1), SourceSettings("good", good.url, 2))
        with opened(tmp_path / "site", sources) as site:
            site.pull(version=3)
            assert stored(site) == IMAGE
            assert set(site.outcomes()["bad"]) == {outcome}
            assert "good" not in site.outcomes()
            assert site.puller.stats.bytes_again <= SLAB_BYTES + READ_BYTES
            assert site.moved_bytes() <= len(IMAGE) + (2 << 20)  # what was on its way counts, too


@pytest.mark.parametrize("misbehave", [flip, forge_description, missing_blobs, redirect, shorter, broken])
def test_where_only_a_bad_source_is_there_nothing_becomes_content(
    tmp_path: Path, publisher: Publisher, misbehave: object
) -> None:
    with (
        Origin(publisher.publish(IMAGE, 3), misbehave) as bad,  # type: ignore[arg-type]
        opened(tmp_path / "site", {"bad": bad.url}) as site,
    ):
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="no source has it now: bad: "):
                site.pull()
        with pytest.raises(ContentNotFound):
            site.library.find(PACKAGE)
        assert site.library.contents() == []


def test_a_liar_without_a_manifest_is_found_out_by_the_whole_hash(tmp_path: Path, publisher: Publisher) -> None:
    files = publisher.publish(IMAGE, 3)
    del files[repository.manifest(PACKAGE, 3)]
    with Origin(files, flip) as bad, Origin(files) as good:
        sources = (SourceSettings("bad", bad.url, 1), SourceSettings("good", good.url, 2))
        with opened(tmp_path / "site", sources) as site:
            assert site.pull().slab_count == -(-len(IMAGE) // SLAB_BYTES)
            assert stored(site) == IMAGE
            assert site.outcomes() == {"bad": ["wrong_hash"]}
            assert site.moved_bytes() == 2 * len(IMAGE)
            assert site.puller.stats.bytes_again == len(IMAGE)


def test_a_liar_in_a_tree_convicts_itself_by_one_file(tmp_path: Path, publisher: Publisher) -> None:
    rng = random.Random(3)
    tree = {f"{n}.cab": rng.randbytes(2000) for n in range(30)}
    files = publisher.publish(tree, 1)

    def lie(asked: Asked, reply: Reply) -> None:
        if is_blob(asked):
            reply.body = bytes(len(reply.body))

    with Origin(files, lie) as bad, Origin(files) as good:
        sources = (SourceSettings("bad", bad.url, 1), SourceSettings("good", good.url, 2))
        with opened(tmp_path / "site", sources) as site:
            content = site.pull()
            assert site.library.damage(content) == []
            assert set(site.outcomes()) == {"bad"}
            assert len(bad.paths("/blobs/")) <= 4  # one for each connection


def test_two_sources_share_the_guilt_and_the_innocent_one_ends_it(tmp_path: Path, publisher: Publisher) -> None:
    """No manifest, the first source lies and breaks off, the second goes on: the whole is wrong, and each is tried alone."""
    files = publisher.publish(IMAGE, 3)
    del files[repository.manifest(PACKAGE, 3)]

    def lie_and_stop(asked: Asked, reply: Reply) -> None:
        flip(asked, reply)
        truncate(asked, reply)

    with Origin(files, lie_and_stop) as bad, Origin(files) as good:
        sources = (SourceSettings("bad", bad.url, 1), SourceSettings("good", good.url, 2))
        with opened(tmp_path / "site", sources) as site:
            site.pull()
            assert stored(site) == IMAGE
            assert "content.mixed" in [event for event, _ in site.told]
            assert "good" not in site.outcomes()


def test_liars_in_halves_of_slabs_keep_no_pull_for_ever(tmp_path: Path, publisher: Publisher) -> None:
    files = publisher.publish(IMAGE, 3)

    def lie_by_halves(asked: Asked, reply: Reply) -> None:
        if is_blob(asked):
            reply.body = bytes(len(reply.body))
            begin = asked.range[0] if asked.range else 0
            reply.cut = SLAB_BYTES // 2 if begin % SLAB_BYTES == 0 else None

    begun = time.monotonic()

    def impatient() -> None:
        assert time.monotonic() < begun + 15, "still pulling"

    with (
        Origin(files, lie_by_halves) as one,
        Origin(files, lie_by_halves) as other,
        opened(tmp_path / "site", {"one": one.url, "other": other.url}) as site,
    ):
        with pytest.raises(SourceUnavailable, match="no source has it now: "):
            site.puller.pull(PACKAGE, None, site.run(gate=impatient))
        with pytest.raises(ContentNotFound):
            site.library.find(PACKAGE)


def test_the_wrong_key_is_refused_and_forgotten_only_by_the_operator(tmp_path: Path, publisher: Publisher) -> None:
    other = Publisher(tmp_path / "other")
    with Origin(publisher.publish(IMAGE, 3)) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull()
        origin.files = other.publish(IMAGE[::-1], 4)
        other.library.close()
        with pytest.raises(SourceUnavailable, match="dpd source forget hq"):
            site.pull(version=4)
        assert [c.source_version for c in site.library.contents()] == [3]
        (source,) = site.puller.sources
        assert site.puller.keys.forget(source)
        assert site.pull(version=4).source_version == 4


def test_a_configured_key_counts_from_the_first_request(tmp_path: Path, publisher: Publisher) -> None:
    with Origin(publisher.publish(IMAGE, 3)) as origin:
        wrong = (SourceSettings("hq", origin.url, public_key="ab" * 32),)
        with opened(tmp_path / "site", wrong) as site, pytest.raises(SourceUnavailable, match="configured is abab"):
            site.pull()
        right = (SourceSettings("hq", origin.url, public_key=publisher.library.public_key().hex()),)
        with opened(tmp_path / "site", right) as site:
            site.pull()
            assert repository.IDENTITY not in origin.paths()


def test_a_description_of_another_package_is_a_lie(tmp_path: Path, publisher: Publisher) -> None:
    files = publisher.publish(IMAGE, 3)
    files[repository.description(PACKAGE, 2)] = files[repository.description(PACKAGE, 3)]
    with (
        Origin(files) as origin,
        opened(tmp_path / "site", {"hq": origin.url}) as site,
        pytest.raises(
            SourceUnavailable, match=r"gave the description of LAB00001 version 3 for that of LAB00001 version 2"
        ),
    ):
        site.pull(version=2)


def test_no_source_at_all_says_what_to_write(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "site", {}) as site,
        pytest.raises(SourceUnavailable, match=r"add \[\[distribution.source\]\]"),
    ):
        site.pull()


def test_a_source_that_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "site", {"hq": "http://127.0.0.1:1"}) as site,
        pytest.raises(SourceUnavailable, match="hq: Connection refused"),
    ):
        site.pull()


def test_equals_are_asked_in_random_order_and_the_newest_of_them_counts(tmp_path: Path, publisher: Publisher) -> None:
    old, new = publisher.publish(IMAGE, 3), publisher.publish(IMAGE[:-5], 4)
    with Origin(dict(old)) as first, Origin(old | new) as second, Origin(dict(old)) as far:
        first.files[repository.newest(PACKAGE)] = repository.encode_newest(3)
        far.files[repository.newest(PACKAGE)] = repository.encode_newest(9)
        sources = (
            SourceSettings("a", first.url),
            SourceSettings("b", second.url),
            SourceSettings("far", far.url, 2),
        )
        with opened(tmp_path / "site", sources) as site:
            assert site.pull().source_version == 4
            assert far.asked == []
        firsts = set()
        for seed in range(12):
            with opened(tmp_path / f"site{seed}", sources) as site:
                site.puller._rng = random.Random(seed)
                site.pull(version=3)
                firsts.add(next(name for name, o in (("a", first), ("b", second)) if o.paths("/blobs/")))
                first.asked.clear()
                second.asked.clear()
        assert firsts == {"a", "b"}


# ---- on with what is here


def test_a_pull_that_was_stopped_goes_on_where_it_was(tmp_path: Path, publisher: Publisher) -> None:
    """It flows without a pause: the stop is noticed all the same."""
    with Origin(publisher.publish(IMAGE, 3)) as origin:
        with opened(tmp_path / "site", {"hq": origin.url}) as site:

            def stop() -> None:
                if site.moved_bytes() >= 2 << 20:
                    raise JobPostponed("the hour is over")

            with pytest.raises(JobPostponed):
                site.puller.pull(PACKAGE, None, site.run(gate=stop))
            first = site.moved_bytes()
            assert 2 << 20 <= first <= (2 << 20) + READ_BYTES
        with opened(tmp_path / "site", {"hq": origin.url}) as site:
            site.pull()
            assert stored(site) == IMAGE
            assert first + site.moved_bytes() <= len(IMAGE) + SLAB_BYTES


def test_a_server_without_ranges_sends_all_again_and_the_front_is_dropped(tmp_path: Path, publisher: Publisher) -> None:
    def once(asked: Asked, reply: Reply) -> None:
        if is_blob(asked) and len([each for each in origin.asked if is_blob(each)]) == 1:
            reply.cut = 3 << 20

    with (
        Origin(publisher.publish(IMAGE, 3), once, ranges=False) as origin,
        opened(tmp_path / "site", {"hq": origin.url}) as site,
    ):
        site.pull()
        assert stored(site) == IMAGE
        assert site.moved_bytes() == len(IMAGE)
        assert origin.sent_bytes > len(IMAGE) + (3 << 20)


def changed(content: bytes, places: list[int], length: int, seed: int = 9) -> bytes:
    rng, found = random.Random(seed), bytearray(content)
    for place in places:
        found[place : place + length] = rng.randbytes(length)
    return bytes(found)


def test_a_new_version_moves_what_changed(tmp_path: Path, publisher: Publisher) -> None:
    """1.2 times the changed bytes, beside the chunks that a change cuts: at most two of 64 KiB on average for each."""
    image = random.Random(4).randbytes(24 << 20)
    newer = changed(image, [3 << 20, 11 << 20], 1 << 20)
    newer = newer[: 6 << 20] + b"inserted" * 100 + newer[6 << 20 :]
    files = publisher.publish(image, 1)
    with Origin(files) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull()
        before = site.moved_bytes()
        origin.files = files | publisher.publish(newer, 2)
        site.pull()
        assert stored(site) == newer
        moved = site.moved_bytes() - before
        assert moved <= 1.2 * (2 << 20) + 3 * 256 * 1024, moved
        assert site.puller.stats.bytes_reused >= len(newer) - moved
        assert site.library.damage(site.library.find(PACKAGE)) == []


@pytest.mark.parametrize("with_manifest", [True, False])
def test_an_index_that_lies_costs_bytes_and_nothing_else(
    tmp_path: Path, publisher: Publisher, with_manifest: bool
) -> None:
    """It says that the new version is the old one."""
    image = random.Random(5).randbytes(4 << 20)
    newer = changed(image, [1 << 20], 1 << 18)
    files = publisher.publish(image, 1)
    old_index = files[repository.chunks(hashlib.sha256(image).hexdigest())]
    with Origin(files) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull()
        origin.files = files | publisher.publish(newer, 2)
        origin.files[repository.chunks(hashlib.sha256(newer).hexdigest())] = old_index
        if not with_manifest:
            del origin.files[repository.manifest(PACKAGE, 2)]
        site.pull()
        assert stored(site) == newer
        events = [event for event, _ in site.told]
        assert ("content.delta_failed" if with_manifest else "content.mixed") in events


def test_a_source_without_ranges_gives_no_delta_but_the_whole(tmp_path: Path, publisher: Publisher) -> None:
    image = random.Random(6).randbytes(4 << 20)
    newer = changed(image, [1 << 20], 1 << 18)
    files = publisher.publish(image, 1)
    with Origin(files, ranges=False) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull()
        origin.files = files | publisher.publish(newer, 2)
        site.pull()
        assert stored(site) == newer
        assert site.outcomes() == {"hq": ["no_ranges"]}


def test_without_an_index_the_whole_comes_and_nothing_is_said(tmp_path: Path, publisher: Publisher) -> None:
    image = random.Random(8).randbytes(2 << 20)
    newer = changed(image, [1 << 20], 1000)
    files = publisher.publish(image, 1)
    with Origin(files) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.pull()
        origin.files = files | publisher.publish(newer, 2)
        del origin.files[repository.chunks(hashlib.sha256(newer).hexdigest())]
        site.pull()
        assert stored(site) == newer
        assert site.outcomes() == {}


def test_the_ceiling_holds_over_a_whole_pull(tmp_path: Path, publisher: Publisher) -> None:
    with Origin(publisher.publish(IMAGE, 3)) as origin, opened(tmp_path / "site", {"hq": origin.url}) as site:
        site.rate_bit_s = 24e6
        site.limit.rate_changed()
        begun = time.monotonic()
        site.pull()
        seconds = time.monotonic() - begun
        assert len(IMAGE) * 8 / seconds <= 24e6 * 1.15
