# SPDX-License-Identifier: Apache-2.0
"""Which bytes of a representation a request gets: preconditions and ranges of RFC 9110, sections 13 and 14.

dpd judges them itself since aiohttp 3.14.5 answers 206 to an If-Range with a stale ETag, which makes a resumed download
a mix of two images, and 416 to a list of ranges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate, mktime_tz, parsedate_tz

_ETAGS = re.compile(r'(W/)?("[^"]*")')
_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 19  # 2^63 has 19; int() of a header full of digits would cost quadratic time


@dataclass(frozen=True, slots=True)
class Representation:
    """What is served. `etag` is strong and has its quotes, `modified_s` is in whole seconds as HTTP dates are."""

    etag: str
    modified_s: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """The request's fields as they came; None where absent."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_range: str | None = None
    range: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer: 200 and 206 carry `length` bytes from `offset`; 304, 412 and 416 carry none."""

    status: int
    offset: int = 0
    length: int = 0


def select(conditions: Conditions, served: Representation, *, ranges: bool = True) -> Selection:
    """What a GET gets, in the order of section 13.2.2. `ranges` False (HEAD): Range is ignored, section 14.2."""
    if not _precondition_holds(conditions, served):
        return Selection(412)
    if _is_unchanged(conditions, served):
        return Selection(304)
    whole = Selection(200, 0, served.size_bytes)
    if conditions.range is None or not ranges or not _same_as_before(conditions.if_range, served):
        return whole
    return _select_range(conditions.range, served.size_bytes) or whole


def http_date(at_s: int) -> str:
    """Seconds since the epoch as Last-Modified has them."""
    return formatdate(at_s, usegmt=True)


def _precondition_holds(conditions: Conditions, served: Representation) -> bool:
    if conditions.if_match is not None:
        return conditions.if_match.strip() == "*" or served.etag in _etags(conditions.if_match, weak=False)
    limit_s = _parse_date(conditions.if_unmodified_since)
    return limit_s is None or served.modified_s <= limit_s


def _is_unchanged(conditions: Conditions, served: Representation) -> bool:
    if conditions.if_none_match is not None:
        return conditions.if_none_match.strip() == "*" or served.etag in _etags(conditions.if_none_match, weak=True)
    since_s = _parse_date(conditions.if_modified_since)
    return since_s is not None and served.modified_s <= since_s


def _same_as_before(if_range: str | None, served: Representation) -> bool:
    """Whether the part that the client already has is of this representation (section 13.1.5: strong, exact)."""
    if if_range is None:
        return True
    if '"' in if_range:
        return served.etag in _etags(if_range, weak=False)
    return _parse_date(if_range) == served.modified_s


def _select_range(field: str, size: int) -> Selection | None:
    """One range; None (send the whole) for a list, another unit or what cannot be read, as section 14.2 allows."""
    match = _ONE_RANGE.fullmatch(field)
    if match is None or max(map(len, match.groups())) > _MOST_DIGITS:
        return None
    first, last = match.groups()
    if not first:
        return _select_suffix(int(last), size) if last else None
    start, end = int(first), int(last) if last else size - 1
    if last and end < start:
        return None
    if start >= size:
        return Selection(416)
    return Selection(206, start, min(end, size - 1) - start + 1)


def _select_suffix(wanted: int, size: int) -> Selection:
    length = min(wanted, size)
    return Selection(206, size - length, length) if length else Selection(416)


def _etags(field: str, *, weak: bool) -> set[str]:
    return {tag for prefix, tag in _ETAGS.findall(field) if weak or not prefix}


def _parse_date(field: str | None) -> int | None:
    """Seconds since the epoch; None for no date, which counts as an absent field."""
    if field is None:
        return None
    try:
        fields = parsedate_tz(field)
        return None if fields is None else mktime_tz(fields)
    except (ValueError, OverflowError, IndexError, TypeError):  # parsedate_tz of nonsense, by Python version
        return None
