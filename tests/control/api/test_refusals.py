# SPDX-License-Identifier: Apache-2.0
"""Every error that dpd raises on purpose has a status and a code; none slips through as a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dpd.control.api.refusals import MachineUnknown, RequestRefused, classify
from dpd.errors import (
    BusError,
    BusUnavailable,
    ContentCorrupt,
    ContentError,
    ContentNotFound,
    DpdError,
    LibraryFull,
    SessionError,
    SessionNotFound,
    Unavailable,
)
from dpd.site.records import SiteConflict, SiteError, SiteNotFound


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (ContentNotFound, 404, "content_not_found"),
        (SessionNotFound, 404, "session_not_found"),
        (MachineUnknown, 404, "machine_unknown"),
        (LibraryFull, 507, "library_full"),
        (ContentCorrupt, 422, "content_corrupt"),
        (ContentError, 409, "content_refused"),
        (SessionError, 409, "session_refused"),
        (Unavailable, 503, "unavailable"),
        (BusUnavailable, 503, "bus_unavailable"),
        (BusError, 502, "bus_failed"),
        (RequestRefused, 400, "bad_request"),
        (SiteNotFound, 404, "site_not_found"),
        (SiteConflict, 409, "site_conflict"),
        (SiteError, 400, "bad_request"),
    ],
)
def test_each_kind_has_its_status_and_code(kind: type[DpdError], status: int, code: str) -> None:
    got, failure = classify(kind("why"))
    assert (got, failure.code, failure.message) == (status, code, "why")


def kinds(kind: type[DpdError] = DpdError) -> Iterator[type[DpdError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str))
def test_no_kind_is_left_out(kind: type[DpdError]) -> None:
    error = kind.__new__(kind)
    assert 400 <= classify(error)[0] <= 507
