# SPDX-License-Identifier: Apache-2.0
"""Secrets by which machines go on: kept over a restart as their hashes."""

from __future__ import annotations

from pathlib import Path

from dpd.deployment.resume_book import KEPT_S, Place, ResumeBook

PLACE = Place("00ff00ff00ff00ff", "pc1", "PC1", "52:54:00:00:00:01", 7, 7200.0)


def test_a_place_is_found_by_its_secret_alone_also_after_a_restart(tmp_path: Path) -> None:
    book = ResumeBook(tmp_path / "resumes.db")
    secret = book.keep(PLACE, 0.0)
    other = book.keep(Place("11ff00ff00ff00ff", "pc2", "PC2", "52:54:00:00:00:02", 7, 7200.0), 0.0)
    book.close()
    again = ResumeBook(tmp_path / "resumes.db")
    assert again.find(PLACE.execution, secret) == PLACE
    assert again.find(PLACE.execution, other) is None
    assert again.find(PLACE.execution, "") is None
    assert again.find("nothing", secret) is None
    again.close()


def test_the_secret_is_not_in_the_file(tmp_path: Path) -> None:
    book = ResumeBook(tmp_path / "resumes.db")
    secret = book.keep(PLACE, 0.0)
    book.close()
    kept = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert secret.encode() not in kept
    assert bytes.fromhex(secret) not in kept


def test_places_go_when_their_time_is_long_over(tmp_path: Path) -> None:
    book = ResumeBook(tmp_path / "resumes.db")
    secret = book.keep(PLACE, 0.0)
    book.keep(Place("11ff00ff00ff00ff", "pc2", "PC2", "52:54:00:00:00:02", 7, 1e9), PLACE.ends_by + KEPT_S)
    assert book.find(PLACE.execution, secret) == PLACE
    book.keep(Place("22ff00ff00ff00ff", "pc3", "PC3", "52:54:00:00:00:03", 7, 1e9), PLACE.ends_by + KEPT_S + 1)
    assert book.find(PLACE.execution, secret) is None
    book.close()
