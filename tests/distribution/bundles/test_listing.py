# SPDX-License-Identifier: Apache-2.0
"""Listings that are read again, and those that are not what they should be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dpd.content.signatures.document import canonical
from dpd.distribution.bundles.listing import BundleFile, Listing, decode, encode, sign
from dpd.errors import ContentCorrupt

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
PATHS = st.from_regex(r"repository/v1/[A-Za-z0-9._-]{1,20}(/[A-Za-z0-9._-]{1,20}){0,2}", fullmatch=True)
LISTINGS = st.builds(
    Listing,
    st.integers(0, 2**40),
    st.lists(
        st.tuples(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True), st.integers(1, 2**31 - 1)),
        unique=True,
        max_size=4,
    ).map(tuple),
    st.lists(
        st.builds(BundleFile, PATHS, st.integers(0, 2**63 - 1), HASHES), unique_by=lambda each: each.path, max_size=6
    ).map(tuple),
)
GOOD: dict[str, Any] = {
    "created_at": 1,
    "files": [["repository/v1/identity", 5, 64 * "a"]],
    "format": "dpd-bundle/1",
    "packages": [["LAB00001", 1]],
}


def signed(body: Any) -> bytes:
    encoded = canonical(body)
    return sign(encoded, PUBLIC, KEY.sign(encoded))


@given(LISTINGS)
def test_what_is_encoded_is_decoded(listing: Listing) -> None:
    body = encode(listing)
    assert decode(sign(body, PUBLIC, KEY.sign(body))) == (listing, PUBLIC)


def test_a_good_one_is_good() -> None:
    listing, signer = decode(signed(GOOD))
    assert (listing.packages, listing.files[0].size_bytes, signer) == ((("LAB00001", 1),), 5, PUBLIC)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": "dpd-content/1"}, "is dpd up to date here"),
    "moment": ({"created_at": 1.5}, "created_at is"),
    "packages are no list": ({"packages": {}}, "packages is dict"),
    "package row": ({"packages": [["LAB00001"]]}, "entry 0: expected a list of 2"),
    "package id": ({"packages": [["../etc", 1]]}, "expected 1 to 64"),
    "version": ({"packages": [["LAB00001", True]]}, "has version"),
    "twice": ({"packages": [["LAB00001", 1], ["LAB00001", 1]]}, "is there twice"),
    "file twice": ({"files": GOOD["files"] * 2}, "is there twice"),
    "path": ({"files": [["a b", 5, 64 * "a"]]}, "expected a path"),
    "no path": ({"files": [["", 5, 64 * "a"]]}, "expected a path"),
    "size": ({"files": [["a", -1, 64 * "a"]]}, "has the size"),
    "hash": ({"files": [["a", 1, 64 * "A"]]}, "expected 64 digits"),
    "a key more": ({"more": 1}, "missing or unknown keys 'more'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_signature_makes_no_wrong_listing_right(case: str) -> None:
    change, words = WRONG[case]
    with pytest.raises(ContentCorrupt, match=words):
        decode(signed(GOOD | change))


@given(st.data())
def test_any_change_is_seen(data: st.DataObject) -> None:
    document = bytearray(signed(GOOD))
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ContentCorrupt):
        decode(bytes(document))


def test_the_signature_of_another_key_does_not_count() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    document = json.loads(signed(GOOD))
    document["public_key"] = other.public_key().public_bytes_raw().hex()
    with pytest.raises(ContentCorrupt, match="signature does not fit"):
        decode(json.dumps(document).encode())
