# SPDX-License-Identifier: Apache-2.0
"""A process that is killed while it applies a declaration leaves the old site or the new one, and never parts of both."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.control.declared_sites import declare, export

from dpd.site.store import SiteStore

ROOT = Path(__file__).resolve().parents[2]
A, B = declare("a", 30, 3), declare("b", 40, 4)


def apply(place: Path, text: str, *, killed_at: int) -> subprocess.CompletedProcess[str]:
    (place / "site.toml").write_text(text)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "tests.control.declared_sites",
        place / "site.db",
        place / "site.toml",
        str(killed_at),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str, int]:
    """A store with site A, its export, that of site B, and how many statements lead from one to the other."""
    old, new = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    for place in (old, new):
        assert apply(place, A, killed_at=0).returncode == 0
    whole = apply(new, B, killed_at=0)
    assert whole.returncode == 0, whole.stderr
    return old / "site.db", export(old / "site.db"), export(new / "site.db"), int(whole.stdout)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.95, 1.0])
def test_a_kill_at_any_statement_leaves_the_old_site_or_the_new_one(
    sites: tuple[Path, str, str, int], tmp_path: Path, share: float
) -> None:
    origin, old, new, statements = sites
    assert statements > 100
    assert old != new
    (tmp_path / "site.db").write_bytes(origin.read_bytes())
    killed = apply(tmp_path, B, killed_at=max(1, int(statements * share)))
    assert killed.returncode == -signal.SIGKILL
    left = export(tmp_path / "site.db")
    assert left in (old, new)
    store = SiteStore(tmp_path / "site.db")
    (entry,) = store.audit(1)
    assert entry.policy_version == store.policy_version == (1 if left == old else 2)
    assert ("added computer b-00000" in entry.detail) == (left == new)
    store.close()
    again = apply(tmp_path, B, killed_at=0)
    assert again.returncode == 0, again.stderr
    assert export(tmp_path / "site.db") == new
