# SPDX-License-Identifier: Apache-2.0
"""Receiving on Windows, played by a Python that lacks what Windows' lacks: modules, functions and sockets that are POSIX's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.service.multicast_site import PACKAGE
from tests.target.point import Point, opened_point

from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.target.bundle import build

# The standard library is imported before, since it looks at the platform; then everything goes that Windows has not.
WINDOWS = """
import argparse, ctypes, dataclasses, functools, hashlib, http.client, json, os, runpy, shutil, socket, ssl, sys, tempfile, time, urllib.parse
for name in ("fcntl", "grp", "pwd", "resource", "termios", "pty", "syslog", "posix_spawn"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "preadv", "posix_fallocate", "fdatasync", "statvfs", "fork", "geteuid", "sysconf", "killpg", "O_DIRECTORY",
             "O_CLOEXEC", "sched_getaffinity", "sendfile", "posix_fadvise", "fchmod", "mkfifo", "getuid", "chown"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("AF_UNIX", "AF_NETLINK", "SO_REUSEPORT", "SO_BINDTODEVICE", "if_indextoname", "CMSG_LEN"):
    if hasattr(socket, name):
        delattr(socket, name)
for name in ("recvmsg", "recvmsg_into", "sendmsg"):
    setattr(socket.socket, name, None)
sys.platform = "win32"
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The target as a machine has it, below such a Python."""
    folder = tmp_path_factory.mktemp("winpe")
    build(folder / "dpd-target.pyz")
    (folder / "windows.py").write_text(WINDOWS)
    return [sys.executable, "-I", "-S", str(folder / "windows.py"), str(folder / "dpd-target.pyz")]


async def run(program: list[str], *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    command = [*program, *map(str, arguments)]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    try:
        return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()]
    except ValueError:
        raise AssertionError(ran.stdout + ran.stderr) from None


async def test_an_image_arrives_is_verified_and_goes_on_where_it_was(program: list[str], tmp_path: Path) -> None:
    output = tmp_path / "install.wim"
    async with opened_point(tmp_path) as point:
        key = ("--public-key", point.library.public_key().hex())
        image = point.image.read_bytes()
        started = bytearray(image[: SLAB_BYTES + 5000])
        started[7] ^= 1  # the disk did not keep what was written
        output.with_name("install.wim.part").write_bytes(started)
        code, events = await run(program, point.url, PACKAGE, "-o", output, *key)
        assert (code, events[-1]["event"]) == (0, "completed"), events
        assert output.read_bytes() == image
        assert not output.with_name("install.wim.part").exists()
        await check_refusals(program, point, tmp_path)


async def check_refusals(program: list[str], point: Point, folder: Path) -> None:
    """Keys, places and content that are not as they should be, each with its exit code; the key beside the program counts."""
    beside = Path(program[-1]).with_name("signing-key")
    beside.write_text("ab" * 32)
    try:
        code, events = await run(program, point.url, PACKAGE, "-o", folder / "forged")
        assert code == 5, events
    finally:
        beside.unlink()
    assert not (folder / "forged").exists()
    for code, arguments in (
        (3, (point.url, "NONE0001", "-o", folder / "x")),
        (1, (point.url, PACKAGE, "-o", folder / "none/x")),
        (4, ("http://127.0.0.1:1", PACKAGE, "-o", folder / "x", "--patience", "0")),
        (1, (point.url, PACKAGE, "-o", folder / "x", "--public-key", "abc")),
    ):
        found, events = await run(program, *arguments)
        assert (found, events[-1]["event"]) == (code, "failed"), events


async def test_what_is_for_linux_says_so(program: list[str]) -> None:
    ran = subprocess.run([*program, "deploy"], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    assert "deploy is for Linux; on Windows an image can be received" in ran.stderr
