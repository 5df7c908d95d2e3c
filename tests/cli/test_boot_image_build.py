# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-image build` against a running daemon, out of a small Debian on the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.boot.conftest import bz_image
from tests.boot.wims import adk_tree, make_wim, with_wimlib
from tests.cli.conftest import Dpd
from tests.environment.conftest import debian, repository
from tests.environment.packaged import Repository, unpack

__all__ = ["debian", "repository"]


@pytest.fixture(autouse=True)
def _leave_no_images(asked: Dpd) -> Iterator[None]:
    """The daemon is that of all files here, and others begin with none."""
    yield
    for image in asked("boot-image", "list", "--json").json["boot_images"]:
        asked("boot-image", "remove", image["image_id"], "--version", image["version"])


@pytest.fixture
def sources(debian: Repository) -> tuple[str, ...]:
    kernel = {"boot/vmlinuz-6.1.0-10-amd64": bz_image(), "lib/modules/6.1.0-10-amd64/modules.builtin": b""}
    kernel |= {
        "lib/modules/6.1.0-10-amd64/modules.order": b"",
        "lib/modules/6.1.0-10-amd64/kernel/fs/fat/fat.ko": b"\x7fELF\x02\x01" + bytes(58),
    }
    debian.add("linux-image-6.1.0-10-amd64", kernel)
    debian.add("linux-image-amd64", {}, needs="linux-image-6.1.0-10-amd64", version="2.0-1")
    return ("--sources", str(debian.sources), "--cache", str(debian.sources.with_name("cache")), "--quickly")


def test_an_environment_is_built_kept_and_added(asked: Dpd, sources: tuple[str, ...], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    built = asked(
        "boot-image", "build", "--id", "ENV1", "--output", kept, "--cmdline", "console=ttyS0", *sources, "--json"
    )
    assert built.code == 0, built.err
    assert (built.json["kernel"], built.json["boot_image"]["kind"]) == ("6.1.0-10-amd64", "linux")
    shown = asked("boot-image", "show", "ENV1")
    assert "dpd.mac={mac} console=ttyS0" in shown.out
    assert "bios, uefi-x64" in shown.out
    assert {"vmlinuz", "initrd.img", "packages.txt", "shimx64.efi", "grubx64.efi"} <= {
        path.name for path in kept.iterdir()
    }
    unpack(kept / "initrd.img", tmp_path / "root")
    key = asked("status", "--json").json["public_key"]
    assert (tmp_path / "root/dpd/signing-key").read_text() == f"{key}\n"
    again = asked("boot-image", "build", "--id", "ENV1", "--packages", kept / "packages.txt", *sources)
    assert again.code == 0, again.err
    assert "ENV1 version 2" in again.out


@with_wimlib
def test_a_winpe_is_built_and_added(asked: Dpd, tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "boot.wim", adk_tree())
    with zipfile.ZipFile(tmp_path / "python.zip", "w") as archive:
        archive.writestr("python.exe", b"MZ")
    built = asked(
        "boot-image",
        "build",
        "--id",
        "PE1",
        "--winpe",
        wim,
        "--python",
        tmp_path / "python.zip",
        "--start",
        "X:\\run.cmd",
    )
    assert built.code == 0, built.err
    assert "PE1 version 1" in built.out
    assert asked("boot-image", "show", "PE1", "--json").json["kind"] == "winpe"


def test_what_is_to_become_of_it_has_to_be_said(asked: Dpd) -> None:
    refused = asked("boot-image", "build")
    assert refused.code == 2
    assert "--id" in refused.err


def test_a_file_that_is_not_there_is_named(asked: Dpd, tmp_path: Path) -> None:
    refused = asked("boot-image", "build", "--output", tmp_path / "out", "--ca-file", tmp_path / "no-such.pem")
    assert refused.code == 1
    assert "no-such.pem" in refused.err


def test_a_kernel_that_unpacks_itself_is_packed_no_further(asked: Dpd, sources: tuple[str, ...]) -> None:
    refused = asked("boot-image", "build", "--id", "ENV1", "--pack-kernel", *sources)
    assert refused.code == 1
    assert "leave --pack-kernel out" in refused.err
