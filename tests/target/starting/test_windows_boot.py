# SPDX-License-Identifier: Apache-2.0
"""Which boot manager of a Windows is taken for which firmware, and which files go with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.windows_tree import efi_program, make_windows

from dpd.target.starting import windows_boot
from dpd.target.starting.firmware_keys import FirmwareKeys
from dpd.target.work.step_failure import StepFailed

OLD, BOTH, NEW = ("2011",), ("2011", "2023"), ("2023",)


def keys(*generations: str, on: bool = True) -> FirmwareKeys:
    return FirmwareKeys(on, frozenset(generations))


@pytest.mark.parametrize(
    ("known", "newer", "chosen"),
    [(OLD, True, "2011"), (BOTH, True, "2023"), (NEW, True, "2023"), (BOTH, False, "2011"), ((), True, "2011")],
)
def test_the_newer_boot_manager_is_taken_where_the_firmware_knows_its_signer(
    tmp_path: Path, known: tuple[str, ...], newer: bool, chosen: str
) -> None:
    manager = windows_boot.boot_manager(make_windows(tmp_path, newer=newer), "x64", keys(*known))
    assert (manager.generation, manager.is_newer) == (chosen, chosen == "2023")


def test_a_boot_manager_is_judged_by_its_signature_and_not_by_its_folder(tmp_path: Path) -> None:
    """A Windows of later years has the one of 2023 in the first folder."""
    root = make_windows(tmp_path, newer=False)
    (root / "Windows/Boot/EFI/bootmgfw.efi").write_bytes(efi_program("2023"))
    manager = windows_boot.boot_manager(root, "x64", keys("2023"))
    assert (manager.generation, manager.is_newer) == ("2023", False)


def test_secure_boot_that_would_refuse_the_boot_manager_is_told_before_the_restart(tmp_path: Path) -> None:
    root = make_windows(tmp_path, newer=False)
    with pytest.raises(StepFailed, match="authority of 2023, while Windows' boot manager is signed by that of 2011"):
        windows_boot.boot_manager(root, "x64", keys("2023"))
    assert windows_boot.boot_manager(root, "x64", keys("2023", on=False)).generation == "2011"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (efi_program(architecture="arm64"), "is not for x64"),
        (b"MZ no program", "is no EFI program"),
        (None, "is not on the volume"),
    ],
)
def test_a_windows_that_cannot_start_here_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    root = make_windows(tmp_path, newer=False)
    place = root / "Windows/Boot/EFI/bootmgfw.efi"
    place.unlink()
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(StepFailed, match=said):
        windows_boot.boot_manager(root, "x64", keys())


def test_names_count_in_any_case_and_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "WINDOWS/system32").mkdir(parents=True)
    (tmp_path / "WINDOWS/system32/WinLoad.EFI").write_bytes(b"")
    (tmp_path / "Windows.old").symlink_to("WINDOWS")
    assert windows_boot.is_windows(tmp_path)
    assert windows_boot.find(tmp_path, "windows.old/system32/winload.efi") is None
    assert windows_boot.find(tmp_path, "windows/nothing") is None


def test_newer_files_take_the_place_of_the_older_ones(tmp_path: Path) -> None:
    root = make_windows(tmp_path)
    older, newer = (windows_boot.boot_files(root, "EFI", is_newer=each) for each in (False, True))
    assert set(older) == set(newer) >= {"de-DE/bootmgfw.efi.mui", "Fonts/wgl4_boot.ttf", "Resources/bootres.dll"}
    changed = {name for name in newer if newer[name].read_bytes() != older[name].read_bytes()}
    assert changed == {"bootmgfw.efi", "bootmgr.efi", "Fonts/wgl4_boot.ttf"}


def test_the_language_is_windows_own_where_it_has_one(tmp_path: Path) -> None:
    root = make_windows(tmp_path)
    assert windows_boot.locale(root) == "de-DE"
    (root / "Windows/System32/fr-FR").mkdir()
    (root / "Windows/System32/fr-FR/winload.efi.mui").write_bytes(b"")
    assert windows_boot.locale(root) == "en-US"


def test_files_without_room_are_told_before_one_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 3

    root = make_windows(tmp_path / "root")
    target = tmp_path / "esp"
    target.mkdir()
    monkeypatch.setattr("dpd.target.starting.windows_boot.shutil.disk_usage", lambda folder: Full)
    with pytest.raises(StepFailed, match="the partition has 0 MiB left; make it larger"):
        windows_boot.copy_all(windows_boot.boot_files(root, "EFI"), target)
    assert list(target.iterdir()) == []
