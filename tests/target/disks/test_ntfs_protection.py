# SPDX-License-Identifier: Apache-2.0
"""Files that are written to NTFS belong to Administrators: as ntfs-3g's own auditing program reads the descriptors back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.target.stage import Stage, need, staged_disk

from dpd.target.disks.ntfs_protection import ATTRIBUTE, descriptor, make_folders, protect, protect_new
from dpd.target.steps import write_configuration

WINDOWS = '{ name = "windows", size = "rest", kind = "windows", format = "ntfs" }'
EVERYONE, USERS = "S-1-1-0", "S-1-5-32-545"
SECRET = "Sesame-4711"


def audit(device: str, path: str) -> str:
    """What ntfssecaudit tells of one file on an unmounted volume."""
    ran = subprocess.run(["ntfssecaudit", "-vv", device, path], capture_output=True, text=True, check=False)
    return ran.stdout


def test_what_is_written_to_windows_is_administrators_and_only_for_others_to_read_where_its_mode_says_so(
    tmp_path: Path,
) -> None:
    need("mkntfs", "ntfs-3g", "ntfssecaudit")
    with staged_disk(tmp_path, [WINDOWS], size_bytes=32 << 20, secrets={"Word": SECRET}) as stage:
        root = stage.volumes.folder("windows")
        (root / "everybodys").write_bytes(b"")
        write(stage, "Windows/Panther/unattend.xml", "0600", "<a>%Word%</a>")
        write(stage, "ProgramData/site.ini", "0644", "[site]")
        volume = stage.volumes.find("windows")
        make_folders(volume, root / "drivers/LAB1")
        (root / "drivers/LAB1/net.inf").write_bytes(b"[Version]")
        protect(volume, root / "drivers/LAB1", is_readable=True)
        (root / "data/deep").mkdir(parents=True)
        (root / "data/deep/new").write_bytes(b"")
        (root / "data/old").write_bytes(b"")
        os.setxattr(root / "data/old", ATTRIBUTE, descriptor(is_folder=False, is_readable=False))
        protect_new(volume, root / "data")
        device = stage.volumes.device("windows")
        assert EVERYONE in audit(device, "/everybodys")
        for path, is_read in (
            ("/Windows/Panther/unattend.xml", False),
            ("/Windows/Panther", True),
            ("/ProgramData/site.ini", True),
            ("/drivers/LAB1/net.inf", True),
            ("/drivers", True),
            ("/data/deep/new", True),
            ("/data/old", False),
        ):
            told = audit(device, path)
            assert "S-1-5-18" in told, f"{path}: {told}"
            assert "S-1-5-32-544" in told
            assert EVERYONE not in told
            assert (USERS in told) is is_read, f"{path}: {told}"


def write(stage: Stage, path: str, mode: str, text: str) -> None:
    keys = f'format = "file"\nvolume = "windows"\npath = "{path}"\nmode = "{mode}"\ntext = "{text}"\n'
    write_configuration.run(stage.work('do = "write_configuration"\n' + keys))


def test_other_file_systems_are_left_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    root = stage.add_folder("root")
    (root / "file").write_bytes(b"")
    protect(stage.volumes.find("root"), root, is_readable=False)
    make_folders(stage.volumes.find("root"), root / "a/b")
    assert (root / "a/b").is_dir()
