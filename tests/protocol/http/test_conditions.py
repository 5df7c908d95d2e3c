# SPDX-License-Identifier: Apache-2.0
"""Preconditions and ranges, against the sentences of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.http.conditions import Conditions, Representation, Selection, http_date, select

SERVED = Representation(etag='"v2"', modified_s=1_700_000_000, size_bytes=1000)
SAME = http_date(SERVED.modified_s)
EARLIER = http_date(SERVED.modified_s - 3600)
LATER = http_date(SERVED.modified_s + 3600)
WHOLE = Selection(200, 0, 1000)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-499", Selection(206, 0, 500)),
        ("bytes=500-999", Selection(206, 500, 500)),
        ("bytes=999-", Selection(206, 999, 1)),
        ("bytes=0-", Selection(206, 0, 1000)),
        ("bytes=900-5000", Selection(206, 900, 100)),
        ("BYTES=1-1", Selection(206, 1, 1)),
        ("bytes=-1", Selection(206, 999, 1)),
        ("bytes=-5000", Selection(206, 0, 1000)),
        ("bytes=1000-", Selection(416)),
        ("bytes=5000-6000", Selection(416)),
        ("bytes=-0", Selection(416)),
    ],
)
def test_one_range_is_cut_to_what_exists(field: str, expected: Selection) -> None:
    assert select(Conditions(range=field), SERVED) == expected


@pytest.mark.parametrize(
    "field",
    [
        "bytes=0-0,5-6",
        "bytes=5-4",
        "bytes=-",
        "bytes=a-b",
        "bytes=--5",
        "bytes=+1-2",
        "bytes=١-٢",
        "lines=1-2",
        "0-5",
        "",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_list_of_ranges_and_what_cannot_be_read_gets_the_whole(field: str) -> None:
    assert select(Conditions(range=field), SERVED) == WHOLE


def test_head_ignores_ranges() -> None:
    assert select(Conditions(range="bytes=5000-"), SERVED, ranges=False) == WHOLE


def test_an_empty_file_has_no_range() -> None:
    empty = Representation('"e"', 0, 0)
    assert select(Conditions(range="bytes=0-"), empty) == Selection(416)
    assert select(Conditions(range="bytes=-5"), empty) == Selection(416)
    assert select(Conditions(), empty) == Selection(200, 0, 0)


@pytest.mark.parametrize("validator", ['"v2"', SAME])
def test_a_resume_of_the_same_bytes_gets_the_rest(validator: str) -> None:
    assert select(Conditions(if_range=validator, range="bytes=600-"), SERVED) == Selection(206, 600, 400)


@pytest.mark.parametrize("validator", ['"v1"', 'W/"v2"', EARLIER, LATER, "", "nonsense", '"v2'])
def test_a_resume_of_other_bytes_gets_the_whole(validator: str) -> None:
    assert select(Conditions(if_range=validator, range="bytes=600-"), SERVED) == WHOLE


@pytest.mark.parametrize("validator", ['"v1"', EARLIER])
def test_a_stale_resume_beyond_the_end_gets_the_whole_and_no_416(validator: str) -> None:
    assert select(Conditions(if_range=validator, range="bytes=6000-"), SERVED) == WHOLE


@pytest.mark.parametrize("field", ['"v2"', '"v1", "v2"', '"v1",W/"v2"', "*"])
def test_what_the_client_has_is_not_sent_again(field: str) -> None:
    assert select(Conditions(if_none_match=field, range="bytes=0-4"), SERVED) == Selection(304)


def test_if_none_match_wins_over_the_date() -> None:
    assert select(Conditions(if_none_match='"v1"', if_modified_since=LATER), SERVED) == WHOLE


@pytest.mark.parametrize(("since", "status"), [(SAME, 304), (LATER, 304), (EARLIER, 200), ("soon", 200)])
def test_if_modified_since(since: str, status: int) -> None:
    assert select(Conditions(if_modified_since=since), SERVED).status == status


@pytest.mark.parametrize(
    ("field", "status"), [('"v2"', 206), ("*", 206), ('"v1", "v2"', 206), ('"v1"', 412), ('W/"v2"', 412)]
)
def test_firmware_resumes_by_if_match(field: str, status: int) -> None:
    """EDK2's HttpBootDxe resumes by Range with If-Match."""
    assert select(Conditions(if_match=field, range="bytes=1-"), SERVED).status == status


@pytest.mark.parametrize(("limit", "status"), [(SAME, 206), (LATER, 206), (EARLIER, 412), ("once", 206)])
def test_firmware_resumes_by_if_unmodified_since(limit: str, status: int) -> None:
    assert select(Conditions(if_unmodified_since=limit, range="bytes=1-"), SERVED).status == status


def test_if_match_wins_over_the_date() -> None:
    assert select(Conditions(if_match='"v2"', if_unmodified_since=EARLIER), SERVED) == WHOLE


@pytest.mark.parametrize("form", ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_the_obsolete_date_forms_are_understood(form: str) -> None:
    served = Representation('"x"', 784_111_777, 1)  # section 5.6.7: all three forms name this second
    assert http_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert select(Conditions(if_modified_since=form), served).status == 304


field_values = st.none() | st.text() | st.sampled_from([SAME, '"v2"', "*", "bytes=1-2", "bytes=-7", "bytes=0-"])


@given(st.builds(Conditions, *[field_values] * 6), st.integers(0, 2**50), st.booleans())
def test_any_fields_get_an_answer_within_the_file(conditions: Conditions, size: int, ranges: bool) -> None:
    selection = select(conditions, Representation('"v2"', 1_700_000_000, size), ranges=ranges)
    assert selection.status in (200, 206, 304, 412, 416)
    assert 0 <= selection.offset <= selection.offset + selection.length <= size
    assert (selection.status == 206) <= (selection.length > 0)
