# SPDX-License-Identifier: Apache-2.0
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.content.description import TAG
from dpd.content.kinds import ContentKind
from dpd.control.api.messages.content import ContentListParameters, Kind, PublishRequest, TagRequest


def test_the_kinds_are_those_of_the_library() -> None:
    assert list(get_args(Kind)) == list(ContentKind)


@given(st.text(max_size=80) | st.from_regex(TAG, fullmatch=True))
def test_a_tag_that_is_taken_here_is_one_of_the_library(text: str) -> None:
    try:
        msgspec.convert({"add": [text]}, TagRequest)
    except msgspec.ValidationError:
        assert not TAG.fullmatch(text) or "," in text
    else:
        assert TAG.fullmatch(text)


@pytest.mark.parametrize("text", ["", "a", "a,b=c", "language=de-DE,lab"])
def test_tags_in_a_query_have_commas_between_them(text: str) -> None:
    assert msgspec.convert({"tags": text}, ContentListParameters).tags == text


@pytest.mark.parametrize("text", [",", "a,", ",a", "a b", "a=", "a=b=c"])
def test_what_are_no_tags_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tags": text}, ContentListParameters)


@pytest.mark.parametrize(
    ("text", "is_right"), [("", True), ("LAB1/1", True), ("LAB1", False), ("/1", False), ("LAB1/x", False)]
)
def test_a_cursor_is_a_package_and_a_version(text: str, is_right: bool) -> None:
    if is_right:
        assert msgspec.convert({"after": text}, ContentListParameters).after == text
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"after": text}, ContentListParameters)


def test_requests_do_not_share_their_lists() -> None:
    first, second = (msgspec.convert({"path": "/a", "package_id": "P"}, PublishRequest) for _ in range(2))
    first.tags.append("x")
    assert second.tags == []
