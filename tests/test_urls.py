# SPDX-License-Identifier: Apache-2.0
"""What of a URL may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.urls import has_secrets, shown, without_secrets


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://dp1:8080/a/b.wim", "http://dp1:8080/a/b.wim"),
        ("https://bea:hunter2@dp1/a", "https://…@dp1/a"),
        ("https://bea:hun/ter2@dp1/a", "https://…@dp1/a"),
        ("https://bea:hun@ter2@dp1/a", "https://…@dp1/a"),
        ("https://dp1/a?token=hunter2", "https://dp1/a?…"),
        ("https://dp1/a#hunter2", "https://dp1/a?…"),
        ("https://dp1/a?mail=x@y", "https://dp1/a?…"),
        ("/a?X-Amz-Signature=hunter2", "/a?…"),
        ("s3://key:hunter2@bucket/x", "s3://…@bucket/x"),
        ("http:hunter2@dp1/", "http:…@dp1/"),
        ("//bea:hunter2@dp1/", "//…@dp1/"),
        ("/a@b/c", "/a@b/c"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_user_and_query(url: str, expected: str) -> None:
    assert shown(url) == expected
    assert has_secrets(url) == (url != expected)
    assert shown(expected) == expected


def test_the_urls_in_a_text_are_shown_so_and_the_rest_stays() -> None:
    text = (
        'pull of "https://bea:hunter2@dp1/a?t=1" failed (http://dp2/x?sig=hunter2); see tcp://[::1]:1, C:\\x? and a@b'
    )
    assert without_secrets(text) == (
        'pull of "https://…@dp1/a?…" failed (http://dp2/x?… see tcp://[::1]:1, C:\\x? and a@b'
    )
    assert without_secrets("nothing?to=hide@here") == "nothing?to=hide@here"


@given(st.text(), st.text(alphabet="abcdefgh0123", min_size=1), st.text())
def test_no_text_around_it_brings_a_password_out(before: str, secret: str, after: str) -> None:
    told = without_secrets(f"{before} https://bea:Zz{secret}zZ@dp1/ {after}")
    assert f"Zz{secret}zZ" not in told
