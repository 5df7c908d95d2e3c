# SPDX-License-Identifier: Apache-2.0
"""The guard: what is broken is not handed out, and comes back when it is whole again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.boot.chain_files import grub, make_signers, write_chain
from tests.boot.signing import make_pe

from dpd.boot.chain import ChainReport
from dpd.boot.chain_guard import ChainGuard
from dpd.boot.chain_manifest import format_manifest, make_chain
from dpd.content.boot_files import BootFile, BootFiles
from dpd.errors import SettingsError


@pytest.fixture
def boot_files(tmp_path: Path) -> BootFiles:
    """A boot directory with a chain that its manifest describes."""
    write_chain(tmp_path / "boot", make_signers())
    boot_files = BootFiles(tmp_path / "boot")
    (tmp_path / "chain.toml").write_text(format_manifest(make_chain(boot_files)), encoding="utf-8")
    return boot_files


@pytest.fixture
def guard(boot_files: BootFiles, tmp_path: Path) -> ChainGuard:
    return ChainGuard(str(tmp_path / "chain.toml"), boot_files)


def test_without_a_manifest_nothing_is_refused(boot_files: BootFiles) -> None:
    assert ChainGuard("", boot_files).check() == ChainReport()
    assert boot_files.lookup("shimx64.efi") is not None


def test_a_broken_chain_is_refused_until_it_is_whole_again(
    guard: ChainGuard, boot_files: BootFiles, caplog: pytest.LogCaptureFixture
) -> None:
    assert guard.check() == ChainReport()
    assert boot_files.lookup("shimx64.efi") is not None
    path = boot_files.directory / "grubx64.efi"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1])
    boot_files.refresh()
    with caplog.at_level(logging.INFO):
        guard.check()
    assert boot_files.lookup("shimx64.efi") is None
    assert boot_files.refusal("shimx64.efi").startswith("the Secure Boot chain is broken: grubx64.efi: ")
    assert boot_files.lookup("vmlinuz") is not None
    (line, *_) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert (line.message, line.__dict__["file"], line.__dict__["fault"]) == (
        "secure boot chain broken",
        "grubx64.efi",
        "wrong_hash",
    )
    path.write_bytes(sound)
    boot_files.refresh()
    assert guard.check() == ChainReport()
    assert boot_files.lookup("shimx64.efi") is not None


def test_what_was_refused_stays_so_while_the_manifest_cannot_be_read(
    guard: ChainGuard, boot_files: BootFiles, tmp_path: Path
) -> None:
    (boot_files.directory / "grubx64.efi").unlink()
    boot_files.refresh()
    guard.check()
    (tmp_path / "chain.toml").write_text("[[file]")
    with pytest.raises(SettingsError, match="chain manifest: not TOML"):
        guard.check()
    assert boot_files.lookup("shimx64.efi") is None


def test_files_that_are_as_they_were_are_not_read_again(
    guard: ChainGuard, boot_files: BootFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload is answered on the loop that answers machines, and kernels are large."""
    guard.check()
    opened: list[str] = []
    open_file = boot_files.open

    def noted(file: BootFile) -> int:
        opened.append(file.name)
        return open_file(file)

    monkeypatch.setattr(boot_files, "open", noted)
    guard.check()
    assert opened == []
    (boot_files.directory / "grubx64.efi").write_bytes(grub(make_signers()))
    boot_files.refresh()
    opened.clear()
    guard.check()
    assert opened == ["grubx64.efi"]


def test_what_will_not_start_is_remarked_on_also_without_a_manifest(
    boot_files: BootFiles, caplog: pytest.LogCaptureFixture
) -> None:
    guard = ChainGuard("", boot_files)
    guard.check()
    assert remarks(boot_files) == {}
    grub = (boot_files.directory / "grubx64.efi").read_bytes()
    (boot_files.directory / "grubx64.efi").write_bytes(grub[:0x400] + b"\x90" + grub[0x401:])
    (boot_files.directory / "half.efi").write_bytes(grub[:700])
    (boot_files.directory / "unsigned.efi").write_bytes(make_pe())
    boot_files.refresh()
    guard.check()
    assert remarks(boot_files) == {
        "grubx64.efi": "with Secure Boot on: its signature does not hold (changed)",
        "half.efi": "no sound EFI program: bad_certificate_table: 2088 bytes at 2048: expected the file's end",
    }
    assert [record.message for record in caplog.records] == ["boot file will not start"] * 2
    assert boot_files.lookup("grubx64.efi") is not None


def remarks(boot_files: BootFiles) -> dict[str, str]:
    return {file.name: remark for file in boot_files.files() if (remark := boot_files.remark_on(file))}
