# SPDX-License-Identifier: Apache-2.0
"""Boot loaders on disks: Debian's GRUB for BIOS and UEFI, and copied EFI loaders."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from tests.target.stage import FACTS, Stage, make_tree, need, staged_disk

from dpd.target.steps import install_boot_loader
from dpd.target.work.step_failure import StepFailed

DO = 'do = "install_boot_loader"\nvolume = "root"\n'
ROOT = '{ name = "root", size = "rest", format = "ext4" }'
SHIM = "usr/lib/shim/shimx64.efi.signed"
BIOS = dataclasses.replace(FACTS, firmware="bios")


def uefi(home: Path) -> Stage:
    stage = Stage(home)
    make_tree(stage.add_folder("root"))
    stage.add_folder("esp", "fat32")
    return stage


def test_grub_of_the_new_system_is_told_where_to_go(tmp_path: Path) -> None:
    """A stand-in for grub-install tells how it was called: GRUB itself does not take partitions of loop devices; tests in QEMU have the
    real one on real disks."""
    need("busybox", "chroot")
    with staged_disk(tmp_path, [ROOT], facts=BIOS) as stage:
        root = make_tree(stage.volumes.folder("root"))
        put_system(root, "i386-pc")
        said = install_boot_loader.run(stage.work(DO + 'options = "console=ttyS0 a$b"'))
        assert said == "GRUB (i386-pc) of the new system"
        volume = stage.volumes.find("root")
        assert (root / "called").read_text().split("\n")[:2] == [
            f"--target i386-pc {volume.disk}",
            f"(hd0) {volume.disk}",
        ]
        assert not (root / "boot/grub/device.map").exists()
        menu = (root / "boot/grub/grub.cfg").read_text()
        assert f"search --no-floppy --fs-uuid --set=root {volume.uuid}" in menu
        assert menu.index("vmlinuz-6.1.0-10-amd64") < menu.index("vmlinuz-6.1.0-9-amd64")
        kernel = f"linux /boot/vmlinuz-6.1.0-10-amd64 root=UUID={volume.uuid} ro console=ttyS0 'a$b'"
        assert f"{kernel}\n  initrd /boot/initrd.img-6.1.0-10-amd64" in menu
        assert f"linux /boot/vmlinuz-6.1.0-9-amd64 root=PARTUUID={volume.partition_uuid} ro" in menu
        assert (root / "etc/fstab").read_text().splitlines()[1:] == [f"UUID={volume.uuid} / ext4 errors=remount-ro 0 1"]


def test_grub_for_uefi_goes_where_every_firmware_looks(tmp_path: Path) -> None:
    need("busybox", "chroot")
    esp = '{ name = "esp", size = "40MiB", kind = "esp", format = "ext4" }'  # this kernel may have no FAT
    with staged_disk(tmp_path, [esp, ROOT]) as stage:
        root = make_tree(stage.volumes.folder("root"))
        put_system(root, "x86_64-efi")
        assert install_boot_loader.run(stage.work(DO + 'esp = "esp"')) == "GRUB (x86_64-efi) of the new system"
        called = (root / "called").read_text().splitlines()
        assert called[0] == "--target x86_64-efi --removable --no-nvram --efi-directory /boot/efi"
        assert "lost+found" in called  # the EFI system partition's own root is there
        menu = (stage.volumes.folder("esp") / "EFI/debian/grub.cfg").read_text()
        assert stage.volumes.find("root").uuid in menu
        stage.volumes.release("root")
        assert list((stage.volumes.folder("root") / "boot/efi").iterdir()) == []


def put_system(root: Path, target: str) -> None:
    """Enough of a system to run its grub-install in."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    for place in ("bin", "usr/sbin", f"usr/lib/grub/{target}"):
        (root / place).mkdir(parents=True, exist_ok=True)
    for name in ("sh", "cat", "ls"):
        shutil.copy(busybox, root / "bin" / name)
    (root / f"usr/lib/grub/{target}/modinfo.sh").write_text("")
    program = root / "usr/sbin/grub-install"
    program.write_text(
        '#!/bin/sh\n{ echo "$@"; cat /boot/grub/device.map; ls /boot/efi; } > /called 2>/dev/null\nexit 0\n'
    )
    program.chmod(0o755)


def test_a_shim_goes_with_its_signed_grub_and_a_menu_that_finds_the_system(tmp_path: Path) -> None:
    stage = uefi(tmp_path)
    root, esp = stage.volumes.folder("root"), stage.volumes.folder("esp")
    for place, content in (
        (SHIM, b"shim"),
        ("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", b"grub"),
        ("usr/lib/shim/mmx64.efi.signed", b"mok"),
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content)
    (root / "etc/os-release").write_text('NAME="Debian"\nID=debian\n')
    assert (
        install_boot_loader.run(stage.work(f'{DO}esp = "esp"\nsource = "{SHIM}"')) == "BOOTX64.EFI, grubx64.efi on esp"
    )
    assert {each.name: each.read_bytes()[:4] for each in (esp / "EFI/BOOT").iterdir()} == {
        "BOOTX64.EFI": b"shim",
        "grubx64.efi": b"grub",
        "mmx64.efi": b"mok",
        "grub.cfg": b"sear",
    }
    assert (esp / "EFI/debian/grub.cfg").read_text() == (
        "search --no-floppy --fs-uuid --set=root u-root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    )
    assert "UUID=u-esp /boot/efi vfat" in (root / "etc/fstab").read_text()


def test_on_arm64_the_loader_has_that_name(tmp_path: Path) -> None:
    stage = uefi(tmp_path)
    stage.facts = dataclasses.replace(FACTS, architecture="arm64")
    (stage.volumes.folder("root") / "loader.efi").write_bytes(b"x")
    assert install_boot_loader.run(stage.work(DO + 'esp = "esp"\nsource = "loader.efi"')) == "BOOTAA64.EFI on esp"


@pytest.mark.parametrize(
    ("keys", "facts", "said"),
    [
        ("", FACTS, "esp is not set, and this machine starts by UEFI"),
        ('esp = "esp"\nmethod = "copy"', FACTS, "source is not set"),
        ('esp = "esp"\nsource = "none.efi"', FACTS, r"none\.efi: is not on volume 'root'"),
        (f'esp = "esp"\nsource = "{SHIM}"', FACTS, "is a shim, and the system has no usr/lib/grub"),
        ('method = "copy"\nsource = "x"', BIOS, "method copy is for UEFI"),
        ("", dataclasses.replace(BIOS, architecture="arm64"), "arm64 starts by UEFI alone"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, keys: str, facts: object, said: str) -> None:
    stage = uefi(tmp_path)
    stage.facts = facts  # type: ignore[assignment]
    shim = stage.volumes.folder("root") / SHIM
    shim.parent.mkdir(parents=True)
    shim.write_bytes(b"shim")
    with pytest.raises(StepFailed, match=said):
        install_boot_loader.run(stage.work(DO + keys))


def test_a_system_without_a_kernel_is_told(tmp_path: Path) -> None:
    stage = uefi(tmp_path)
    for each in (stage.volumes.folder("root") / "boot").iterdir():
        os.unlink(each)
    with pytest.raises(StepFailed, match="has no kernel"):
        install_boot_loader.run(stage.work(DO + 'esp = "esp"'))
