# SPDX-License-Identifier: Apache-2.0
"""Lists of what a distribution point has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.distribution.stocked import blob_path, open_library, publish_image, publish_tree

from dpd.content.repository import id_of
from dpd.distribution.bundles.holdings import NOTHING, Holdings, decode, encode, holdings_of
from dpd.errors import ContentCorrupt

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
HOLDINGS = st.builds(
    Holdings,
    st.text("0123456789abcdef", max_size=32),
    st.frozensets(st.tuples(IDS, st.integers(1, 2**31 - 1), HASHES), max_size=4),
    st.frozensets(HASHES, max_size=6),
)


@given(HOLDINGS)
def test_what_is_encoded_is_decoded(holdings: Holdings) -> None:
    assert decode(encode(holdings)) == holdings


def test_everything_of_a_library_but_what_is_damaged(tmp_path: Path) -> None:
    with open_library(tmp_path / "library") as library:
        image, tree = publish_image(library, tmp_path), publish_tree(library, tmp_path)
        held = holdings_of(library)
        assert held.id == id_of(library.public_key())
        assert held.packages == {("LAB00001", 1, image.sha256), ("LAB00002", 1, tree.sha256)}
        assert held.blobs == {image.sha256} | {each.sha256 for each in library.files(tree)}
        blob_path(tmp_path / "library", image.sha256).unlink()
        library.damage(image)
        assert holdings_of(library).blobs == held.blobs - {image.sha256}


GOOD: dict[str, Any] = json.loads(encode(NOTHING))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "dpd-bundle/1"}, "is dpd up to date"),
        ({"blobs": "all"}, "blobs is 'all', expected a list"),
        ({"blobs": ["../../etc/passwd"]}, "expected a SHA-256"),
        ({"packages": [["LAB00001", 1]]}, "expected its ID, version and SHA-256"),
        ({"packages": [["a b", 1, 64 * "a"]]}, "expected its ID, version and SHA-256"),
        ({"packages": [["LAB00001", True, 64 * "a"]]}, "expected its ID, version and SHA-256"),
        ({"more": 1}, "unknown keys 'more'"),
    ],
)
def test_what_is_no_such_list_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ContentCorrupt, match=words):
        decode(json.dumps(GOOD | change).encode())


def test_a_file_of_something_else_is_refused() -> None:
    with pytest.raises(ContentCorrupt, match="list of holdings: not JSON"):
        decode(b"PACKAGE  VERSION")
