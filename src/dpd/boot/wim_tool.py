# SPDX-License-Identifier: Apache-2.0
"""Files out of a WIM, by wimlib's own program: what it lists, and what is taken out of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dpd.errors import ContentError

PROGRAM = "wimlib-imagex"
TIMEOUT_S = 600.0  # a WIM on a slow disk; listing and a few megabytes take seconds


def list_paths(wim: Path, index: int) -> list[str]:
    """Every path in an image, such as /Windows/Boot/EFI/bootmgfw.efi, in the case that it is stored in."""
    output = _run("dir", str(wim), str(index))
    return [line for line in output.decode("utf-8", "surrogateescape").splitlines() if line.startswith("/")]


def extract(wim: Path, index: int, paths: Sequence[str], into: Path) -> None:
    """Take these files out, into the folders that they have in the image. Owners, times and attributes stay behind."""
    listed = into / "paths.txt"
    listed.write_bytes("\n".join([*paths, ""]).encode("utf-8", "surrogateescape"))
    options = ("--preserve-dir-structure", "--no-globs", "--no-acls", "--no-attributes", f"--dest-dir={into}")
    _run("extract", str(wim), str(index), f"@{listed}", *options)
    listed.unlink()


def _run(verb: str, *arguments: str) -> bytes:
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
    command = [PROGRAM, verb, *arguments, "--quiet"] if verb == "extract" else [PROGRAM, verb, *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, env=environment, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise ContentError(f"{PROGRAM} is not installed, and a WIM needs it; `apt install wimtools`") from None
    except subprocess.TimeoutExpired:
        raise ContentError(f"{PROGRAM} {verb}: not done after {TIMEOUT_S:.0f} s") from None
    if ran.returncode:
        told = ran.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = next((line for line in told if line.startswith("[ERROR]")), told[-1] if told else "no reason given")
        raise ContentError(f"{PROGRAM} {verb}: {reason.removeprefix('[ERROR] ')}")
    return ran.stdout
