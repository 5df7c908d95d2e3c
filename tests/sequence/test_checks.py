# SPDX-License-Identifier: Apache-2.0
"""What publishing refuses."""

from __future__ import annotations

import pytest

from dpd.sequence.checks import check_sequence, wanted_variables
from dpd.sequence.document import read_document, tell
from dpd.sequence.package_checks import KnownPackage
from dpd.sequence.records import TaskSequence, enabled

HEAD = 'name = "x"\n'
DISK = """
[[step]]
name = "Disk"
do = "partition_disk"
partitions = [
  { name = "esp", size = "512MiB", kind = "esp", format = "fat32" },
  { name = "swap", size = "1GiB", kind = "swap", format = "swap" },
  { name = "root", size = "rest", format = "ext4" },
]
"""
RECEIVE = '[[step]]\nname = "Receive"\ndo = "join_multicast"\npackage = "LAB00001"\n'
APPLY = '[[step]]\nname = "Apply"\ndo = "apply_os_image"\npackage = "LAB00001"\nvolume = "root"\n'
LOADER = '[[step]]\nname = "Loader"\ndo = "install_boot_loader"\nvolume = "root"\nesp = "esp"\n'
RESTART = '[[step]]\nname = "Restart"\ndo = "restart"\n'
RESUMED = RESTART + 'resume_volume = "root"\n'
COMMAND = '[[step]]\nname = "Command"\ndo = "run_command_line"\ncommand = "true"\n'
WHOLE = HEAD + DISK + RECEIVE + APPLY + LOADER + RESTART


def sequence_of(text: str) -> TaskSequence:
    document = read_document(text)
    assert document.sequence is not None, document.problems
    return document.sequence


def problems_of(text: str) -> list[str]:
    there = {("LAB00001", 0): KnownPackage(True, ("x64",)), ("LAB00001", 2): KnownPackage(True, ("x64",))}
    return [tell(each) for each in check_sequence(sequence_of(text), lambda *package: there.get(package))]


def test_a_whole_one_is_right() -> None:
    assert problems_of(WHOLE) == []


def test_an_image_on_a_partition_of_data_needs_no_boot_loader() -> None:
    data = DISK.replace('name = "root"', 'name = "root", kind = "data"')
    assert data != DISK
    assert problems_of(HEAD + data + RECEIVE + APPLY + RESTART) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WHOLE.replace('"LAB00001"', '"LAB00009"', 1), "line 14: step 2 (Receive): package: no package LAB00009 here"),
        (WHOLE.replace('"LAB00001"\n', '"LAB00001"\nversion = 3\n', 1), "no package LAB00001 of version 3 here"),
        (
            WHOLE.replace('"root"\n', '"rot"\n', 1),
            'step 3 (Apply): volume: "rot": no step makes a partition of this name',
        ),
        (HEAD + APPLY + DISK + LOADER, 'volume: "root" is made by a later step; move that one before'),
        (WHOLE.replace('"root"\n', '"esp"\n', 1), 'volume: "esp" has the format "fat32"; expected ntfs, ext4 or btrfs'),
        (
            WHOLE.replace('esp = "esp"', 'esp = "root"'),
            'esp: "root" is of kind "linux"; expected the one of kind "esp"',
        ),
        (WHOLE + COMMAND.replace('"true"', '"true"\nvolume = "swap"'), 'volume: "swap" has no file system'),
        (WHOLE.replace(APPLY, APPLY + 'content_volume = "swap"\n'), 'content_volume: "swap" has no file system'),
        (
            WHOLE.replace('"ext4"', '"ntfs"').replace(APPLY, APPLY + 'content_volume = "Root"\n'),
            'content_volume: "Root" is written as a whole, being ntfs; expected another partition',
        ),
        (WHOLE.replace(LOADER, ""), "missing boot loader: expected a step install_boot_loader before step 4 (Restart)"),
        (WHOLE.replace(LOADER + RESTART, ""), "missing boot loader: expected a step install_boot_loader behind it"),
        (WHOLE.replace(LOADER, "") + LOADER, "missing boot loader: expected a step install_boot_loader before"),
        (WHOLE.replace(LOADER, LOADER + "enabled = false\n"), "missing boot loader"),
        (
            WHOLE.replace('name = "Apply"\n', 'name = "Apply"\ncondition = { none = [{ file = "rot:/etc/fstab" }] }\n'),
            'step 3 (Apply): condition: "rot": no step makes a partition of this name (those made: esp, swap, root)',
        ),
        (
            HEAD + COMMAND + 'condition = { folder = "root:/srv" }\n' + WHOLE.removeprefix(HEAD),
            'step 1 (Command): condition: "root" is made by a later step',
        ),
        (
            HEAD + COMMAND.replace("true", "echo %_DPDSeriel% %_dpdserial%"),
            "step 1 (Command): _DPDSeriel: no such variable, and names that begin with _ are read-only; expected one of _DPDArchitecture",
        ),
        (
            HEAD + COMMAND + 'condition = { all = [{ variable = "_SMSTSMachineName", exists = true }] }\n',
            "step 1 (Command): _SMSTSMachineName: no such variable",
        ),
        (WHOLE + COMMAND, "step 5 (Restart): resume_volume: step 6 (Command) is never reached"),
        (WHOLE + COMMAND + "enabled = false\n" + COMMAND, "step 7 (Command) is never reached"),
        (WHOLE.replace(RESTART, RESTART + 'condition = { variable = "A" }\n') + COMMAND, "step 6 (Command) is never"),
        (WHOLE.replace(RESTART, RESTART + 'to = "network"\n') + COMMAND, "to: a run goes on from its disk alone"),
        (WHOLE + 'to = "network"\nresume_volume = "root"\n', "to: a run goes on from its disk alone"),
        (
            WHOLE.replace(APPLY, RESUMED + APPLY),
            "step 3 (Restart): restarts between step 2, which",
        ),
        (HEAD + COMMAND + "time_limit_s = 7201\n", "time_limit_s: 7201 is more than the 7200"),
        (HEAD + COMMAND + "enabled = false\n", "line 1: no step is enabled"),
        (HEAD + '[[step]]\nname = "S"\ndo = "run_script"\n', "step 1 (S): script: expected either"),
        (
            'firmware = ["uefi"]\n' + WHOLE.replace('esp = "esp"\n', ""),
            "esp: missing: expected the EFI system partition",
        ),
        (
            'firmware = ["bios"]\n'
            + WHOLE.replace('esp = "esp"\n', "").replace("partitions", 'table = "gpt"\npartitions'),
            "a BIOS starts a GPT disk from a partition of kind bios-boot",
        ),
        (
            'architectures = ["x64"]\n' + HEAD + COMMAND + 'condition = { architecture = "arm64" }\n',
            "condition: holds on no machine that the sequence is for",
        ),
        (
            'firmware = ["uefi"]\n' + HEAD + COMMAND + 'condition = { hardware = "firmware", equals = "bios" }\n',
            "holds on no machine",
        ),
        (
            HEAD
            + COMMAND
            + 'condition = { all = [{ architecture = "x64" }, { none = [{ architecture = "x64" }] }] }\n',
            "holds on no machine",
        ),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    problems = problems_of(text)
    assert any(told in each for each in problems), problems


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace('"LAB00001"', '"%Image%"'),
        WHOLE.replace('volume = "root"', 'volume = "%Root%"'),
        WHOLE.replace(DISK, "").replace('"root"', '"/dev/sda2"').replace('"esp"', '"/dev/sda1"'),
        WHOLE.replace('"root"\n', '"ROOT"\n', 1),
        WHOLE.replace(LOADER, COMMAND.replace("true", "grub-install /dev/sda")),
        WHOLE.replace(LOADER, '[[step]]\nname = "S"\ndo = "run_script"\npackage = "LAB00001"\nfile = "install.sh"\n'),
        WHOLE.replace(APPLY, RESUMED + RECEIVE + APPLY),
        WHOLE.replace(RECEIVE, RECEIVE + 'volume = "root"\n').replace(APPLY, RESUMED + APPLY),
        WHOLE.replace(RESTART, RESTART + 'resume_volume = "root"\n') + COMMAND,
        WHOLE + 'to = "network"\n',
        WHOLE + COMMAND + "enabled = false\n",
        WHOLE + 'resume_volume = "root"\n',
        WHOLE.replace('"LAB00001"\n', '"LAB00009"\nenabled = false\n', 1),
        'firmware = ["uefi"]\n' + HEAD + COMMAND + 'condition = { hardware = "firmware", not_equals = "bios" }\n',
        HEAD + COMMAND + 'condition = { none = [{ all = [{ architecture = "x64" }, { variable = "A" }] }] }\n',
        HEAD + COMMAND + 'condition = { any = [{ architecture = "x64" }, { file = "/a" }] }\n',
    ],
)
def test_what_may_well_be_right_is_taken(text: str) -> None:
    assert problems_of(text) == []


def test_a_restart_in_memory_is_told_of_each_package_once() -> None:
    text = WHOLE.replace(APPLY, RESUMED + APPLY + APPLY)
    assert sum("restarts between" in each for each in problems_of(text)) == 1


def test_what_is_in_a_group_that_is_off_is_off() -> None:
    text = HEAD + '[[step]]\nname = "g"\nenabled = false\n' + COMMAND.replace("[[step]]", "[[step.step]]") + COMMAND
    assert [each.id for each in enabled(sequence_of(text).members)] == ["2"]


def test_variables_that_somebody_else_must_set_are_told() -> None:
    text = (
        HEAD
        + '[variables]\nSite = "B"\n'
        + COMMAND.replace("true", "echo %site% %Domain% %_DPDMac% %Serial% %%No%% %DOMAIN%")
        + 'output_variable = "Serial"\ncondition = { file = "%Root%/x" }\n'
        + '[[step]]\nname = "S"\ndo = "run_script"\nscript = "date +%Y%m%d"\narguments = ["%Key%"]\n'
    )
    assert wanted_variables(sequence_of(text)) == ("Domain", "Key", "Root")
