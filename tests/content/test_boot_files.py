# SPDX-License-Identifier: Apache-2.0
"""The index of boot files: names as firmware writes them, and everything that must not be served."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.content.boot_files import BootFiles, explain_miss
from dpd.errors import ContentCorrupt, ContentNotFound


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    below = tmp_path / "boot"
    (below / "Boot").mkdir(parents=True)
    (below / "Boot" / "BCD").write_bytes(b"bcd")
    (below / "ipxe.efi").write_bytes(b"loader")
    (tmp_path / "secret").write_bytes(b"secret")
    return below


def read(files: BootFiles, name: str) -> bytes:
    file = files.lookup(name)
    assert file is not None
    descriptor = files.open(file)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "name",
    ["Boot/BCD", "\\Boot\\BCD", "/Boot/BCD", "boot/bcd", "\\\\boot\\\\BCD", "//Boot//BCD", "./Boot/./BCD", "BOOT\\bcd"],
)
def test_every_way_to_write_a_name_finds_the_file(directory: Path, name: str) -> None:
    assert read(BootFiles(directory), name) == b"bcd"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret", 'no boot file "../secret": the name holds ".."'),
        ("Boot/../../secret", 'no boot file "Boot/../../secret": the name holds ".."'),
        ("..\\secret", 'no boot file "..\\secret": the name holds ".."'),
        ("Boot/../ipxe.efi", 'no boot file "Boot/../ipxe.efi": the name holds ".."'),
        ("/etc/passwd", 'no boot file "/etc/passwd": not in the index'),
        ("C:\\Boot\\BCD", 'no boot file "C:\\Boot\\BCD": the name starts with a drive letter'),
        ("c:ipxe.efi", 'no boot file "c:ipxe.efi": the name starts with a drive letter'),
        ("ipxe.efi\0.txt", 'no boot file "ipxe.efi?.txt": the name holds a control character'),
        ("ipxe\n.efi", 'no boot file "ipxe?.efi": the name holds a control character'),
        ("a" * 600, f'no boot file "{"a" * 77}...": the name has 600 characters, at most 255 are allowed'),
        ("", 'no boot file "": the name is empty'),
        ("///", 'no boot file "///": the name is empty'),
        ("Boot", 'no boot file "Boot": not in the index'),
        ("ipxe.efi/", None),
    ],
)
def test_names_that_are_refused(directory: Path, name: str, message: str | None) -> None:
    files = BootFiles(directory)
    if message is None:  # a trailing slash is what some ROMs append; it means the file
        assert read(files, name) == b"loader"
    else:
        assert files.lookup(name) is None
        assert explain_miss(name) == message


@given(st.text(max_size=300))
def test_any_text_is_found_in_the_index_or_explained(name: str) -> None:
    files = BootFiles(Path(__file__).parent)
    file = files.lookup(name)
    assert file is None or (Path(__file__).parent / file.name).is_file()
    assert explain_miss(name)


def test_links_and_special_files_are_not_indexed(directory: Path) -> None:
    (directory / "link").symlink_to(directory.parent / "secret")
    (directory / "folder").symlink_to(directory.parent)
    os.mkfifo(directory / "pipe")
    files = BootFiles(directory)
    assert [file.name for file in files.files()] == ["Boot/BCD", "ipxe.efi"]
    assert files.lookup("folder/secret") is None


def test_a_file_replaced_by_a_link_is_not_followed(directory: Path) -> None:
    files = BootFiles(directory)
    file = files.lookup("ipxe.efi")
    assert file is not None
    (directory / "ipxe.efi").unlink()
    (directory / "ipxe.efi").symlink_to(directory.parent / "secret")
    with pytest.raises(ContentNotFound, match=r"^boot file ipxe.efi: cannot be opened below .*: Too many levels"):
        files.open(file)


def test_a_folder_replaced_by_a_link_is_not_followed(directory: Path) -> None:
    files = BootFiles(directory)
    file = files.lookup("Boot/BCD")
    assert file is not None
    (directory / "Boot").rename(directory.parent / "elsewhere")
    (directory / "Boot").symlink_to(directory.parent / "elsewhere")
    with pytest.raises(ContentNotFound, match="cannot be opened below"):
        files.open(file)


def test_a_file_replaced_by_a_pipe_neither_opens_nor_hangs(directory: Path) -> None:
    files = BootFiles(directory)
    file = files.lookup("ipxe.efi")
    assert file is not None
    (directory / "ipxe.efi").unlink()
    os.mkfifo(directory / "ipxe.efi")
    with pytest.raises(ContentNotFound, match="no longer a regular file"):
        files.open(file)


def test_a_changed_file_is_served_only_after_refresh(directory: Path) -> None:
    files = BootFiles(directory)
    old = files.lookup("ipxe.efi")
    assert old is not None
    (directory / "ipxe.efi").write_bytes(b"newer loader")
    with pytest.raises(ContentCorrupt, match=r"^boot file ipxe.efi: changed since it was indexed; reload dpd"):
        files.open(old)
    assert files.refresh() == 2
    assert read(files, "ipxe.efi") == b"newer loader"
    new = files.lookup("ipxe.efi")
    assert new is not None
    assert new.etag != old.etag


def test_no_descriptor_is_left_open(directory: Path) -> None:
    files = BootFiles(directory)
    before = len(os.listdir("/proc/self/fd"))
    read(files, "Boot/BCD")
    file = files.lookup("ipxe.efi")
    (directory / "ipxe.efi").write_bytes(b"changed content")
    assert file is not None
    with pytest.raises(ContentCorrupt):
        files.open(file)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_exact_case_wins_where_two_names_differ_by_case_alone(directory: Path) -> None:
    (directory / "IPXE.EFI").write_bytes(b"upper")
    files = BootFiles(directory)
    assert read(files, "ipxe.efi") == b"loader"
    assert read(files, "IPXE.EFI") == b"upper"


def test_a_missing_directory_is_an_empty_index(tmp_path: Path) -> None:
    files = BootFiles(tmp_path / "absent")
    assert files.files() == []
    assert files.lookup("ipxe.efi") is None


def test_the_directory_itself_may_be_a_link(directory: Path) -> None:
    (directory.parent / "srv").symlink_to(directory)
    assert read(BootFiles(directory.parent / "srv"), "boot/bcd") == b"bcd"


def test_a_refused_file_is_not_found_under_any_of_its_names(directory: Path) -> None:
    files = BootFiles(directory)
    files.refuse({"ipxe.efi": "it was revoked", "gone.efi": "it is missing"})
    for name in ("ipxe.efi", "/IPXE.EFI", "\\ipxe.efi"):
        assert (files.lookup(name), files.refusal(name)) == (None, "it was revoked")
    assert files.refusal("gone.efi") == "it is missing"
    assert files.refusal("Boot/BCD") == files.refusal("../ipxe.efi") == ""
    assert read(files, "Boot/BCD") == b"bcd"
    assert files.refused_count() == 2
    files.refuse({})
    assert read(files, "ipxe.efi") == b"loader"
    assert files.refused_count() == 0


def test_the_index_has_the_hash_of_each_loader_as_it_is_now(directory: Path) -> None:
    loader = directory / "ipxe.efi"
    loader.write_bytes(b"MZ first")
    files = BootFiles(directory)
    assert {file.name: file.sha256 for file in files.files()} == {
        "Boot/BCD": "",
        "ipxe.efi": sha256(b"MZ first").hexdigest(),
    }
    loader.write_bytes(b"MZ another")
    files.refresh()
    found = files.lookup("ipxe.efi")
    assert found is not None
    assert found.sha256 == sha256(b"MZ another").hexdigest()
