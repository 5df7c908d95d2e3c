# SPDX-License-Identifier: Apache-2.0
"""The settings of deployments under way."""

from __future__ import annotations

import pytest

from dpd.errors import SettingsError
from dpd.settings import compare_settings, parse_settings


def test_captures_have_room_unless_it_is_taken_and_a_reload_may_change_it() -> None:
    before, after = parse_settings("", "dpd.toml"), parse_settings("[deployment]\ncapture_quota_gib = 0\n", "dpd.toml")
    assert (before.deployment.capture_quota_gib, after.deployment.capture_quota_gib) == (100, 0)
    (change,) = compare_settings(before, after)
    assert (change.key, change.live) == ("deployment.capture_quota_gib", True)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(SettingsError, match=r"deployment\.capture_quota_gib = -1: expected"):
        parse_settings("[deployment]\ncapture_quota_gib = -1\n", "dpd.toml")
