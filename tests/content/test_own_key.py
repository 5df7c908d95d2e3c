# SPDX-License-Identifier: Apache-2.0
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

from dpd.content.library import Library
from dpd.content.manifest import decode_signed
from dpd.errors import ContentCorrupt, ContentError


def key_of(root: Path) -> Path:
    return root / "keys" / "manifest.ed25519"


def test_a_lost_key_is_made_anew_and_signs_what_is_there(root: Path, make_file: MakeFile) -> None:
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(make_file(), "P")
        before = library.public_key()
    key_of(root).unlink()
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        assert library.public_key() != before
        document = library.manifest(library.find("P"))
        assert decode_signed(document, library.public_key()).package_id == "P"
        with pytest.raises(ContentCorrupt, match="signed by the key"):
            decode_signed(document, before)
        library.verify("P")


def test_a_new_key_does_not_sign_a_manifest_that_was_tampered_with(root: Path, make_file: MakeFile) -> None:
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(make_file(), "P")
    (manifest,) = root.glob("manifests/*.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"package_id":"P"', b'"package_id":"Q"'))
    key_of(root).unlink()
    with (
        Library(root, slab_bytes=SLAB_BYTES) as library,
        pytest.raises(ContentCorrupt, match="signed by the key"),
    ):
        library.verify("P")


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_told(root: Path, content: bytes) -> None:
    Library(root, slab_bytes=SLAB_BYTES).close()
    key_of(root).write_bytes(content)
    with pytest.raises(ContentError, match=r"manifest\.ed25519: no Ed25519 private key in PEM; restore it"):
        Library(root, slab_bytes=SLAB_BYTES)
    key_of(root).unlink()
    Library(root, slab_bytes=SLAB_BYTES).close()


def test_a_key_that_others_may_read_is_refused(root: Path) -> None:
    Library(root, slab_bytes=SLAB_BYTES).close()
    key_of(root).chmod(0o640)
    with pytest.raises(ContentError, match=r"readable by others \(mode 0640\), expected 0600"):
        Library(root, slab_bytes=SLAB_BYTES)


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_reads_the_key(library: Library, root: Path) -> None:
    ran = subprocess.run(
        ["openssl", "pkey", "-in", key_of(root), "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    assert ran.stdout.endswith(library.public_key())
