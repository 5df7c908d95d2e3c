# SPDX-License-Identifier: Apache-2.0
"""Makes the disk start by itself: GRUB for BIOS or UEFI, an EFI loader copied to where every firmware looks, or Windows' own.

The loader goes to the removable-media path (EFI/BOOT), which needs no entry in the machine's NVRAM. Where it is Debian's shim, the
signed GRUB beside it goes along: Secure Boot holds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dpd.target.starting.boot_menu import file_systems, menu, stub
from dpd.target.starting.windows_boot import is_windows
from dpd.target.starting.windows_start import install_bios, install_uefi
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import inside
from dpd.target.work.work import Work

EFI_NAMES = {"x64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}
GRUB_TARGETS = {"x64": "x86_64-efi", "arm64": "arm64-efi"}
GRUB_NAMES = {"x64": "grubx64.efi", "arm64": "grubaa64.efi"}
MOK_NAMES = {"x64": "mmx64.efi", "arm64": "mmaa64.efi"}
ESP_PLACE = "boot/efi"


def run(work: Work) -> str:
    volume = work.volumes.find(work.text("volume"))
    root = work.volumes.folder(volume.name)
    esp = work.volumes.find(work.text("esp")) if work.text("esp") else None
    is_uefi = work.facts.firmware == "uefi"
    if is_uefi and esp is None:
        raise StepFailed(
            'esp is not set, and this machine starts by UEFI; name the EFI system partition, such as esp = "esp"'
        )
    method = work.step.text("method")
    source = work.text("source")
    if method == "auto" and not source and is_windows(root):
        return (
            install_uefi(work, volume, root, esp) if esp is not None and is_uefi else install_bios(work, volume, root)
        )
    if method == "auto":
        method = "copy" if source else "grub-install"
    if volume.format in ("ext4", "btrfs"):
        _write_menu(work, volume, root, esp)
    if method == "copy":
        if esp is None:
            raise StepFailed("method copy is for UEFI, this machine starts by BIOS; use grub-install there")
        return _copy(work, root, volume, esp, source)
    return _install_grub(work, volume, root, esp if is_uefi else None)


def _write_menu(work: Work, volume: Volume, root: Path, esp: Volume | None) -> None:
    place = root / "boot/grub/grub.cfg"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(menu(root, volume, work.text("options")), "utf-8")
    table = inside(root, "etc/fstab")
    table.parent.mkdir(exist_ok=True)
    table.write_text(file_systems(work.volumes.all, volume, esp.name if esp else ""), "utf-8")


def _copy(work: Work, root: Path, volume: Volume, esp: Volume, source: str) -> str:
    if not source:
        raise StepFailed("source is not set; method copy needs the EFI loader's path on the volume")
    loader = inside(root, source)
    if not loader.is_file():
        raise StepFailed(f"{source}: is not on volume {volume.name!r}; expected an EFI loader of the new system")
    architecture = work.facts.architecture
    folder = work.volumes.folder(esp.name) / "EFI/BOOT"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(loader, folder / EFI_NAMES[architecture])
    copied = [EFI_NAMES[architecture]]
    if loader.name.startswith("shim"):
        signed = root / f"usr/lib/grub/{GRUB_TARGETS[architecture]}-signed/{GRUB_NAMES[architecture]}.signed"
        if not signed.is_file():
            raise StepFailed(
                f"{source}: is a shim, and the system has no {signed.relative_to(root)} for it to start; install grub-efi-*-signed in the image"
            )
        shutil.copyfile(signed, folder / GRUB_NAMES[architecture])
        copied.append(GRUB_NAMES[architecture])
        confirm = loader.with_name(MOK_NAMES[architecture] + ".signed")
        if confirm.is_file():
            shutil.copyfile(confirm, folder / MOK_NAMES[architecture])
    if volume.format in ("ext4", "btrfs"):
        _point_to_menu(folder.parent, root, volume)
    return f"{', '.join(copied)} on {esp.name}"


def _point_to_menu(efi: Path, root: Path, volume: Volume) -> None:
    """A signed GRUB looks below its distribution's name, whatever folder it lies in. What grub-install has written for this file
    system stays."""
    for name in ("BOOT", _distribution(root)):
        place = efi / name / "grub.cfg"
        if not place.exists() or volume.uuid not in place.read_text("utf-8", "replace"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(stub(volume), "utf-8")


def _distribution(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text("utf-8", "replace").splitlines()
    except OSError:
        return "debian"
    found = [line.partition("=")[2].strip("\"' ") for line in lines if line.startswith("ID=")]
    return found[0] if found and found[0].isalnum() else "debian"


def _install_grub(work: Work, volume: Volume, root: Path, esp: Volume | None) -> str:
    target = GRUB_TARGETS[work.facts.architecture] if esp else "i386-pc"
    if not esp and work.facts.architecture != "x64":
        raise StepFailed(f"{work.facts.architecture} starts by UEFI alone; set esp")
    options = ["--target", target]
    device_map = root / "boot/grub/device.map"  # GRUB guesses which disk is the BIOS's first; the run knows
    device_map.parent.mkdir(parents=True, exist_ok=True)
    device_map.write_text(f"(hd0) {volume.disk}\n", "ascii")
    try:
        said = _run_grub_install(work, volume, root, esp, target, options)
        if esp and volume.format in ("ext4", "btrfs"):
            _point_to_menu(work.volumes.folder(esp.name) / "EFI", root, volume)
        return said
    finally:
        device_map.unlink(missing_ok=True)


def _run_grub_install(
    work: Work, volume: Volume, root: Path, esp: Volume | None, target: str, options: list[str]
) -> str:
    if esp:
        options += ["--removable", "--no-nvram"]
    if _has_grub(root, target):
        system = work.volumes.system(volume.name)
        if esp:
            work.volumes.bind(volume.name, work.volumes.folder(esp.name), ESP_PLACE)
            options += ["--efi-directory", f"/{ESP_PLACE}"]
        else:
            options.append(volume.disk)
        command = (
            ["grub-install", *options] if system == Path("/") else ["chroot", str(system), "grub-install", *options]
        )
        work.programs.run(*command)
        return f"GRUB ({target}) of the new system"
    if not _has_grub(Path("/"), target):
        raise StepFailed(
            f"neither the new system nor the deployment environment has grub-install with /usr/lib/grub/{target}; install "
            f"{'grub-efi' if esp else 'grub-pc'} in the image, or use method copy with a source"
        )
    options += ["--boot-directory", str(root / "boot")]
    options += ["--efi-directory", str(work.volumes.folder(esp.name))] if esp else [volume.disk]
    work.programs.run("grub-install", *options)
    return f"GRUB ({target}) of the deployment environment"


def _has_grub(root: Path, target: str) -> bool:
    programs = [root / folder / "grub-install" for folder in ("usr/sbin", "sbin", "usr/bin")]
    return (
        any(os.path.lexists(program) for program in programs)
        and (root / "usr/lib/grub" / target / "modinfo.sh").is_file()
    )
