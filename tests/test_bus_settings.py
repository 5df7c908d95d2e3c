# SPDX-License-Identifier: Apache-2.0
"""The settings of a site of many points."""

from __future__ import annotations

import pytest

from dpd.errors import SettingsError
from dpd.settings import parse_settings


def test_an_empty_file_has_no_bus_and_no_page() -> None:
    settings = parse_settings("", "dpd.toml")
    assert (settings.bus.url, settings.console.listen, settings.site.high_risk_computers) == ("", "", 100)


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", "tls://hub.example"])
def test_the_bus_is_a_nats_server(url: str) -> None:
    assert parse_settings(f'[bus]\nurl = "{url}"\n', "dpd.toml").bus.url == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[bus]\nurl = "nats://user:secret@hub"\n', 'bus.url = "nats://…@hub": expected'),
        ('[bus]\npoint = "a.b"\n', 'bus.point = "a.b": expected'),
        ('[site]\naffinity_mode = "yes"\n', 'site.affinity_mode = "yes": expected one of "none"'),
    ],
)
def test_what_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=r"dpd\.toml: ") as raised:
        parse_settings(text, "dpd.toml")
    assert message in str(raised.value)
