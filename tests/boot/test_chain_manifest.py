# SPDX-License-Identifier: Apache-2.0
"""The manifest: made from a directory that works, read back as it was, refused in one line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.boot.chain_files import Signers, make_signers, write_chain
from tests.boot.signing import make_pe

from dpd.boot.chain import Chain, ChainFault, ChainReport
from dpd.boot.chain_manifest import check_manifest, format_manifest, make_chain, read_manifest
from dpd.content.boot_files import BootFiles
from dpd.errors import ContentError, SettingsError

SHA = "0" * 64


@pytest.fixture(scope="module")
def signers() -> Signers:
    return make_signers()


@pytest.fixture
def directory(tmp_path: Path, signers: Signers) -> Path:
    write_chain(tmp_path / "boot", signers)
    return tmp_path / "boot"


def test_what_is_made_is_read_back(directory: Path, tmp_path: Path) -> None:
    made = make_chain(BootFiles(directory), loads=[("grubx64.efi", "vmlinuz")])
    whole = Chain(made.files, {"grub": 4}, (tmp_path / "dbx.txt",))
    manifest = tmp_path / "chain.toml"
    manifest.write_text(format_manifest(whole), encoding="utf-8")
    assert read_manifest(manifest) == whole


def test_a_shims_second_stage_is_known_by_its_name(directory: Path) -> None:
    files = {file.name: file for file in make_chain(BootFiles(directory)).files}
    assert sorted(files) == ["grubx64.efi", "shimx64.efi"]
    assert files["shimx64.efi"].loads == ("grubx64.efi",)
    assert (files["shimx64.efi"].signer, files["shimx64.efi"].issuer) == ("UEFI Signer", "UEFI CA")
    assert (files["grubx64.efi"].architecture, files["grubx64.efi"].loads) == ("x64", ())


def test_ipxes_shim_loads_what_its_own_name_says(directory: Path) -> None:
    (directory / "ipxe").mkdir()
    (directory / "shimx64.efi").rename(directory / "ipxe/snponly-shimx64.efi")
    (directory / "grubx64.efi").rename(directory / "ipxe/snponly.efi")
    files = {file.name: file for file in make_chain(BootFiles(directory)).files}
    assert files["ipxe/snponly-shimx64.efi"].loads == ("ipxe/snponly.efi",)


def test_a_file_that_is_not_there_cannot_be_in_a_manifest(directory: Path) -> None:
    with pytest.raises(ContentError, match="initrd: not a boot file in "):
        make_chain(BootFiles(directory), loads=[("vmlinuz", "initrd")])


def test_a_chain_is_checked_by_its_manifest_and_lists(directory: Path, tmp_path: Path) -> None:
    boot_files = BootFiles(directory)
    manifest = tmp_path / "chain.toml"
    chain = make_chain(boot_files)
    manifest.write_text(format_manifest(Chain(chain.files, {}, (tmp_path / "dbx.txt",))), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"dbx\.txt: revocation list: No such file"):
        check_manifest(manifest, boot_files)
    (tmp_path / "dbx.txt").write_text("# nothing yet\n")
    assert check_manifest(manifest, boot_files) == ChainReport()
    (directory / "shimx64.efi").write_bytes(make_pe())
    assert {f.fault for f in check_manifest(manifest, BootFiles(directory)).findings} == {
        ChainFault.WRONG_HASH,
        ChainFault.WRONG_SIGNER,
    }


def test_lists_are_looked_for_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "chain.toml").write_text(f'revocation_lists = ["dbx.bin"]\n[[file]]\nname = "a"\nsha256 = "{SHA}"\n')
    assert read_manifest(tmp_path / "chain.toml").revocation_lists == (tmp_path / "dbx.bin",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected at least one \[\[file\]\]"),
        ("file = 1", r"expected at least one \[\[file\]\]"),
        ("[[file]]", "expected each .* to have a name"),
        ("files = []", "the manifest has the unknown key 'files'; allowed: sbat_minimum, revocation_lists, file"),
        ('[[file]]\nname = "a"', "file 'a': sha256: expected 64 hexadecimal digits"),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\nhash = 1', "file 'a' has the unknown key 'hash'"),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\nsigner = 1', "file 'a': expected texts"),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\nloads = "b"', "file 'a': expected texts, and a list of names"),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\nloads = ["b"]', r"file 'a' loads 'b', which has no \[\[file\]\]"),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\narchitecture = "amd64"', 'expected "" or one of x86, x64'),
        (f'[[file]]\nname = "a"\nsha256 = "{SHA}"\n' * 2, "file 'a' stands there twice"),
        (f'sbat_minimum = 4\n[[file]]\nname = "a"\nsha256 = "{SHA}"', "sbat_minimum: expected components"),
        (f'sbat_minimum = {{ a = true }}\n[[file]]\nname = "a"\nsha256 = "{SHA}"', "sbat_minimum: expected components"),
        (f'revocation_lists = [1]\n[[file]]\nname = "a"\nsha256 = "{SHA}"', "revocation_lists: expected a list"),
        ("[[file]", "not TOML"),
        ("\udcff", "not TOML"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chain.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SettingsError, match=message) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: chain manifest: ")
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"chain\.toml: chain manifest: No such file"):
        read_manifest(tmp_path / "chain.toml")
