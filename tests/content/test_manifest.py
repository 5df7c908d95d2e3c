# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import dpd
from dpd.content.manifest import Manifest, SlabCheck, decode, decode_signed, encode, join_signature, slab_count
from dpd.errors import ContentCorrupt

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
SMALL = Manifest(
    "LAB00001",
    3,
    2500,
    "ab" * 32,
    1000,
    tuple(hashlib.sha256(bytes([n])).digest() for n in range(3)),
    tuple(blake3(bytes([n])).digest() for n in range(3)),
)


def sign(body: bytes) -> bytes:
    return join_signature(body, PUBLIC, PRIVATE.sign(body))


def changed(key: str, value: object) -> bytes:
    """The body of SMALL with one field replaced, or taken out for None."""
    fields = json.loads(encode(SMALL))
    fields[key] = value
    if value is None:
        del fields[key]
    return json.dumps(fields).encode()


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    slab_bytes = draw(st.integers(1, 1 << 30))
    count = draw(st.integers(1, 8))
    size = draw(st.integers((count - 1) * slab_bytes + 1, count * slab_bytes))
    hashes = draw(st.lists(st.binary(min_size=32, max_size=32), min_size=count, max_size=count))
    package_id = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
    return Manifest(
        package_id,
        draw(st.integers(1, 2**31 - 1)),
        size,
        bytes(hashes[0]).hex(),
        slab_bytes,
        tuple(hashes),
        tuple(reversed(hashes)),
    )


@given(manifests())
def test_what_is_encoded_decodes_to_the_same(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest
    assert decode_signed(sign(encode(manifest)), PUBLIC) == manifest


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_refused_in_words(document: bytes) -> None:
    with pytest.raises(ContentCorrupt):
        decode_signed(document, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(json.loads(encode(SMALL)))), value=json_values)
def test_any_value_in_any_field_is_the_right_one_or_refused(key: str, value: object) -> None:
    fields = json.loads(encode(SMALL))
    fields[key] = value
    try:
        manifest = decode(json.dumps(fields).encode())
    except ContentCorrupt:
        return
    assert encode(manifest) == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_the_body_is_canonical_json() -> None:
    body = encode(SMALL)
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()


def test_a_manifest_of_ten_gigabytes_stays_below_155_kilobytes() -> None:
    size, slab = 10_000_000_000, 5_767_168
    hashes = (bytes(32),) * slab_count(size, slab)
    assert len(hashes) == 1734
    assert len(sign(encode(Manifest("LAB00001", 1, size, "00" * 32, slab, hashes, hashes)))) < 155_000


def test_the_last_slab_may_be_short() -> None:
    assert SMALL.extent(0) == (0, 1000)
    assert SMALL.extent(2) == (2000, 2500)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("size_bytes", 0, "size_bytes is 0, expected a whole number from 1"),
        ("size_bytes", 2500.0, "size_bytes is float, expected a whole number"),
        ("size_bytes", True, "size_bytes is True, expected a whole number"),
        ("size_bytes", 3001, "slab_count is 3, expected 4 for 3001 bytes"),
        ("slab_bytes", (1 << 30) + 1, "slab_bytes is 1073741825"),
        ("slab_count", 4, "slab_count is 4, expected 3 for 2500 bytes"),
        ("source_version", 0, "source_version is 0"),
        ("source_version", 2**31, "source_version is 2147483648"),
        ("package_id", "-rf", "package_id is '-rf'"),
        ("package_id", "a/b", "package_id is 'a/b'"),
        ("package_id", "", "package_id is ''"),
        ("package_id", 7, "package_id is 7, expected a text"),
        ("sha256", "AB" * 32, "lower-case hexadecimal"),
        ("sha256", "ab" * 31, "expected 64 lower-case"),
        ("slab_hashes", "???", "slab_hashes is no base64"),
        ("slab_hashes", "é", "slab_hashes is no base64"),
        ("slab_blake3", "AAAA", "slab_blake3 has 3 bytes, expected 32 for each of 3"),
        ("slab_hashes", "AAAA", "slab_hashes has 3 bytes, expected 32 for each of 3"),
        ("fec", "rs-cauchy/2", "fec is 'rs-cauchy/2', expected 'rs-cauchy/1'"),
        ("format", "dpd-manifest/2", "format is 'dpd-manifest/2'"),
        ("sha256", None, "missing or unknown keys 'sha256'"),
        ("extra", 1, "missing or unknown keys 'extra'"),
    ],
)
def test_each_field_is_checked_and_named(key: str, value: object, reason: str) -> None:
    with pytest.raises(ContentCorrupt) as refused:
        decode(changed(key, value))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "document",
    [b"[" * 100_000, b'{"manifest":1,"manifest":2}', b"\xff\xfe", b'{"a":' + b"9" * 5000 + b"}", b"null", b'"\\ud800"'],
    ids=["deep", "key twice", "no utf-8", "huge number", "null", "lone surrogate"],
)
def test_hostile_json_is_refused(document: bytes) -> None:
    with pytest.raises(ContentCorrupt):
        decode_signed(document, None)


def test_a_changed_field_breaks_the_signature() -> None:
    forged = sign(encode(SMALL)).replace(b'"size_bytes":2500', b'"size_bytes":2501')
    with pytest.raises(ContentCorrupt, match="signature does not fit"):
        decode_signed(forged, PUBLIC)


def test_the_signature_of_another_key_is_refused_even_if_it_is_good() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    body = encode(SMALL)
    document = join_signature(body, other.public_key().public_bytes_raw(), other.sign(body))
    assert decode_signed(document, None) == SMALL
    with pytest.raises(ContentCorrupt, match="expected " + PUBLIC.hex()):
        decode_signed(document, PUBLIC)


def test_another_key_in_the_name_of_the_right_one_is_refused() -> None:
    body = encode(SMALL)
    forged = join_signature(body, PUBLIC, Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(body))
    with pytest.raises(ContentCorrupt, match="signature does not fit"):
        decode_signed(forged, PUBLIC)


@pytest.mark.parametrize("size", [2500, 2501])
def test_it_decides_alike_on_a_target_without_any_package(tmp_path: Path, size: int) -> None:
    document = tmp_path / "manifest.json"
    document.write_bytes(join_signature(encode(replace(SMALL, size_bytes=size)), PUBLIC, PRIVATE.sign(encode(SMALL))))
    program = (
        f"import sys; sys.path.insert(0, {str(Path(dpd.__file__).parents[1])!r})\n"
        "from dpd.content.manifest import decode_signed\n"
        f"print(decode_signed(open({str(document)!r}, 'rb').read(), bytes.fromhex({PUBLIC.hex()!r})).size_bytes)\n"
        "assert 'cryptography' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    if size == SMALL.size_bytes:
        assert ran.stdout == "2500\n", ran.stderr
    else:
        assert "signature does not fit" in ran.stderr


@pytest.mark.parametrize("has_blake3", [True, False])
def test_slabs_are_checked_by_whichever_hash_is_installed(has_blake3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_blake3:
        monkeypatch.setitem(sys.modules, "blake3", None)
    check = SlabCheck(SMALL)
    assert check.fits(1, b"\x01")
    assert not check.fits(1, b"\x02")
