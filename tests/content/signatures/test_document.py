# SPDX-License-Identifier: Apache-2.0
"""What manifests and descriptions have in common; their own tests hold the rest."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpd.content.signatures.document import Fields, canonical, join_signature, parse, shown, split_signature
from dpd.errors import ContentCorrupt

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def sign(what: str, body: bytes) -> bytes:
    return join_signature(what, body, PUBLIC, PRIVATE.sign(body))


def test_equal_values_are_equal_bytes() -> None:
    assert canonical({"b": 1, "a": ["ä"]}) == b'{"a":["\\u00e4"],"b":1}' == canonical({"a": ["ä"], "b": 1})


def test_a_body_comes_back_with_its_signer() -> None:
    body = {"format": "x", "list": [1, 2]}
    assert split_signature(sign("thing", canonical(body)), PUBLIC, "thing") == (body, PUBLIC)


def test_a_body_that_is_not_canonical_counts_by_its_values() -> None:
    spaced = sign("thing", canonical({"a": 1})).replace(b'{"a":1}', b'{ "a" : 1 }')
    assert split_signature(spaced, PUBLIC, "thing") == ({"a": 1}, PUBLIC)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (sign("other", b"{}"), "signed thing: missing or unknown keys 'other', 'thing'"),
        (sign("thing", b"{}").replace(b"{}", b'{"a":1}'), "thing: its signature does not fit"),
        (sign("thing", b"{}").replace(PUBLIC.hex().encode(), b"ab" * 32), "thing: signed by the key abab"),
        (sign("thing", b"{}").replace(PUBLIC.hex().encode(), b"AB" * 32), "64 lower-case hexadecimal digits"),
        (b"[]", "signed thing: list, expected an object"),
        (b"{", "thing: not JSON"),
        (b'{"a":1,"a":1}', "a key appears twice"),
        (b"[" * 100_000, "thing: not JSON"),
    ],
)
def test_what_is_wrong_is_told(document: bytes, reason: str) -> None:
    with pytest.raises(ContentCorrupt) as refused:
        split_signature(document, PUBLIC, "thing")
    assert reason in str(refused.value)


def test_a_document_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd.content.signatures.document.MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(ContentCorrupt, match="thing: 11 bytes, expected at most 10"):
        parse(b"[1,2,3,4,5]", "thing")


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 11])
def test_a_number_is_a_whole_one_within_bounds(value: object) -> None:
    fields = Fields({"n": value}, {"n"}, "thing", "thing")
    with pytest.raises(ContentCorrupt, match="expected a whole number from 1 to 10"):
        fields.number("n", 1, 10)


def test_a_long_value_is_cut_in_a_message() -> None:
    assert len(shown("x" * 100)) == 60
    assert shown([1]) == "list"
