# SPDX-License-Identifier: Apache-2.0
"""The settings of content."""

from __future__ import annotations

import pytest

from dpd.errors import SettingsError
from dpd.settings import parse_settings

SOURCE = '[[distribution.source]]\nname = "hq"\nurl = "{}"\n'


@pytest.mark.parametrize("url", ["http://10.1.0.2:8080", "https://mirror.example/dpd", "s3://bucket/prefix"])
def test_sources_are_tables(url: str) -> None:
    (source,) = parse_settings(SOURCE.format(url), "dpd.toml").distribution.source
    assert (source.name, source.url, source.priority, source.public_key) == ("hq", url, 1, "")


def test_hours_of_the_week_are_taken_as_they_are_written() -> None:
    text = '[distribution]\nschedule = ["mon-fri,sun 08-18 high-only"]\nrates = ["sat 00-24 12.5"]\ntime_zone = "Europe/Berlin"\n'
    distribution = parse_settings(text, "dpd.toml").distribution
    assert distribution.schedule == ("mon-fri,sun 08-18 high-only",)
    assert distribution.rates == ("sat 00-24 12.5",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SOURCE.format("ftp://host/"), 'distribution.source[0].url = "ftp://host/": expected a URL such as'),
        (SOURCE.format("http://a") * 2, "expected tables [[distribution.source]]"),
        ('[distribution]\nschedule = ["mon-fri 08-18 sometimes"]', "expected a list of hours and a class"),
        ('[distribution]\nschedule = ["mon-fri 08-25 open"]', "expected a list of hours and a class"),
        ('[distribution]\nrates = ["mon-fri 08-18 fast"]', "expected a list of hours and Mbit/s"),
        ('[distribution]\ntime_zone = "Mars/Olympus"', 'expected a time zone such as "Europe/Berlin"'),
        ('[distribution]\ntime_zone = "../../etc/passwd"', 'expected a time zone such as "Europe/Berlin"'),
        ('[library]\nvalidate = ["noon"]', 'expected a list of times such as "sun 02:00"'),
        ("[library]\nkeep_versions = 0", "expected a whole number from 1 to 1000"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "dpd.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (SOURCE.format("https://bea:hunter2@mirror.example/dpd"), "url"),
        (SOURCE.format("https://hunter2@mirror.example/dpd"), "url"),
        (SOURCE.format("https://mirror.example/dpd?token=hunter2"), "url"),
        (SOURCE.format("https://mirror.example/dpd#hunter2"), "url"),
        (SOURCE.format("s3://AKIA:hunter2@bucket/prefix"), "url"),
        (SOURCE.format("s3://bucket") + 'endpoint = "https://AKIA:hunter2@minio.example"', "endpoint"),
    ],
)
def test_a_source_with_a_password_or_token_in_its_url_is_refused_without_repeating_it(lines: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(lines, "dpd.toml")
    assert str(caught.value).startswith(f'dpd.toml: distribution.source[0].{key} = "')
    assert "without a name, password or token in it" in str(caught.value)
    assert "hunter2" not in str(caught.value)
