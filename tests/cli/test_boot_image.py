# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-image …` against a running daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.boot.conftest import bz_image, efi_program
from tests.boot.wims import adk_tree, make_wim, with_wimlib
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz-6.1"
    path.write_bytes(bz_image())
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "tool.efi"
    path.write_bytes(efi_program())
    return path


def test_linux_is_added_shown_and_removed(asked: Dpd, kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"initrd")
    line = "ip=dhcp url=http://{server}:{http_port}/"
    added = asked(
        "boot-image", "add", "--id", "LNX1", "--kernel", kernel, "--initrd", tmp_path / "initrd", "--cmdline", line
    )
    assert added.code == 0, added.err
    assert "LNX1 version 1" in added.out
    assert "bios, uefi-x64" in added.out
    assert line in added.out
    shown = asked("boot-image", "show", "LNX1")
    assert "initrd.img" in shown.out
    assert asked("boot-image", "remove", "LNX1").out == "LNX1 version 1: removed\n"


@with_wimlib
def test_a_wim_is_added_refreshed_and_listed(asked: Dpd, tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "boot.wim", adk_tree("arm64"))
    added = asked("boot-image", "add", wim, "--id", "PE1", "--default", "--json")
    assert (added.code, added.json["architecture"], added.json["is_default"]) == (0, "arm64", True)
    refreshed = asked("boot-image", "refresh", "PE1")
    assert "PE1 version 2" in refreshed.out
    assert "2011, 2023" in refreshed.out
    listed = asked("boot-image", "list").out.splitlines()
    assert listed[0].split() == ["IMAGE", "VERSION", "KIND", "BOOTS", "ON", "SIZE", "ADDED", "DESCRIPTION"]
    assert [line.split()[:4] for line in listed[1:]] == [["PE1", str(n), "winpe", "uefi-arm64"] for n in (1, 2)]
    assert asked("boot-image", "remove", "PE1", "--version", "1").code == 0
    assert [each["version"] for each in asked("boot-image", "list", "--json").json["boot_images"]] == [2]
    assert asked("boot-image", "remove", "PE1", "--json").json["version"] == 2


def test_without_images_the_first_step_is_told(asked: Dpd) -> None:
    assert asked("boot-image", "list").out == (
        "There are no boot images; `dpd boot-image add boot.wim --id ID` adds one.\n"
    )


def test_the_daemon_may_read_the_file_itself(asked: Dpd, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program.parent)
    added = asked("boot-image", "add", "--efi", program.name, "--id", "EFI1", "--in-place", "--via-ipxe")
    assert added.code == 0, added.err
    assert "By way of iPXE" in added.out
    assert asked("boot-image", "remove", "EFI1").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{dir}/none.wim",), "{dir}/none.wim: No such file or directory; expected a file of a boot image"),
        (("--efi", "{dir}/text.efi"), "text.efi: no EFI program for x86, x64 or arm64"),
        (("{dir}/text.efi",), "text.efi: no WIM: starts with 74 65 78 74 0a 00 00 00, expected 4d 53 57 49 4d 00 00 00"),
        (("--kernel", "{dir}/text.efi"), "text.efi: does not tell its architecture; say --arch x86, x64 or arm64"),
        (("--kernel", "{dir}/text.efi", "--cmdline", "a || b"),
         "command line: the word || ends a command in an iPXE script; put it differently"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_told_in_one_line(
    asked: Dpd, daemon: DaemonProcess, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "text.efi").write_bytes(b"text\n" + bytes(300))
    given = [each.format(dir=tmp_path) for each in arguments]
    ended = asked("boot-image", "add", *given, "--id", "BAD1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"dpd: {message.format(dir=tmp_path)}\n"
    assert list((daemon.state / "uploads").glob("*")) == []


@pytest.mark.parametrize("arguments", [(), ("a.wim", "--efi", "b.efi"), ("a.wim", "--initrd", "i")])
def test_wrong_usage_names_what_goes_together(asked: Dpd, arguments: tuple[str, ...]) -> None:
    ended = asked("boot-image", "add", *arguments, "--id", "BAD1")
    assert ended.code == 2
    assert "--kernel" in ended.err
