# SPDX-License-Identifier: Apache-2.0
import json
import os
import string
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.content.conftest import MakeFile

from dpd.content.description import (
    Description,
    decode,
    decode_signed,
    encode,
    hash_of_files,
    path_trouble,
    signer,
)
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Library
from dpd.content.records import FileEntry
from dpd.content.signatures.document import join_signature
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
IMAGE = ImageSummary(1, "Windows", "x64", 5, languages=("de-DE", "en-US"), created_at=1.5)


def describe(*paths: str, directories: tuple[str, ...] = ()) -> Description:
    files = tuple(FileEntry(path, 10, "ab" * 32) for path in paths)
    return Description(
        package_id="LAB00001",
        source_version=3,
        kind=ContentKind.OS_UPGRADE_PACKAGE,
        content_format=ContentFormat.TREE,
        name="media",
        size_bytes=10 * len(files),
        sha256=hash_of_files(files, directories),
        images=(IMAGE,),
        tags=("lab", "language=de-DE"),
        files=files,
        directories=directories,
    )


TREE = describe("a", "sub/b", "sub/c", "ä/ß", directories=("empty", "sub/none"))
ONE = replace(
    describe("x.wim"), content_format=ContentFormat.WIM, sha256="ab" * 32, name="x.wim", kind=ContentKind.OS_IMAGE
)


def sign(body: bytes) -> bytes:
    return join_signature("description", body, PUBLIC, PRIVATE.sign(body))


@pytest.mark.parametrize("said", [TREE, ONE], ids=["tree", "one file"])
def test_what_is_signed_comes_back(said: Description) -> None:
    assert decode(encode(said)) == said
    document = sign(encode(said))
    assert decode_signed(document, PUBLIC) == decode_signed(document, None) == said
    assert signer(document) == PUBLIC
    with pytest.raises(ContentCorrupt, match="description: signed by the key"):
        decode_signed(document, b"\0" * 32)


def test_one_empty_file_and_two_sizes_of_one_hash_are_refused() -> None:
    """Their manifest could not be read again; and their totals would differ from those of the blobs."""
    nothing = replace(ONE, size_bytes=0, files=(FileEntry("x.wim", 0, "ab" * 32),))
    with pytest.raises(ContentCorrupt, match="size_bytes is 0, expected at least 1 for a wim"):
        decode(encode(nothing))
    files = (FileEntry("a", 10, "ab" * 32), FileEntry("b", 11, "ab" * 32))
    two = replace(TREE, files=files, directories=(), size_bytes=21, sha256=hash_of_files(files, ()))
    with pytest.raises(ContentCorrupt, match="files of one SHA-256 have different sizes"):
        decode(encode(two))


def test_a_changed_description_is_refused() -> None:
    forged = sign(encode(TREE)).replace(b'"sub/b"', b'"sub/x"')
    with pytest.raises(ContentCorrupt, match="signature does not fit its content"):
        decode_signed(forged, PUBLIC)


def test_the_signature_of_a_manifest_does_not_count() -> None:
    body = encode(TREE)
    with pytest.raises(ContentCorrupt, match="missing or unknown keys"):
        decode_signed(join_signature("manifest", body, PUBLIC, PRIVATE.sign(body)), PUBLIC)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", "dpd-content/2", "format is 'dpd-content/2'"),
        ("kind", "toy", "kind is 'toy', expected one of os-image"),
        ("content_format", "zip", "content_format is 'zip'"),
        ("package_id", "../x", "package_id is '../x'"),
        ("source_version", 0, "source_version is 0"),
        ("name", "a/b", "expected a plain file name"),
        ("name", "..", "expected a plain file name"),
        ("size_bytes", 41, "size_bytes is 41, expected the sum of its files"),
        ("size_bytes", -1, "size_bytes is -1"),
        ("sha256", "cd" * 32, "of its files"),
        ("files", [], "0 files, expected one"),
        ("files", {}, "files is dict, expected a list"),
        ("files", [["a", 1]], "expected path, size and SHA-256"),
        ("files", [["a", True, "ab" * 32]], "size or SHA-256 of the file 'a'"),
        ("files", [["a", 1, "AB" * 32]], "size or SHA-256 of the file 'a'"),
        ("files", [["../a", 1, "ab" * 32]], "the path '../a' is not relative"),
        ("files", [["b", 1, "ab" * 32], ["a", 1, "ab" * 32]], "'a' comes behind 'b'"),
        ("files", [["a", 1, "ab" * 32], ["a", 1, "ab" * 32]], "'a' comes behind 'a'"),
        ("files", [["a", 1, "ab" * 32], ["a/b", 1, "ab" * 32]], "'a' is a file and a folder"),
        ("directories", ["sub"], "the folder 'sub' is not empty"),
        ("directories", ["a"], "a path is a file and a folder"),
        ("directories", ["x", "x/y"], "the folder 'x' is not empty"),
        ("directories", [1], "the path 1 is no text"),
        ("tags", ["a b"], "a tag is 'a b'"),
        ("tags", "lab", "tags is 'lab', expected a list"),
        ("images", [[]], "an image of 0 values"),
        ("images", [["1", "n", "x64", 5]], "index of an image is '1', expected int"),
        ("images", [[1, "n", "x64", 5, "", "", "", "", [1]]], "languages of an image is no list of texts"),
        ("images", [7], "an image is 7, expected a list"),
    ],
)
def test_each_field_is_checked_and_named(key: str, value: object, reason: str) -> None:
    fields = json.loads(encode(TREE))
    fields[key] = value
    with pytest.raises(ContentCorrupt) as refused:
        decode(json.dumps(fields).encode())
    assert str(refused.value).startswith("description: ")
    assert reason in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(json.loads(encode(TREE)))), value=json_values)
def test_any_value_in_any_field_is_the_right_one_or_refused(key: str, value: object) -> None:
    fields = json.loads(encode(TREE))
    fields[key] = value
    try:
        said = decode(json.dumps(fields).encode())
    except ContentCorrupt:
        return
    assert decode(encode(said)) == said


@pytest.mark.parametrize("path", ["a", "a/b", "ä", ".hidden", "a b", "a\\b", "...", "x" * 255, "A-Z/c$"])
def test_paths_that_may_be(path: str) -> None:
    assert path_trouble(path) == ""


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        ("", "is not relative"),
        ("/a", "is not relative"),
        ("a/", "is not relative"),
        ("a//b", "is not relative"),
        ("./a", "is not relative"),
        ("a/../b", "is not relative"),
        ("..", "is not relative"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        (unicodedata.normalize("NFD", "ä"), "normal form C"),
        ("\udcff", "is no UTF-8"),
        ("a/" * 2000 + "b", "has 4001 bytes"),
    ],
)
def test_paths_that_may_not_be(path: str, trouble: str) -> None:
    assert trouble in path_trouble(path)


@given(st.text(max_size=30))
def test_a_path_without_trouble_stays_below_its_folder(path: str) -> None:
    if not path_trouble(path):
        assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
        assert path.encode().decode() == path


def test_equal_trees_are_equal_whatever_their_times_and_modes(library: Library, tmp_path: Path) -> None:
    hashes = set()
    for number in (1, 2):
        folder = tmp_path / str(number) / "tree"
        folder.mkdir(parents=True)
        for name in string.ascii_lowercase[::number]:
            (folder / name).write_text("same")
        (folder / "a").chmod(0o600 + number)
        if number == 2:
            for name in string.ascii_lowercase:
                (folder / name).write_text("same")
        hashes.add(library.publish(folder, "P").sha256)
    assert len(hashes) == 1


def test_the_library_signs_what_it_holds(library: Library, make_file: MakeFile) -> None:
    content = library.publish(make_file(), "P", tags=["lab"])
    said = decode_signed(library.description(content), library.public_key())
    assert (said.package_id, said.sha256, said.tags) == ("P", content.sha256, ("lab",))
    assert said.files == (FileEntry("image.bin", content.size_bytes, content.sha256),)


def test_a_hundred_thousand_files_are_read_in_seconds() -> None:
    said = describe(*sorted(f"folder{n % 100:03d}/{n:06d}.dll" for n in range(100_000)))
    document = sign(encode(said))
    begun = time.process_time()
    assert decode_signed(document, PUBLIC) == said
    assert time.process_time() - begun < 10
