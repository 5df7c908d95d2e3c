# SPDX-License-Identifier: Apache-2.0
"""The settings of content: the tables [library] and [distribution], and the tables in them.

Hours of the week are written as `DAYS HH-HH`, such as "mon-fri 08-18" or "sat,sun 00-24"; a later line wins over an
earlier one, and hours that no line names are as if there were no line at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from dpd import setting_rules as rules
from dpd.urls import has_secrets

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GRID_CLASSES = ("open", "medium-and-high", "high-only", "closed")
_DAY = "|".join(DAYS)
_HOURS = rf"(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)* (?:[01]\d|2[0-3])-(?:[01]\d|2[0-4])"
HOURS_LINE = re.compile(rf"({_HOURS}) (\S+)")
VALIDATION_LINE = re.compile(rf"(daily|{_DAY}) ([01]\d|2[0-3]):([0-5]\d)")


def _is_grid_line(value: str) -> bool:
    line = HOURS_LINE.fullmatch(value)
    return line is not None and line[2] in GRID_CLASSES


def _is_rate_line(value: str) -> bool:
    line = HOURS_LINE.fullmatch(value)
    return line is not None and re.fullmatch(r"\d{1,6}(\.\d{1,3})?", line[2]) is not None


def _is_zone(value: str) -> bool:
    try:
        ZoneInfo(value)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, but odd names raise these
        return False
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """[library]: what is kept, and how it is looked after. Its folders are managed by `dpd root`."""

    keep_versions: int = rules.number(1, 1, 1000, "versions of a package that an update leaves")
    chunk_index: bool = rules.flag(True)
    validate: tuple[str, ...] = rules.key(
        ("sun 02:00",),
        'a list of times such as "sun 02:00" or "daily 23:30"; empty means never',
        lambda lines: all(VALIDATION_LINE.fullmatch(line) for line in lines),
    )
    repair: bool = rules.flag(True)


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """[[distribution.source]]: where content is pulled from. Lower priority numbers are asked first, equals in random order."""

    name: str = rules.text(
        "", "1 to 64 of [A-Za-z0-9._-]", lambda v: re.fullmatch(r"[A-Za-z0-9._-]{1,64}", v) is not None
    )
    url: str = rules.text(
        "",
        'a URL such as "http://dp1.example:8080", "https://mirror.example/dpd" or "s3://bucket/prefix", without a name, password or token in it; what S3 needs stands in credentials_file',
        lambda v: re.fullmatch(r"(https?|s3)://[^\s/]\S*", v) is not None and not has_secrets(v),
    )
    priority: int = rules.number(1, 1, 1000)
    public_key: str = rules.text(
        "",
        '"" (pinned at first use) or 64 hexadecimal digits',
        lambda v: v == "" or re.fullmatch(r"[0-9a-f]{64}", v) is not None,
    )
    ca_file: str = rules.optional_path("a PEM file with the authority of its certificate")
    endpoint: str = rules.text(
        "",
        '"" (that of the provider) or the URL of an S3-compatible server, without a name, password or token in it',
        lambda v: not has_secrets(v),
    )
    region: str = rules.text("us-east-1", "a region")
    credentials_file: str = rules.optional_path("a TOML file with access_key_id and secret_access_key")


@dataclass(frozen=True, slots=True)
class DistributionSettings:
    """[distribution]: how content comes here from other places."""

    source: tuple[SourceSettings, ...] = rules.key(
        (), "tables [[distribution.source]]", lambda sources: len({each.name for each in sources}) == len(sources)
    )
    fetch_on_miss: bool = rules.flag(False)
    concurrent_jobs: int = rules.number(3, 1, 32, "jobs at once", live=False)
    retry_interval_s: float = rules.number(
        60.0, 1, 86400, "seconds before the first retry; doubles each time, to an hour"
    )
    attempts: int = rules.number(30, 1, 10000, "tries of a job before it has failed")
    stall_timeout_s: float = rules.number(30.0, 1, 3600, "seconds without a byte before the next source is asked")
    rate_mbit_s: float = rules.number(0.0, 0, 400000, "Mbit/s of all pulls together; 0 means no ceiling")
    time_zone: str = rules.text("UTC", 'a time zone such as "Europe/Berlin"', _is_zone)
    schedule: tuple[str, ...] = rules.key(
        (),
        'a list of hours and a class, such as "mon-fri 08-18 high-only"; classes: ' + ", ".join(GRID_CLASSES),
        lambda lines: all(map(_is_grid_line, lines)),
    )
    rates: tuple[str, ...] = rules.key(
        (),
        'a list of hours and Mbit/s, such as "mon-fri 08-18 50"; 0 means no ceiling',
        lambda lines: all(map(_is_rate_line, lines)),
    )
