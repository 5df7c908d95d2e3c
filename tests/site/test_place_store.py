# SPDX-License-Identifier: Apache-2.0
"""Points and boundaries of the site store."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.site.records import Boundary, Point, SiteConflict, SiteNotFound
from dpd.site.store import SiteStore


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    return SiteStore(tmp_path / "site.db")


def reopened(store: SiteStore, tmp_path: Path) -> SiteStore:
    store.close()
    return SiteStore(tmp_path / "site.db")


def test_boundaries_name_points_that_are_there(store: SiteStore, tmp_path: Path) -> None:
    with pytest.raises(SiteNotFound, match=r"boundary 10\.0\.0\.0/8: no point hq"):
        store.add_boundary(Boundary("10.0.0.0/8", ("hq",)), "alice")
    store.add_point(Point("hq", ("north",)), "alice")
    store.add_point(Point("branch"), "alice")
    store.add_boundary(Boundary("10.0.0.0/8", ("HQ", "branch")), "alice")
    with pytest.raises(SiteConflict, match="is there already"):
        store.add_boundary(Boundary("10.0.0.0/8", ("hq",)), "alice")
    with pytest.raises(SiteConflict, match=r"point branch: boundary 10\.0\.0\.0/8 names it"):
        store.remove_point("branch", "alice")
    store.change_boundary(Boundary("10.0.0.0/8", ("hq",), "all of it"), "alice")
    store.remove_point("branch", "alice")
    store.change_point(Point("HQ", ("south",)), "alice")
    with pytest.raises(SiteNotFound, match="no point branch"):
        store.change_point(Point("branch"), "alice")
    again = reopened(store, tmp_path)
    assert again.points == {"hq": Point("hq", ("south",))}
    assert again.points_for("10.1.2.3") == ("hq",)
    assert again.remove_boundary("10.0.0.0/8", "alice").description == "all of it"
    assert again.points_for("10.1.2.3") == ()
    with pytest.raises(SiteNotFound, match="no boundary"):
        again.remove_boundary("10.0.0.0/8", "alice")
    again.close()
