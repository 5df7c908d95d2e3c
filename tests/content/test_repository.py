# SPDX-License-Identifier: Apache-2.0
"""The layout's names go there and back, and its small documents are read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.content import repository
from dpd.content.repository import Kind, Name
from dpd.errors import ContentCorrupt

SHA256 = "ab" * 32
KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (repository.IDENTITY, Name(Kind.IDENTITY)),
        (repository.newest("LAB00001"), Name(Kind.NEWEST, "LAB00001")),
        (repository.description("LAB00001", 3), Name(Kind.DESCRIPTION, "LAB00001", 3)),
        (repository.manifest("a.b-c_d", 2**31 - 1), Name(Kind.MANIFEST, "a.b-c_d", 2**31 - 1)),
        (repository.blob(SHA256), Name(Kind.BLOB, sha256=SHA256)),
        (repository.chunks(SHA256), Name(Kind.CHUNKS, sha256=SHA256)),
    ],
)
def test_a_path_is_read_as_what_it_was_made_for(path: str, name: Name) -> None:
    assert path.startswith("repository/v1/")
    assert repository.parse(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "repository/v1",
        "repository/v2/identity",
        "/repository/v1/identity",
        "repository/v1/identity/",
        "repository/v1/packages/../newest",
        "repository/v1/packages/.hidden/newest",
        f"repository/v1/packages/{'x' * 65}/newest",
        "repository/v1/packages/LAB00001/0/description",
        "repository/v1/packages/LAB00001/01/description",
        "repository/v1/packages/LAB00001/2147483648/description",
        "repository/v1/packages/LAB00001/٣/description",
        "repository/v1/packages/LAB00001/3/blob",
        f"repository/v1/blobs/{SHA256.upper()}",
        f"repository/v1/blobs/{SHA256[:-1]}",
        f"repository/v1/blobs/{SHA256}/more",
    ],
)
def test_any_other_path_is_none_of_ours(path: str) -> None:
    assert repository.parse(path) is None


def test_an_identity_goes_there_and_back() -> None:
    identity = repository.decode_identity(repository.encode_identity(KEY))
    assert identity == repository.Identity(repository.id_of(KEY), KEY)
    assert repository.decode_via(repository.encode_via((identity.id, "0" * 32))) == (identity.id, "0" * 32)


def test_what_others_wrote_into_the_header_is_left_out() -> None:
    assert repository.decode_via(f"1.1 proxy.example, {'a' * 32},,{'A' * 32}") == ("a" * 32,)
    assert repository.decode_via("") == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "expected an object with id, public_key"),
        (b'{"id":"x"}', "expected an object with id, public_key"),
        (b'{"id":"x","public_key":"00"}', "expected 64 hexadecimal digits"),
        (b'{"id":"x","public_key":"' + b"0" * 64 + b'"}', "id is 'x', expected 66687aad"),
        (b" " * 5000, "at most 4096"),
        (b"[" * 4000, "not JSON"),
    ],
)
def test_an_identity_that_is_none(document: bytes, words: str) -> None:
    with pytest.raises(ContentCorrupt, match=words):
        repository.decode_identity(document)


@pytest.mark.parametrize("version", ["0", "-1", "true", "1.5", '"1"', "2147483648", "null"])
def test_a_newest_that_is_none(version: str) -> None:
    with pytest.raises(ContentCorrupt, match="expected 1 to 2147483647"):
        repository.decode_newest(b'{"source_version":%s}' % version.encode())


@given(st.integers(1, 2**31 - 1))
def test_newest_goes_there_and_back(version: int) -> None:
    assert repository.decode_newest(repository.encode_newest(version)) == version


def test_an_index_is_bounded_by_its_blob() -> None:
    assert repository.max_index_bytes(0) == 48
    assert 0.001 < repository.max_index_bytes(16 << 30) / (16 << 30) < 0.01
