# SPDX-License-Identifier: Apache-2.0
"""wimlib's own program: what it lists, takes out of a WIM, exports and verifies. Everything that needs a WIM's resources
decompressed is done by it, in a process of its own."""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpd.errors import ContentCorrupt, ContentError, LibraryFull

PROGRAM = "wimlib-imagex"
TIMEOUT_S = 600.0  # a WIM on a slow disk; listing and a few megabytes take seconds

Progress = Callable[[int, int], None]

_TICK_S = 0.5  # how often a caller is asked whether to go on
_PROGRESS = re.compile(rb"file data: (\d+) (bytes|[KMGT]iB) of (\d+) (bytes|[KMGT]iB) ")
_UNITS = {b"bytes": 1, b"KiB": 1 << 10, b"MiB": 1 << 20, b"GiB": 1 << 30, b"TiB": 1 << 40}
_DESCRIPTOR = re.compile(r'"/proc/self/fd/\d+"')
_KEPT_BYTES = 8192  # of what it says, for the reason of a failure
# Its exit statuses that speak of the WIM and not of the disk or the call: decompression, integrity, header, chunk size,
# blob table, metadata, hash of a resource, metadata or resource not found, unexpected end.
_DAMAGED = frozenset({2, 13, 15, 16, 17, 19, 20, 21, 28, 36, 43, 55, 56, 65, 67, 73})


def is_installed() -> bool:
    """Whether the program can be run."""
    return shutil.which(PROGRAM) is not None


def list_paths(wim: Path, index: int) -> list[str]:
    """Every path in an image, such as /Windows/Boot/EFI/bootmgfw.efi, in the case that it is stored in."""
    output = _run("dir", str(wim), str(index))
    return [line for line in output.decode("utf-8", "surrogateescape").splitlines() if line.startswith("/")]


def extract(wim: Path, index: int, paths: Sequence[str], into: Path) -> None:
    """Take these files out, into the folders that they have in the image. Owners, times and attributes stay behind."""
    listed = into / "paths.txt"
    listed.write_bytes("\n".join([*paths, ""]).encode("utf-8", "surrogateescape"))
    options = ("--preserve-dir-structure", "--no-globs", "--no-acls", "--no-attributes", f"--dest-dir={into}")
    _run("extract", str(wim), str(index), f"@{listed}", *options, "--quiet")
    listed.unlink()


def update(wim: Path, index: int, commands: Sequence[str]) -> None:
    """Change an image in place: lines as `wimlib-imagex update` reads them, such as add 'FILE' 'PATH IN THE IMAGE'. All are done,
    or none."""
    _run("update", str(wim), str(index), "--no-acls", given="".join(f"{line}\n" for line in commands).encode())


def export(
    parts: Sequence[int], index: int, into: Path, progress: Progress, *, bootable: bool, with_integrity: bool
) -> None:
    """Write one image of a WIM, open as descriptors of its parts in order, to a new file. Compression stays what it is.

    Raises LibraryFull where the disk fills up, ContentCorrupt, ContentError; `into` may be left behind half-written.
    """
    first, *others = _names(parts)
    options = [f"--ref={name}" for name in others]
    options += ["--boot"] if bootable else []
    options += ["--include-integrity"] if with_integrity else ["--nocheck"]
    _follow(["export", first, str(index), str(into), *options], parts, progress)


def verify(parts: Sequence[int], progress: Progress) -> None:
    """Decompress everything in a WIM, open as descriptors of its parts in order, and compare it with its SHA-1. Raises
    ContentCorrupt with wimlib's reason."""
    first, *others = _names(parts)
    _follow(["verify", first, *(f"--ref={name}" for name in others)], parts, progress)


def _names(parts: Sequence[int]) -> list[str]:
    """Our descriptors as the child can open them."""
    return [f"/proc/self/fd/{part}" for part in parts]


def _run(*command: str, given: bytes = b"") -> bytes:
    try:
        ran = subprocess.run(
            [PROGRAM, *command], input=given, capture_output=True, env=_environment(), timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise _not_installed() from None
    except subprocess.TimeoutExpired:
        raise ContentError(f"{PROGRAM} {command[0]}: not done after {TIMEOUT_S:.0f} s") from None
    if ran.returncode:
        raise ContentError(f"{PROGRAM} {command[0]}: {_reason(ran.stderr)}")
    return ran.stdout


def _follow(command: Sequence[str], descriptors: Sequence[int], progress: Progress) -> None:
    """Run to the end with progress in bytes; what `progress` raises ends the program."""
    said = b""
    with _started(command, descriptors) as process:
        done = total = 0
        for piece in _pieces(process):
            said = (said + piece)[-_KEPT_BYTES:]
            for found in _PROGRESS.finditer(said):
                done, total = int(found[1]) * _UNITS[found[2]], int(found[3]) * _UNITS[found[4]]
            progress(done, total)
        status = process.wait()
    if status:
        raise _failure(command[0], status, said)


@contextmanager
def _started(command: Sequence[str], descriptors: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """The running program, which has ended when the block has."""
    try:
        process = subprocess.Popen(
            [PROGRAM, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=descriptors,
        )
    except FileNotFoundError:
        raise _not_installed() from None
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What it says, in pieces; empty ones while it is silent."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    while True:
        if not select.select([output], [], [], _TICK_S)[0]:
            yield b""
        elif piece := os.read(output, 4096):
            yield piece
        else:
            return


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}


def _not_installed() -> ContentError:
    return ContentError(f"{PROGRAM} is not installed, and this needs it; `apt install wimtools`")


def _failure(verb: str, status: int, said: bytes) -> ContentError:
    reason = _reason(said) if status > 0 else f"ended by signal {-status}"
    if os.strerror(errno.ENOSPC) in reason or os.strerror(errno.EDQUOT) in reason:
        return LibraryFull(f"{PROGRAM} {verb}: the disk is full; make room, for example with `dpd content remove`")
    kind = ContentCorrupt if status in _DAMAGED else ContentError
    return kind(f"{PROGRAM} {verb}: {reason}")


def _reason(said: bytes) -> str:
    """What it gave as an error, out of everything that it said."""
    text = _DESCRIPTOR.sub("the WIM", said.decode("utf-8", "replace"))
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    told = next((line for line in lines if line.startswith("[ERROR]")), lines[-1] if lines else "no reason given")
    return told.removeprefix("[ERROR] ")
