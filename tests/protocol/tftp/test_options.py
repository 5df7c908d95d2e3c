# SPDX-License-Identifier: Apache-2.0
"""Option negotiation: what was asked and is known, never larger, senseless values left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.tftp.options import MAX_WINDOW_BYTES, Limits, negotiate
from dpd.protocol.tftp.packet import Options

LIMITS = Limits(max_blksize=1468, max_windowsize=64)

CASES: list[tuple[Options, Options]] = [
    ((), ()),
    ((("tsize", "0"),), (("tsize", "1000"),)),
    ((("blksize", "1456"),), (("blksize", "1456"),)),
    ((("blksize", "65464"),), (("blksize", "1468"),)),
    ((("blksize", "99999999"),), (("blksize", "1468"),)),
    ((("blksize", "8"),), (("blksize", "8"),)),
    ((("blksize", "7"),), ()),
    ((("blksize", "-1"),), ()),
    ((("blksize", "1456 "),), ()),
    ((("blksize", ""),), ()),
    ((("blksize", "9" * 400),), ()),  # int() of a long text is slow; such a value is no size
    ((("windowsize", "16"),), (("windowsize", "16"),)),
    ((("windowsize", "65535"),), (("windowsize", "64"),)),
    ((("windowsize", "0"),), ()),
    ((("windowsize", "65536"),), ()),
    ((("timeout", "5"),), (("timeout", "5"),)),
    ((("timeout", "0"),), ()),
    ((("timeout", "256"),), ()),
    ((("msftwindow", "31416"),), ()),  # bootmgr's own: nothing without a window
    (
        (("windowsize", "4"), ("msftwindow", "31416")),
        (("windowsize", "4"), ("msftwindow", "27182")),
    ),
    ((("windowsize", "4"), ("msftwindow", "1")), (("windowsize", "4"),)),
    ((("multicast", ""), ("tsize", "0")), (("tsize", "1000"),)),  # iPXE tries RFC 2090
    # EDK2 and bootmgr, in the order in which they ask.
    (
        (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")),
        (("tsize", "1000"), ("blksize", "1468"), ("windowsize", "4")),
    ),
]


@pytest.mark.parametrize(("asked", "granted"), CASES)
def test_granted_options(asked: Options, granted: Options) -> None:
    assert negotiate(asked, 1000, LIMITS).granted == granted


def test_the_size_of_an_empty_file_is_left_out_since_curl_takes_zero_for_an_error() -> None:
    assert negotiate((("tsize", "0"), ("blksize", "1456")), 0, LIMITS).granted == (("blksize", "1456"),)


def test_without_options_the_terms_are_those_of_rfc_1350() -> None:
    terms = negotiate((), 1000, LIMITS)
    assert (terms.blksize, terms.windowsize, terms.timeout_s) == (512, 1, LIMITS.timeout_s)


def test_where_windows_are_off_they_do_not_vary() -> None:
    asked = (("windowsize", "4"), ("msftwindow", "31416"))
    terms = negotiate(asked, 1000, Limits(max_windowsize=1))
    assert terms.granted == (("windowsize", "1"),)
    assert not terms.variable_window


def test_a_window_never_outgrows_its_memory() -> None:
    terms = negotiate((("blksize", "65464"), ("windowsize", "65535")), 1 << 30, Limits(65464, 65535))
    assert terms.blksize * terms.windowsize <= MAX_WINDOW_BYTES


@given(st.dictionaries(st.sampled_from(["blksize", "windowsize", "timeout"]), st.integers(0, 70000)))
def test_never_more_than_asked(asked: dict[str, int]) -> None:
    terms = negotiate(tuple((name, str(value)) for name, value in asked.items()), 5, LIMITS)
    for name, value in terms.granted:
        assert int(value) <= asked[name]
    assert set(dict(terms.granted)) <= set(asked)
