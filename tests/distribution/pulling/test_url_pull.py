# SPDX-License-Identifier: Apache-2.0
"""A file at a plain URL with a SHA-256: pulled, described by itself, refused where the hash is another."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest
from tests.content.wim_builder import make_wim
from tests.distribution.origin import SLAB_BYTES, Asked, Misbehave, Origin, Reply, opened

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.errors import ContentError, ContentNotFound, JobError, SourceUnavailable

IMAGE = random.Random(1).randbytes((2 << 20) + 5)
DIGEST = sha256(IMAGE).hexdigest()


def test_a_raw_file_becomes_content_with_a_manifest(tmp_path: Path) -> None:
    with Origin({"files/debian%2012.img": IMAGE}) as origin, opened(tmp_path / "site", {}) as site:
        url = f"{origin.url}/files/debian%2012.img"
        content = site.pull("DEB12", url=url, sha256=DIGEST)
        assert (content.source_version, content.kind, content.format) == (1, ContentKind.FILE, ContentFormat.RAW)
        assert (content.name, content.sha256) == ("debian_12.img", DIGEST)
        assert content.slab_count == -(-len(IMAGE) // SLAB_BYTES)
        assert site.library.damage(content) == []
        assert site.puller.stats.bytes == {"http": len(IMAGE)}
        assert site.pull("DEB12", url=url, sha256=DIGEST) == content
        assert site.puller.stats.bytes == {"http": len(IMAGE)}


def test_another_file_is_the_next_version(tmp_path: Path) -> None:
    with Origin({"a": IMAGE, "b": IMAGE[:-1]}) as origin, opened(tmp_path / "site", {}) as site:
        site.pull("P", url=f"{origin.url}/a", sha256=DIGEST)
        second = site.pull("P", url=f"{origin.url}/b", sha256=sha256(IMAGE[:-1]).hexdigest())
        assert second.source_version == 2


def test_other_bytes_are_refused_and_told(tmp_path: Path) -> None:
    with Origin({"a": IMAGE[::-1]}) as origin, opened(tmp_path / "site", {}) as site:
        with pytest.raises(SourceUnavailable, match="SHA-256"):
            site.pull("P", url=f"{origin.url}/a", sha256=DIGEST)
        assert site.outcomes() == {"127.0.0.1": ["wrong_hash"]}
        with pytest.raises(ContentNotFound):
            site.library.find("P")


def test_a_wim_tells_its_images_before_it_comes(tmp_path: Path) -> None:
    image = make_wim()
    with Origin({"install.wim": image}) as origin, opened(tmp_path / "site", {}) as site:
        content = site.pull("WIN", url=f"{origin.url}/install.wim", sha256=sha256(image).hexdigest())
        published = site.library.publish(_written(tmp_path / "install.wim", image), "WIN2")
        assert (content.kind, content.format) == (ContentKind.OS_IMAGE, ContentFormat.WIM)
        assert content.images == published.images != ()
        assert content.tags == published.tags
        assert [each.range is not None for each in origin.asked].count(True) >= 2


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def redirect_to(place: str, times: int = 1) -> object:
    left = [times]

    def misbehave(asked: Asked, reply: Reply) -> None:
        if asked.path == "start":
            reply.status, reply.body, reply.headers = 302, b"", {"Location": place}
        elif asked.path == "again" and left[0]:
            reply.status, reply.body, reply.headers = 307, b"", {"Location": "again"}
            left[0] -= times < 100

    return misbehave


def test_redirects_are_followed_also_to_another_server(tmp_path: Path) -> None:
    with Origin({"a": IMAGE}) as mirror, Origin({"start": b""}) as origin, opened(tmp_path / "site", {}) as site:
        origin.misbehave = redirect_to(f"{mirror.url}/a")  # type: ignore[assignment]
        content = site.pull("P", url=f"{origin.url}/start", sha256=DIGEST)
        assert content.size_bytes == len(IMAGE)
        assert content.name == "start"


def test_redirects_without_end_are_refused(tmp_path: Path) -> None:
    with Origin({"again": b"", "start": b""}, redirect_to("/again", 100)) as origin:  # type: ignore[arg-type]
        with (
            opened(tmp_path / "site", {}) as site,
            pytest.raises(SourceUnavailable, match="redirects without end"),
        ):
            site.pull("P", url=f"{origin.url}/start", sha256=DIGEST)
        assert len(origin.asked) == 6


def test_a_file_that_changes_under_the_pull_is_told_and_not_mixed(tmp_path: Path) -> None:
    def change(asked: Asked, reply: Reply) -> None:
        count = len(origin.asked)
        reply.headers["ETag"] = '"one"' if count <= 2 else '"two"'
        if count == 2:
            reply.cut = 1 << 20
        if count > 2:
            reply.body = reply.body[::-1]

    with Origin({"a": IMAGE}, change) as origin, opened(tmp_path / "site", {}) as site:
        with pytest.raises(SourceUnavailable, match="has been replaced while it was pulled"):
            site.pull("P", url=f"{origin.url}/a", sha256=DIGEST)
        assert "changed" in site.outcomes()["127.0.0.1"]
        assert site.library.contents() == []
        origin.misbehave = lambda asked, reply: None
        site.pull("P", url=f"{origin.url}/a", sha256=DIGEST)


def test_a_server_without_ranges_gives_the_file_all_the_same(tmp_path: Path) -> None:
    with Origin({"a": IMAGE}, ranges=False) as origin, opened(tmp_path / "site", {}) as site:
        assert site.pull("P", url=f"{origin.url}/a", sha256=DIGEST).size_bytes == len(IMAGE)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"url": "ftp://x/y", "sha256": DIGEST}, JobError, "expected one that begins with http"),
        ({"url": "http://x/y", "sha256": "abc"}, JobError, "expected the 64 hexadecimal digits"),
        ({"url": "http://x/y"}, JobError, "sha256sum"),
        ({"url": "http://[::1/y", "sha256": DIGEST}, JobError, "Invalid IPv6 URL"),
        ({"url": "http://x:port/y", "sha256": DIGEST}, JobError, "expected a port from 1 to 65535"),
        (
            {"url": "http://u:p@127.0.0.1/y", "sha256": DIGEST},
            JobError,
            '^url "http://…@127.0.0.1/y": http://…@127.0.0.1: names',
        ),
        ({"url": "http://127.0.0.1:1/y", "sha256": DIGEST}, SourceUnavailable, "Connection refused"),
        (
            {"url": "https://127.0.0.1:1/y", "sha256": DIGEST, "ca_file": "/no/such"},
            SourceUnavailable,
            "ca_file /no/such: cannot be read",
        ),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, options: dict[str, str], error: type[Exception], words: str) -> None:
    with opened(tmp_path / "site", {}) as site, pytest.raises(error, match=words):
        site.puller.pull("P", None, site.run("P", options=options))


def test_a_part_of_a_split_wim_is_refused(tmp_path: Path) -> None:
    image = make_wim(part=(1, 2))
    with (
        Origin({"install.swm": image}) as origin,
        opened(tmp_path / "site", {}) as site,
        pytest.raises(ContentError, match="part 1 of a WIM split into 2"),
    ):
        site.pull("P", url=f"{origin.url}/install.swm", sha256=sha256(image).hexdigest())


def forbid(asked: Asked, reply: Reply) -> None:
    reply.status, reply.body = 403, b"no"


def send_away(asked: Asked, reply: Reply) -> None:
    reply.status, reply.headers["Location"] = 302, "ftp://elsewhere/f?sig=SECRET"


def send_round(asked: Asked, reply: Reply) -> None:
    reply.status, reply.headers["Location"] = 302, "?token=SECRET2"


@pytest.mark.parametrize("misbehave", [forbid, send_away, send_round])
def test_a_token_in_a_url_goes_into_no_message(tmp_path: Path, misbehave: Misbehave) -> None:
    with Origin({"f?token=SECRET": IMAGE}, misbehave) as origin, opened(tmp_path / "site", {}) as site:
        with pytest.raises(SourceUnavailable) as caught:
            site.pull("P", url=f"{origin.url}/f?token=SECRET", sha256=DIGEST)
        assert f"{origin.url}/f?…" in str(caught.value)
        assert "SECRET" not in str(caught.value) + str(site.told)
        assert site.told
