# SPDX-License-Identifier: Apache-2.0
"""Who is asked for a damaged blob: files of this machine first, then real web servers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.distribution.job_room import Told
from tests.distribution.stocked import SLAB_BYTES, blob_path, open_library, publish_image
from tests.distribution.web import Web, served

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.bundles.plan import plan
from dpd.distribution.bundles.repository_folder import RepositoryFolder
from dpd.distribution.pulling.http_source import HttpSource
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Source, Terms
from dpd.distribution.validation.origins import RepairOrigins
from dpd.distribution.validation.repair import Repair
from dpd.errors import ContentCorrupt, SourceUnavailable


class Site:
    """A library, and origins of which a test may say the sources."""

    def __init__(self, library: Library, place: Path) -> None:
        self.library, self.place = library, place
        self.sources: list[Source] = []
        self.stats, self.told = PullStats(), Told()
        self.origins = RepairOrigins(
            library,
            lambda: self.sources,
            lambda check: Terms(check, RateLimit(lambda: math.inf), 5.0),
            self.stats,
            self.told,
            random.Random(1),
        )
        self.repair = Repair(library, self.origins)

    def mend(self, content: Content) -> tuple[str, int]:
        (damage,) = self.library.damage(content)
        mended = self.repair.mend(content, damage, lambda: None)
        self.library.verify(content.package_id)
        return mended.origin, mended.fetched_bytes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_library(tmp_path / "library") as library:
        yield Site(library, tmp_path / "library")


@pytest.fixture
def image(site: Site, tmp_path: Path) -> Content:
    return publish_image(site.library, tmp_path)


@pytest.fixture
def web(site: Site, image: Content, tmp_path: Path) -> Iterator[Web]:
    """A static copy of the library."""
    folder = tmp_path / "web"
    RepositoryFolder(folder, lambda done, total: None, lambda: None).write(plan(site.library, [image]))
    with served(folder) as web:
        yield web


def harm(site: Site, content: Content, offset: int = 3 * SLAB_BYTES) -> None:
    path = blob_path(site.place, content.sha256)
    changed = bytearray(path.read_bytes())
    changed[offset] ^= 1
    path.write_bytes(changed)


def test_a_slab_comes_from_a_web_server(site: Site, image: Content, web: Web) -> None:
    site.sources = [HttpSource("mirror", web.url)]
    harm(site, image)
    assert site.mend(image) == ("mirror", SLAB_BYTES)
    assert web.asked == [
        (f"/repository/v1/blobs/{image.sha256}", f"bytes={3 * SLAB_BYTES}-{4 * SLAB_BYTES - 1}"),
    ]
    assert (site.stats.bytes, site.stats.requests) == ({"dpd": SLAB_BYTES}, {"ok": 1})


def test_a_source_that_lies_is_told_and_the_next_is_asked(site: Site, image: Content, web: Web, tmp_path: Path) -> None:
    with served(web.folder) as liar:
        liar.lies = True
        site.sources = [HttpSource("liar", liar.url, priority=1), HttpSource("mirror", web.url, priority=2)]
        harm(site, image)
        assert site.mend(image) == ("mirror", SLAB_BYTES)
    assert site.stats.requests == {"ok": 1, "wrong_hash": 1}
    (lied,) = [fields for event, fields in site.told.events if event == "source.lied"]
    assert lied["source"] == "liar"
    assert "slab 3" in str(lied["why"])


def test_a_source_without_it_is_no_hope_and_one_that_is_down_is(site: Site, image: Content, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    harm(site, image)
    with served(tmp_path / "empty") as empty:
        site.sources = [HttpSource("empty", empty.url)]
        with pytest.raises(ContentCorrupt, match="nobody has it: empty: "):
            site.mend(image)
    with pytest.raises(SourceUnavailable, match="cannot be mended now: empty: "):
        site.mend(image)  # now nobody listens there
    assert site.stats.requests == {"not_found": 1, "unreachable": 1}


def test_a_copy_in_another_root_is_asked_first(site: Site, image: Content, tmp_path: Path) -> None:
    """As an operator puts it there out of a backup."""
    site.library.add_root(tmp_path / "root", 0)
    copy = blob_path(tmp_path / "root", image.sha256)
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(blob_path(site.place, image.sha256).read_bytes())
    harm(site, image)
    assert site.mend(image) == (str(copy), SLAB_BYTES)


def test_the_damaged_file_itself_is_no_origin(site: Site, image: Content) -> None:
    harm(site, image)
    with closing(site.origins(image.sha256, lambda: None)) as origins:
        assert list(origins) == []
