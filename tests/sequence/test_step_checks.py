# SPDX-License-Identifier: Apache-2.0
"""What a step must say beside the rules of its keys."""

from __future__ import annotations

import pytest

from dpd.sequence.catalogue import CATALOGUE
from dpd.sequence.document import read_document
from dpd.sequence.records import StepKind
from dpd.sequence.step_checks import check_step


def problems_of(kind: str, keys: str) -> list[str]:
    document = read_document(f'name = "x"\n[[step]]\nname = "y"\ndo = "{kind}"\n{keys}\n')
    assert document.sequence is not None, document.problems
    return [f"{key}: {message}" for key, message in check_step(document.sequence.steps()[0])]


@pytest.mark.parametrize("kind", StepKind)
def test_an_example_is_right(kind: StepKind) -> None:
    assert problems_of(kind, CATALOGUE[kind].example) == []


ESP = '{ name = "esp", size = "512MiB", kind = "esp", format = "fat32" }'


@pytest.mark.parametrize(
    ("kind", "keys", "told"),
    [
        ("partition_disk", f"partitions = [{ESP}, {ESP}]", '2 are called "esp"'),
        ("set_variable", f'variable = "V"\nvalue = "{"x" * 4001}"', "value: 4001 characters, expected at most 4000"),
        (
            "write_configuration",
            'format = "file"\nvolume = "root"\ntext = "x"\npath = "../etc/passwd"',
            'path: "../etc/passwd" leads out of its place; expected a path without ..',
        ),
        ("run_script", 'package = "P"\nfile = "a/../../b"', 'file: "a/../../b" leads out'),
        (
            "apply_os_image",
            'package = "P"\nvolume = "v"\nstream = "always"\nmulticast = true',
            'multicast: stream = "always" makes no local copy',
        ),
        ("partition_disk", 'partitions = [{ name = "e", size = "1GiB", kind = "esp" }]', '"e": format "none" for a'),
        (
            "partition_disk",
            'partitions = [{ name = "e", size = "1GiB", kind = "msr", format = "ntfs" }]',
            'expected "none"',
        ),
        ("partition_disk", 'partitions = [{ name = "s", size = "1GiB", format = "swap" }]', 'expected kind = "swap"'),
        ("partition_disk", 'partitions = [{ name = "a/b", size = "1GiB" }]', "without % and /"),
        (
            "partition_disk",
            'partitions = [{ name = "a", size = "rest" }, { name = "b", size = "rest" }]',
            '2 have the size "rest"',
        ),
        (
            "partition_disk",
            'partitions = [{ name = "a", size = "60%" }, { name = "b", size = "50%" }, { name = "c", size = "%S%" }]',
            "110 % of the disk together",
        ),
        (
            "partition_disk",
            'table = "mbr"\npartitions = [' + ", ".join(f'{{ name = "{n}", size = "1GiB" }}' for n in "abcde") + "]",
            "5, expected at most 4 in an MBR",
        ),
        (
            "partition_disk",
            'table = "mbr"\npartitions = [{ name = "b", size = "1MiB", kind = "bios-boot" }]',
            'kind "bios-boot" is of GPT alone',
        ),
        ("run_script", "", "script: expected either a script, or a package"),
        ("run_script", 'script = "a"\npackage = "LAB00001"\nfile = "x.sh"', "script: expected either"),
        ("run_script", 'package = "LAB00001"', "file: expected package and file"),
        ("write_configuration", 'format = "file"\nvolume = "r"\ntext = "x"', "path: missing"),
        ("write_configuration", 'format = "unattend"\nvolume = "r"', "text: missing"),
        ("write_configuration", 'format = "cloud-init"\nvolume = "r"\ntext = "x"\nuser_data = "y"', "text: of no use"),
        ("write_configuration", 'format = "cloud-init"\nvolume = "r"', "user_data: missing"),
        (
            "write_configuration",
            'format = "preseed"\nvolume = "r"\ntext = "x"\nmeta_data = "y"',
            "meta_data: of no use",
        ),
        (
            "write_configuration",
            'format = "preseed"\nvolume = "r"\ntext = "x"\nmode = "rw"',
            'mode: "rw": expected octal',
        ),
        ("install_boot_loader", 'volume = "r"\nesp = "e"\nmethod = "copy"', "source: missing"),
        ("install_boot_loader", 'volume = "r"\nesp = "e"\nmethod = "grub-install"\nsource = "x"', "source: of no use"),
        ("install_boot_loader", 'volume = "r"\nsource = "x"', "esp: missing"),
        ("check_readiness", "", "checks nothing"),
    ],
)
def test_what_is_wrong_is_told(kind: str, keys: str, told: str) -> None:
    problems = problems_of(kind, keys)
    assert len(problems) == 1, problems
    assert told in problems[0]
