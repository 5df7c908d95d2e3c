# SPDX-License-Identifier: Apache-2.0
"""Sessions of targets: opened by their secret, bounded in number and time."""

from __future__ import annotations

import pytest

from dpd.deployment import target_sessions
from dpd.deployment.target_sessions import TargetSession, TargetSessions
from dpd.errors import TargetRefused

PC1 = TargetSession("pc1", "PC1", "52:54:00:00:00:01", 100.0)


def test_a_session_is_found_by_its_secret_until_its_time_is_over() -> None:
    sessions = TargetSessions()
    secret = sessions.open(PC1)
    assert sessions.find(secret, 99.9) is PC1
    for wrong in ("", secret[:-1], secret.upper(), "ü"):
        with pytest.raises(TargetRefused, match="/target/resume"):
            sessions.find(wrong, 0.0)
    with pytest.raises(TargetRefused):
        sessions.find(secret, 100.0)
    assert len(sessions) == 0


def test_a_boot_has_one_session_whatever_is_asked_again() -> None:
    sessions = TargetSessions()
    secret = sessions.open_once("t1", PC1)
    assert sessions.open_once("t1", TargetSession("pc1", "PC1", "52:54:00:00:00:01", 200.0)) == secret
    assert sessions.find(secret, 0.0) is PC1
    assert sessions.open_once("t2", PC1) != secret


def test_the_ones_heard_of_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_sessions, "CAPACITY", 3)
    sessions = TargetSessions()
    first, *others = (sessions.open_once(str(number), PC1) for number in range(3))
    sessions.find(first, 0.0)
    sessions.open_once("another", PC1)
    assert len(sessions) == 3
    assert sessions.find(first, 0.0) is PC1
    with pytest.raises(TargetRefused):
        sessions.find(others[0], 0.0)


def test_no_text_of_a_session_shows_what_was_taken() -> None:
    assert "lock" not in repr(PC1)
